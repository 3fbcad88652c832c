//! Two meshes by turns: the version before the one in force becomes the next one, by what has changed since.
//!
//! A mesh may have a hundred thousand objects, and an edit be about one. Copying all its maps for that would be most of what the edit
//! costs. It must never change a version that somebody holds: where anybody does, the mesh is copied.

use std::{mem, sync::Arc};

use super::changes::{Changes, copy};
use crate::model::Mesh;

/// The version before.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    before: Option<Arc<Mesh>>,
    /// What of it is another in the version in force.
    behind: Changes,
}

impl Spare {
    /// The mesh in force once more, to be changed.
    pub(crate) fn take(&mut self, current: &Mesh) -> Mesh {
        let behind = mem::take(&mut self.behind);
        match self.before.take().and_then(Arc::into_inner) {
            Some(mut mesh) => {
                bring(&mut mesh, current, &behind);
                mesh
            }
            None => current.clone(),
        }
    }

    /// Puts the next version in force, from which the one before differs by this.
    pub(crate) fn put(&mut self, current: &mut Arc<Mesh>, next: Mesh, changes: &Changes) {
        self.before = Some(mem::replace(current, Arc::new(next)));
        self.behind.clone_from(changes);
    }

    /// Takes a mesh back that was taken and came to be as it was.
    pub(crate) fn give_back(&mut self, mesh: Mesh) {
        *self = Self { before: Some(Arc::new(mesh)), behind: Changes::default() };
    }

    /// Nothing is known of what has changed since.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Brings a mesh up to another, from which it differs by this, and in what no change names.
fn bring(mesh: &mut Mesh, to: &Mesh, changes: &Changes) {
    let Changes {
        tenants,
        namespaces,
        workloads,
        services,
        routes,
        authorization,
        peer_authentication,
        network_policies,
        service_entries,
    } = changes;
    copy(&to.tenants, &mut mesh.tenants, tenants);
    copy(&to.namespaces, &mut mesh.namespaces, namespaces);
    copy(&to.workloads, &mut mesh.workloads, workloads);
    copy(&to.services, &mut mesh.services, services);
    copy(&to.routes, &mut mesh.routes, routes);
    copy(&to.authorization, &mut mesh.authorization, authorization);
    copy(&to.peer_authentication, &mut mesh.peer_authentication, peer_authentication);
    copy(&to.network_policies, &mut mesh.network_policies, network_policies);
    copy(&to.service_entries, &mut mesh.service_entries, service_entries);
    // Few, and named by no change.
    if mesh.membership != to.membership {
        mesh.membership.clone_from(&to.membership);
    }
    if mesh.guarded != to.guarded {
        mesh.guarded.clone_from(&to.guarded);
    }
    mesh.trust_domain.clone_from(&to.trust_domain);
    mesh.version = to.version;
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        lower::undescribed,
        model::{AuthorizationPolicy, Scope},
        name::{Namespace, PolicyName, TenantId},
    };

    /// An edit: of which object, whether it comes or goes, and who goes on holding the version that it leads to.
    #[derive(Debug, Clone)]
    struct Edit {
        number: u8,
        of_policy: bool,
        is_there: bool,
        is_held: bool,
    }

    fn edit() -> impl Strategy<Value = Edit> {
        (0..5_u8, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(number, of_policy, is_there, is_held)| Edit { number, of_policy, is_there, is_held })
    }

    /// Carries it out, and names what changed.
    fn carry_out(edit: &Edit, mesh: &mut Mesh) -> Changes {
        let namespace: Namespace = format!("n{}", edit.number).as_str().try_into().unwrap();
        let mut changes = Changes::default();
        if edit.of_policy {
            let name = PolicyName::new(namespace.clone(), "p".try_into().unwrap());
            let policy = AuthorizationPolicy::unreadable(name.clone(), Scope::Namespace(namespace));
            if edit.is_there {
                mesh.authorization.insert(name.clone(), Arc::new(policy));
            } else {
                mesh.authorization.remove(&name);
            }
            changes.authorization.push(name);
        } else {
            if edit.is_there {
                mesh.namespaces.insert(namespace.clone(), Arc::new(undescribed(namespace.clone())));
                mesh.membership.insert(namespace.clone(), TenantId::Namespace(namespace.clone()));
            } else {
                mesh.namespaces.remove(&namespace);
                mesh.membership.remove(&namespace);
            }
            changes.namespaces.push(namespace);
        }
        mesh.guarded = [std::net::IpAddr::from([10, 0, 0, edit.number])].into();
        mesh.version += 1;
        changes
    }

    proptest! {
        #[test]
        fn by_turns_a_mesh_is_what_it_is_by_copies_and_nobodys_version_changes(edits in vec(edit(), 0..20)) {
            let (mut current, mut spare) = (Arc::new(Mesh::default()), Spare::default());
            let mut by_copies = Mesh::default();
            let mut held: Vec<(Arc<Mesh>, Mesh)> = Vec::new();
            for edit in &edits {
                let same = spare.take(&current);
                spare.give_back(same);
                let mut next = spare.take(&current);
                prop_assert_eq!(&next, &by_copies);
                let changes = carry_out(edit, &mut next);
                carry_out(edit, &mut by_copies);
                spare.put(&mut current, next, &changes);
                if edit.is_held {
                    held.push((Arc::clone(&current), by_copies.clone()));
                }
            }
            for (version, then) in held {
                prop_assert_eq!(&*version, &then);
            }
        }
    }

    #[test]
    fn the_version_before_is_the_next_one_where_nobody_holds_it() {
        let (mut current, mut spare) = (Arc::new(Mesh::default()), Spare::default());
        let edit = |number| Edit { number, of_policy: true, is_there: true, is_held: false };
        for number in 0..2 {
            let mut next = spare.take(&current);
            let changes = carry_out(&edit(number), &mut next);
            spare.put(&mut current, next, &changes);
        }
        let before = spare.before.as_ref().map(|mesh| mesh.authorization.values().map(Arc::as_ptr).next());
        let next = spare.take(&current);
        assert_eq!(before.flatten(), next.authorization.values().map(Arc::as_ptr).next());
        assert_eq!(next, *current);
    }
}
