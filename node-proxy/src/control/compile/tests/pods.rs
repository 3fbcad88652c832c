//! Policies about pods that a control plane names: they protect these, and nobody else.

use config::{
    model::{
        Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, PeerAuthentication,
        PeerMode, Scope, TextMatch,
    },
    name::PolicyName,
};

use super::*;
use crate::{
    control::compile::Protections,
    policy::{Inbound, decide_inbound},
};

fn pod(name: &str) -> PodName {
    let (of, pod) = name.split_once('/').unwrap();
    PodName::new(namespace(of), pod.try_into().unwrap())
}

fn root(name: &str) -> PolicyName {
    PolicyName::new(namespace("istio-system"), name.try_into().unwrap())
}

/// Whether a pod takes plaintext, and what proves to be `shop`'s.
fn takes(mesh: &Mesh, name: &str) -> (bool, bool) {
    let workload = &mesh.workloads[&pod(name)];
    let policy = Protections::of(mesh).inbound(workload);
    let caller = mesh.workloads[&pod("shop/cart-1")].identity.clone();
    let from =
        |identity| Inbound { identity, client: [10, 0, 0, 9].into(), destination: at("10.0.0.1:8080") };
    let taken = |identity| decide_inbound(&policy, &from(identity)).is_ok();
    (taken(None), taken(Some(&caller)))
}

#[test]
fn a_policy_that_denies_who_proves_nothing_holds_at_the_pods_it_names_in_any_namespace() {
    let mut mesh = mesh();
    let strict = ConnectionMatch { not_principals: vec![TextMatch::Present], ..ConnectionMatch::default() };
    let policy = AuthorizationPolicy {
        name: root("strict"),
        scope: Scope::Pods([pod("shop/cart-0"), pod("bank/ledger-0")].into()),
        action: Action::Deny,
        rules: vec![AuthorizationRule { clauses: vec![Clause { any: vec![strict] }] }],
    };
    mesh.authorization.insert(policy.name.clone(), Arc::new(policy));
    assert_eq!(takes(&mesh, "shop/cart-0"), (false, true));
    assert_eq!(takes(&mesh, "bank/ledger-0"), (false, true));
    assert_eq!(takes(&mesh, "shop/cart-1"), (true, true), "nobody names it");
}

#[test]
fn a_peer_authentication_about_pods_holds_at_these() {
    let mut mesh = mesh();
    let scope = Scope::Pods([pod("shop/cart-0"), pod("bank/ledger-0")].into());
    let (name, mode) = (root("strict"), Some(PeerMode::Strict));
    for unreadable in [false, true] {
        let peers = PeerAuthentication {
            name: name.clone(),
            created: None,
            scope: scope.clone(),
            mode,
            ports: Vec::new(),
            unreadable,
        };
        mesh.peer_authentication.insert(name.clone(), Arc::new(peers));
        assert_eq!(takes(&mesh, "shop/cart-0"), (false, true), "{unreadable}");
        assert_eq!(takes(&mesh, "bank/ledger-0"), (false, true), "{unreadable}");
        assert_eq!(takes(&mesh, "shop/cart-1"), (true, true), "{unreadable}");
    }
}
