//! What policies were put together from, so that they are put together anew only where some of it is another.
//!
//! A route more, or an endpoint, is of no meaning to who may come in. It must never call anything the same that is not the very object.

use std::{collections::BTreeMap, sync::Arc};

use config::{
    model::{
        AuthorizationPolicy, Mesh, NamespaceFacts, NetworkPolicy, PeerAuthentication, ServiceEntry, Tenant,
    },
    name::{EntryName, Namespace, PolicyName, TenantId},
};

use crate::control::names::Answers;

/// As they were last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether anything was.
    begun: bool,
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    namespaces: BTreeMap<Namespace, Arc<NamespaceFacts>>,
    membership: BTreeMap<Namespace, TenantId>,
    authorization: BTreeMap<PolicyName, Arc<AuthorizationPolicy>>,
    peers: BTreeMap<PolicyName, Arc<PeerAuthentication>>,
    network: BTreeMap<PolicyName, Arc<NetworkPolicy>>,
    entries: BTreeMap<EntryName, Arc<ServiceEntry>>,
    answers: Answers,
}

/// What else policies are about: whether any of it is another than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Others {
    pub(super) services: bool,
    pub(super) workloads: bool,
}

/// What has to be put together anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Differs {
    /// What protects workloads.
    pub(super) inbound: bool,
    /// Where tenants may go outside.
    pub(super) external: bool,
    /// NetworkPolicies by pod.
    pub(super) network: bool,
}

impl Seen {
    /// Takes over what there is now, and tells what of it has changed.
    pub(super) fn update(&mut self, mesh: &Mesh, answers: &Answers, others: Others) -> Differs {
        let first = !std::mem::replace(&mut self.begun, true);
        let authorization = renew(&mut self.authorization, &mesh.authorization);
        let peers = renew(&mut self.peers, &mesh.peer_authentication);
        let network = renew(&mut self.network, &mesh.network_policies);
        let namespaces = renew(&mut self.namespaces, &mesh.namespaces);
        let entries = renew(&mut self.entries, &mesh.service_entries);
        let tenants = renew(&mut self.tenants, &mesh.tenants);
        let owners = self.membership != mesh.membership;
        if owners {
            self.membership.clone_from(&mesh.membership);
        }
        let found = self.answers != *answers;
        if found {
            self.answers.clone_from(answers);
        }
        Differs {
            inbound: first || authorization || peers || others.services || others.workloads,
            external: first || entries || tenants || owners || found,
            network: first || network || namespaces || others.workloads,
        }
    }
}

/// Takes over a map, and tells whether it is another. Values that are the same are of one key.
fn renew<K: Clone + Ord, V>(seen: &mut BTreeMap<K, Arc<V>>, now: &BTreeMap<K, Arc<V>>) -> bool {
    let is_same = seen.len() == now.len()
        && seen.values().zip(now.values()).all(|(before, now)| Arc::ptr_eq(before, now));
    if !is_same {
        seen.clone_from(now);
    }
    !is_same
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Others = Others { services: false, workloads: false };

    fn policy(name: &str, scope: &str) -> (PolicyName, Arc<AuthorizationPolicy>) {
        let name = PolicyName::new(scope.try_into().unwrap(), name.try_into().unwrap());
        let scope = config::model::Scope::Namespace(scope.try_into().unwrap());
        let action = config::model::Action::Deny;
        (name.clone(), Arc::new(AuthorizationPolicy { name, scope, action, rules: Vec::new() }))
    }

    #[test]
    fn only_what_policies_are_put_together_from_has_them_put_together_anew() {
        let (mut seen, mut mesh, mut answers) = (Seen::default(), Mesh::default(), Answers::default());
        let mut differs = |mesh: &Mesh, answers: &Answers, others| {
            let Differs { inbound, external, network } = seen.update(mesh, answers, others);
            [inbound, external, network]
        };
        assert_eq!(differs(&mesh, &answers, NONE), [true; 3], "the first");
        assert_eq!(differs(&mesh, &answers, NONE), [false; 3]);
        mesh.version += 1;
        assert_eq!(differs(&mesh, &answers, NONE), [false; 3], "as where a route comes");
        assert_eq!(differs(&mesh, &answers, Others { services: true, ..NONE }), [true, false, false]);
        assert_eq!(differs(&mesh, &answers, Others { workloads: true, ..NONE }), [true, false, true]);
        mesh.authorization.extend([policy("a", "shop")]);
        assert_eq!(differs(&mesh, &answers, NONE), [true, false, false]);
        mesh.authorization.extend([policy("a", "shop")]);
        assert_eq!(differs(&mesh, &answers, NONE), [true, false, false], "another object of one name");
        mesh.authorization.clear();
        assert_eq!(differs(&mesh, &answers, NONE), [true, false, false], "one that goes");
        let name: Namespace = "shop".try_into().unwrap();
        mesh.membership.insert(name.clone(), TenantId::Namespace(name.clone()));
        assert_eq!(differs(&mesh, &answers, NONE), [false, true, false]);
        let facts = NamespaceFacts { name: name.clone(), labels: BTreeMap::new() };
        mesh.namespaces.insert(name.clone(), Arc::new(facts));
        assert_eq!(differs(&mesh, &answers, NONE), [false, false, true]);
        answers.insert((TenantId::Namespace(name), "pay.example".try_into().unwrap()), Vec::new());
        assert_eq!(differs(&mesh, &answers, NONE), [false, true, false]);
        assert_eq!(differs(&mesh, &answers, NONE), [false; 3]);
    }
}
