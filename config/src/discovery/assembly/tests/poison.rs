//! Bytes that are no resource, among good ones: nobody else's objects change, and nothing opens.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    discovery::messages::{Action, AppProtocol, Scope},
    model::Action as Does,
};

/// One of each kind, besides what others have.
fn good() -> Vec<(Kind, Resource)> {
    let rule =
        || vec![only(Match { principals: vec![exact("cluster.local/ns/shop/sa/web")], ..Match::default() })];
    let policy = |name: &str| of_authorization(&authorization(name, Scope::Namespace, Action::Allow, rule()));
    let peers = |name: &str| {
        facts(
            &format!("shop/{name}"),
            &serde_json::json!({"name": {"namespace": "shop", "name": name},
            "created": null, "scope": {"namespace": "shop"}, "mode": "strict", "ports": [], "unreadable": false}),
        )
    };
    let pods = serde_json::json!({"labels": {}, "expressions": []});
    let network = |name: &str| {
        facts(
            &format!("shop/{name}"),
            &serde_json::json!({"name": {"namespace": "shop", "name": name},
            "pods": pods, "ingress": [], "egress": null, "unreadable": false}),
        )
    };
    let entry = |name: &str| {
        facts(
            &format!("shop/{name}"),
            &serde_json::json!({"name": {"namespace": "shop", "name": name},
            "addresses": ["192.0.2.1/32"], "ports": [443], "endpoints": [], "hosts": [],
            "audience": {"every_tenant": false, "namespaces": null}}),
        )
    };
    let space = |name: &str| {
        facts(name, &serde_json::json!({"name": name, "labels": {"kubernetes.io/metadata.name": name}}))
    };
    let service = |name: &str, vip: &str| of_service(service(name, vip, &[(80, 0, AppProtocol::Tcp)]));
    let pod =
        |name: &str, address: &str| of_workload(behind(workload(name, address), "shop/cart", &[(80, 8080)]));
    vec![
        (Kind::Address, pod("shop/a", "10.1.0.1")),
        (Kind::Address, pod("shop/b", "10.1.0.2")),
        (Kind::Address, service("shop/cart", "10.96.0.1")),
        (Kind::Address, service("shop/desk", "10.96.0.2")),
        (Kind::Authorization, policy("shop/a")),
        (Kind::Authorization, policy("shop/b")),
        (Kind::PeerAuthentication, peers("a")),
        (Kind::PeerAuthentication, peers("b")),
        (Kind::NetworkPolicy, network("a")),
        (Kind::NetworkPolicy, network("b")),
        (Kind::ServiceEntry, entry("a")),
        (Kind::ServiceEntry, entry("b")),
        (Kind::Namespace, space("shop")),
        (Kind::Namespace, space("bank")),
        (Kind::Tenant, facts("tenant/shop", &tenant("shop", &["shop"], "any"))),
        (Kind::Tenant, facts("tenant/bank", &tenant("bank", &["bank"], "any"))),
    ]
}

/// Anything, or a good body with some bytes changed.
fn body(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changed = vec((any::<prop::sample::Index>(), any::<u8>()), 1..4).prop_map(move |edits| {
        let mut body = good.clone();
        edits.iter().for_each(|(at, byte)| *at.get_mut(&mut body) = *byte);
        body
    });
    prop_oneof![vec(any::<u8>(), 0..200), changed]
}

fn poison() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..good().len()).prop_flat_map(|which| (Just(which), body(good()[which].1.body.clone())))
}

fn of(resources: impl IntoIterator<Item = (Kind, Resource)>) -> Assembly {
    let mut assembly = assembly();
    resources
        .into_iter()
        .for_each(|(kind, resource)| assert_eq!(assembly.take(kind, vec![resource], &[]), []));
    assembly
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_body_that_cannot_be_read_changes_nobody_elses_objects((which, body) in poison()) {
        let (kind, name) = (good()[which].0, good()[which].1.name.clone());
        let poison = Resource { body, ..good()[which].1.clone() };
        let others = || good().into_iter().enumerate().filter(|(index, _)| *index != which).map(|(_, one)| one);
        // Beside its last good version.
        let mut before = of(good());
        let first = before.make();
        let is_bad = !before.take(kind, vec![poison.clone()], &[]).is_empty();
        let kept = before.make();
        if is_bad {
            let unguarded = |made: &Made| Mesh { guarded: Default::default(), ..mesh(made) };
            prop_assert!(kind == Kind::Address || Arc::ptr_eq(&first.mesh, &kept.mesh));
            prop_assert_eq!(unguarded(&first), unguarded(&kept));
        }
        // Without one.
        let mut without = of(others());
        let none = without.make();
        let rejections = without.take(kind, vec![poison], &[]);
        prop_assert_eq!(rejections.iter().any(|one| one.name != name), false);
        prop_assert_eq!(!rejections.is_empty(), is_bad);
        let made = without.make();
        if is_bad {
            check_closed(kind, &name, &none, &made)?;
        }
    }
}

/// All but what stands in for it is as it would be without it.
fn check_closed(kind: Kind, name: &str, none: &Made, made: &Made) -> Result<(), TestCaseError> {
    let (mut left, without) = (mesh(made), mesh(none));
    match kind {
        Kind::Authorization => {
            let stand_in = left.authorization.remove(&policy(name)).map(|one| one.action);
            prop_assert_eq!(stand_in, Some(Does::Unreadable));
        }
        Kind::PeerAuthentication => {
            prop_assert!(left.peer_authentication.remove(&policy(name)).is_some_and(|one| one.unreadable));
        }
        Kind::NetworkPolicy => {
            prop_assert!(left.network_policies.remove(&policy(name)).is_some_and(|one| one.unreadable));
        }
        Kind::Tenant => {
            let namespace = name.trim_start_matches("tenant/").try_into().unwrap();
            let own = TenantId::Namespace(namespace);
            prop_assert!(left.tenants[&own].egress.is_mesh());
            left.tenants.insert(own.clone(), Arc::clone(&without.tenants[&own]));
        }
        Kind::Namespace | Kind::Address | Kind::ServiceEntry | Kind::Route => {}
    }
    left.guarded.clear();
    prop_assert_eq!(left, without);
    Ok(())
}
