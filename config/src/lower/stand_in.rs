//! What is in force in the place of a security object that cannot be read: the strictest that it could have said, for
//! its target where that can be read, else for all that it may speak for.
//!
//! Must never allow anything, nor become a version to fall back on.

use std::{path::Path, sync::Arc};

use super::{
    AuthorizationDraft, Context, Draft, Lowered, TenantDraft, authorization_policy, metadata, network_policy,
    peer_authentication, scope::Home,
};
use crate::{
    finding::{ObjectRef, Position},
    model::{AuthorizationPolicy, Egress, NetworkPolicy, PeerAuthentication, Scope},
    name::{Namespace, PolicyName, RootNamespace},
    object::{Kind, Object},
    options::Options,
    suspect::{self, Suspect},
};

/// What stands in for a rejected object; or, where it does not say in the right words what and of which namespace it
/// is, what it may be.
pub(super) fn of_rejected(
    file: &Arc<Path>,
    object: &Object,
    options: &Options,
) -> (Option<Lowered>, Vec<Suspect>) {
    let found = suspect::in_tree(&object.root);
    let is_itself = |found: &Object| found.name == object.name;
    if Kind::SECURITY.contains(&object.kind)
        && found.suspects.is_empty()
        && found.objects.iter().all(is_itself)
    {
        let exact = suspect::whereabouts(object.root.entries()).1;
        if let Some(draft) = exact.then(|| of_object(file, object, options)).flatten() {
            return (Some(lowered(object.name.clone(), file, object.root.at, draft)), Vec::new());
        }
    }
    (None, found.into_suspects())
}

/// What stands in for an object that may be written in wrong words, but says what it is.
pub(crate) fn of_named(file: &Arc<Path>, object: &Object, options: &Options) -> Option<Lowered> {
    let draft = of_object(file, object, options)?;
    Some(lowered(object.name.clone(), file, object.root.at, draft))
}

/// What stands in for what may be a security object of a namespace, and of which nothing else can be read.
pub(crate) fn unreadable_in(
    kind: Kind,
    name: PolicyName,
    (file, at): (&Arc<Path>, Position),
    options: &Options,
) -> Option<Lowered> {
    // No object that is in force has such a name.
    let what = format!("(unreadable in {})", file.file_name().unwrap_or_default().to_string_lossy());
    let object = ObjectRef {
        kind: Arc::from(kind.as_str()),
        namespace: Some(Arc::from(name.namespace.as_str())),
        name: Arc::from(what),
    };
    let scope = whole(&name.namespace, &options.root_namespace);
    let draft = match kind {
        Kind::AuthorizationPolicy => authorization(AuthorizationPolicy::unreadable(name, scope)),
        Kind::PeerAuthentication => Draft::PeerAuthentication(PeerAuthentication::unreadable(name, scope)),
        Kind::NetworkPolicy => Draft::Network(NetworkPolicy::unreadable(name)),
        Kind::Tenant => Draft::Tenant(TenantDraft::kept(name.name, vec![name.namespace])),
        _ => return None,
    };
    Some(lowered(object, file, at, draft))
}

/// The strictest that a version of a security object could have said of its target; `None` for what protects nothing.
pub(crate) fn strictest(version: &Lowered) -> Option<Lowered> {
    let draft = match &version.draft {
        Draft::Authorization(AuthorizationDraft { policy, targets_place }) => {
            let AuthorizationPolicy { name, scope, .. } = policy.clone()?;
            let policy = Some(AuthorizationPolicy::unreadable(name, scope));
            Draft::Authorization(AuthorizationDraft { policy, targets_place: targets_place.clone() })
        }
        Draft::PeerAuthentication(PeerAuthentication { name, scope, .. }) => {
            Draft::PeerAuthentication(PeerAuthentication::unreadable(name.clone(), scope.clone()))
        }
        Draft::Network(policy) => Draft::Network(NetworkPolicy::unreadable(policy.name.clone())),
        Draft::Tenant(draft) => {
            let mut draft = draft.clone();
            draft.tenant.egress = Egress::Mesh;
            Draft::Tenant(draft)
        }
        _ => return None,
    };
    Some(Lowered { draft, ..version.clone() })
}

/// Whether two versions of a security object mean the same, wherever they are written.
pub(crate) fn mean_the_same(one: &Lowered, other: &Lowered) -> bool {
    match (&one.draft, &other.draft) {
        (Draft::Authorization(one), Draft::Authorization(other)) => one.policy == other.policy,
        (one, other) => one == other,
    }
}

/// One stand-in for several objects of one name: for the target that all have, or for all that the name may speak for.
pub(crate) fn of_all(stand_ins: &[Arc<Lowered>], options: &Options) -> Option<Arc<Lowered>> {
    let first = stand_ins.first()?;
    if stand_ins.iter().all(|other| scope(other) == scope(first)) {
        return Some(Arc::clone(first));
    }
    let mut wide = (**first).clone();
    match &mut wide.draft {
        Draft::Authorization(AuthorizationDraft { policy: Some(policy), .. }) => {
            policy.scope = whole(&policy.name.namespace, &options.root_namespace);
        }
        Draft::PeerAuthentication(peers) => {
            peers.scope = whole(&peers.name.namespace, &options.root_namespace);
        }
        _ => {}
    }
    Some(Arc::new(wide))
}

fn scope(lowered: &Lowered) -> Option<&Scope> {
    match &lowered.draft {
        Draft::Authorization(draft) => draft.policy.as_ref().map(|policy| &policy.scope),
        Draft::PeerAuthentication(peers) => Some(&peers.scope),
        _ => None,
    }
}

fn of_object(file: &Arc<Path>, object: &Object, options: &Options) -> Option<Draft> {
    let root = &object.root;
    // Its findings were made already.
    let meta = metadata::read(&mut Context::new(file, object), root, object.kind);
    let meta = meta.or_else(|| metadata::names_only(root))?;
    let root_namespace = &options.root_namespace;
    match object.kind {
        Kind::AuthorizationPolicy => {
            authorization_policy::unreadable(root, meta, root_namespace).map(authorization)
        }
        Kind::PeerAuthentication => {
            peer_authentication::unreadable(root, meta, root_namespace).map(Draft::PeerAuthentication)
        }
        Kind::NetworkPolicy => network_policy::unreadable(meta).map(Draft::Network),
        _ => None,
    }
}

fn authorization(policy: AuthorizationPolicy) -> Draft {
    Draft::Authorization(AuthorizationDraft { policy: Some(policy), targets_place: None })
}

fn whole(namespace: &Namespace, root: &RootNamespace) -> Scope {
    Home::new(namespace, root).whole()
}

fn lowered(object: ObjectRef, file: &Arc<Path>, at: Position, draft: Draft) -> Lowered {
    Lowered { object, file: Arc::clone(file), at, created: None, weight: 0, draft }
}
