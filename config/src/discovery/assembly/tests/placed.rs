//! Pods of this machine: what only its own files know of them, beside what the control plane tells.

use super::*;
use crate::{
    discovery::messages::{Action, Scope},
    model::{Exclusions, PeerAuthentication},
};

/// A pod of this machine in its sandbox.
fn in_sandbox(name: &str, uid: &str, addresses: &[&str]) -> BTreeMap<PodName, Arc<Workload>> {
    let mut local = local(&[name]);
    let workload = Arc::make_mut(local.get_mut(&pod(name)).unwrap());
    workload.uid = Some(uid.to_owned());
    workload.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    local
}

/// What a control plane that knows UIDs says of a pod.
fn known(name: &str, uid: &str, addresses: &[&str]) -> Resource {
    let own = in_sandbox(name, uid, addresses).remove(&pod(name)).unwrap();
    let own = Workload { netns: None, ..Workload::clone(&own) };
    of_workload(messages::Workload { extensions: vec![extension(&own)], ..workload(name, addresses[0]) })
}

fn addresses(made: &Made, name: &str) -> Vec<String> {
    own_workload(made, name).addresses.iter().map(ToString::to_string).collect()
}

fn leaving_alone(name: &str, inbound: &[u16]) -> BTreeMap<PodName, Arc<Workload>> {
    let mut local = local(&[name]);
    let workload = Arc::make_mut(local.get_mut(&pod(name)).unwrap());
    let outbound_cidrs = vec!["10.9.0.0/16".parse().unwrap()];
    workload.exclusions =
        Exclusions { outbound_ports: vec![25], outbound_cidrs, inbound_ports: inbound.to_vec() };
    local
}

fn strict() -> Resource {
    let value = serde_json::json!({
        "name": {"namespace": "shop", "name": "strict"}, "created": null,
        "scope": {"selected": {"namespace": "shop", "labels": {}}}, "mode": "strict", "ports": [[9100, "permissive"]], "unreadable": false,
    });
    let peers: PeerAuthentication = serde_json::from_value(value).unwrap();
    facts("shop/strict", &peers)
}

fn left(made: &Made) -> Vec<u16> {
    own_workload(made, "shop/a").exclusions.inbound_ports
}

#[test]
fn a_pod_that_the_control_plane_does_not_tell_of_is_held_and_not_in_the_mesh() {
    let mut assembly = assembly();
    assembly.place(local(&["shop/a", "shop/b"]));
    assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))], &[]);
    let made = assembly.make();
    assert_eq!(own_workload(&made, "shop/a").netns, Some(netns("a")));
    assert_eq!(made.rejected.netns, [netns("b")].into());
    assert_eq!(
        told(&made),
        [(Severity::Warning, Reason::DanglingReference, "discovery/Address/shop/b".to_owned())]
    );
    assembly.take(Kind::Address, vec![of_workload(workload("shop/b", "10.1.0.2"))], &[uid("shop/a")]);
    let other = assembly.make();
    assert_eq!(other.rejected.netns, [netns("a")].into());
    assert_eq!(own_workload(&other, "shop/b").netns, Some(netns("b")));
    assembly.place(BTreeMap::new());
    let gone = assembly.make();
    assert_eq!((own_workload(&gone, "shop/b").netns, gone.rejected.netns.len()), (None, 0));
}

#[test]
fn a_pod_that_waits_at_the_gate_is_in_the_mesh_before_anybody_tells_of_it_and_takes_no_connection_until_then()
{
    let mut assembly = assembly();
    assembly.take(Kind::Tenant, vec![facts("tenant/t", &tenant("t", &["shop"], "mesh"))], &[]);
    assembly.place(leaving_alone("shop/a", &[9090]));
    assembly.expect([pod("shop/a"), pod("shop/elsewhere")].into());
    let early = assembly.make();
    let workload = own_workload(&early, "shop/a");
    assert_eq!((workload.netns, workload.tenant.to_string().as_str()), (Some(netns("a")), "t"));
    assert_eq!(workload.exclusions.outbound_ports, [0; 0], "it is kept to the mesh like any other");
    assert_eq!((early.mesh.workloads.len(), told(&early)), (1, Vec::new()));
    let namespace = "shop".try_into().unwrap();
    assert!(early.mesh.membership.contains_key(&namespace) && early.mesh.namespaces.contains_key(&namespace));
    let name = "shop/not-told-of-in-discovery";
    let closed = own_policy(&early, name);
    let scope = crate::model::Scope::Pods([pod("shop/a")].into());
    assert_eq!((closed.action, closed.scope), (crate::model::Action::Unreadable, scope));
    assert_eq!(early.changes.authorization, [policy(name)]);
    // Its address is known now, and so is what is about it.
    assembly.take(Kind::Address, vec![of_workload(super::workload("shop/a", "10.1.0.1"))], &[]);
    let known = assembly.make();
    assert_eq!(own_workload(&known, "shop/a").addresses.len(), 1);
    assert_eq!(own_workload(&known, "shop/a").netns, Some(netns("a")));
    assert!(known.mesh.authorization.is_empty());
    // A control plane that is behind does not take it out again.
    assembly.take(Kind::Address, Vec::new(), &[uid("shop/a")]);
    let behind = assembly.make();
    assert_eq!(own_workload(&behind, "shop/a").netns, Some(netns("a")));
    assert!(behind.mesh.authorization.contains_key(&policy(name)));
    assembly.expect(Default::default());
    let gone = assembly.make();
    assert!(gone.mesh.workloads.is_empty() && gone.mesh.authorization.is_empty());
    assert_eq!(gone.rejected.netns, [netns("a")].into());
}

#[test]
fn a_pod_that_was_made_anew_under_its_name_is_not_the_one_of_before() {
    let mut own = own_workload(
        &made(vec![(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))])]),
        "shop/a",
    );
    own.uid = Some("1".to_owned());
    let mut assembly = assembly();
    let said = messages::Workload { extensions: vec![extension(&own)], ..workload("shop/a", "10.1.0.1") };
    assembly.take(Kind::Address, vec![of_workload(said)], &[]);
    for (uid, is_it) in [(None, true), (Some("1"), true), (Some("2"), false)] {
        let mut local = local(&["shop/a"]);
        Arc::make_mut(local.get_mut(&pod("shop/a")).unwrap()).uid = uid.map(ToOwned::to_owned);
        assembly.place(local);
        let made = assembly.make();
        assert_eq!(own_workload(&made, "shop/a").netns.is_some(), is_it, "{uid:?}");
        assert_eq!(made.rejected.netns.is_empty(), is_it, "{uid:?}");
    }
}

#[test]
fn the_addresses_of_a_pods_sandbox_count_and_not_what_is_told_of_a_former_one() {
    let mut assembly = assembly();
    assembly.take(Kind::Address, vec![known("shop/a", "1", &["10.1.0.1", "fd00::1"])], &[]);
    assembly.place(in_sandbox("shop/a", "1", &["10.1.0.9", "fd00::1"]));
    assert_eq!(
        addresses(&assembly.make(), "shop/a"),
        ["10.1.0.1", "fd00::1"],
        "it is not known whose word it is"
    );
    assembly.vouch([pod("shop/a"), pod("shop/elsewhere")].into());
    let made = assembly.make();
    assert_eq!(addresses(&made, "shop/a"), ["10.1.0.9", "fd00::1"]);
    assert_eq!(
        (own_workload(&made, "shop/a").netns, &made.changes.workloads),
        (Some(netns("a")), &vec![pod("shop/a")])
    );
    assert!(
        made.mesh.authorization.is_empty() && made.rejected.netns.is_empty(),
        "it is told of, and so is what is about it"
    );
    assembly.take(Kind::Address, vec![known("shop/a", "1", &["10.1.0.9", "fd00::1"])], &[]);
    assert!(assembly.make().changes.is_empty(), "the control plane has heard of it");
    // A sandbox of which no address is known takes none away.
    assembly.place(in_sandbox("shop/a", "1", &[]));
    assert_eq!(addresses(&assembly.make(), "shop/a"), ["10.1.0.9", "fd00::1"]);
    assembly.vouch(BTreeSet::new());
    assert!(assembly.make().changes.is_empty());
}

#[test]
fn the_addresses_of_a_sandbox_are_never_another_pods_of_its_name() {
    let mut assembly = assembly();
    assembly.take(Kind::Address, vec![known("shop/a", "1", &["10.1.0.1"])], &[]);
    assembly.place(in_sandbox("shop/a", "2", &["10.1.0.9"]));
    assembly.vouch([pod("shop/a")].into());
    let held = assembly.make();
    assert_eq!(
        (addresses(&held, "shop/a"), own_workload(&held, "shop/a").netns),
        (vec!["10.1.0.1".to_owned()], None)
    );
    assert_eq!(held.rejected.netns, [netns("a")].into());
    // While it waits at the gate it goes out as itself, and what is told of the former one lets nobody in.
    assembly.expect([pod("shop/a")].into());
    let early = assembly.make();
    assert_eq!(
        (addresses(&early, "shop/a"), own_workload(&early, "shop/a").uid.as_deref()),
        (vec!["10.1.0.9".to_owned()], Some("2"))
    );
    assert!(early.mesh.authorization.contains_key(&policy("shop/not-told-of-in-discovery")));
    assembly.take(Kind::Address, vec![known("shop/a", "2", &["10.1.0.9"])], &[]);
    let told_of = assembly.make();
    assert!(told_of.mesh.authorization.is_empty() && told_of.rejected.netns.is_empty());
    assert_eq!(own_workload(&told_of, "shop/a").netns, Some(netns("a")));
}

#[test]
fn where_no_uids_are_told_a_pod_is_told_of_when_an_address_of_its_sandbox_is() {
    for (what, is_vouched, told_at, is_told_of) in [
        ("at its address", true, "10.1.0.9", true),
        ("at another", true, "10.1.0.1", false),
        ("at another, and nobody knows what it has", false, "10.1.0.1", true),
    ] {
        let mut assembly = assembly();
        assembly.take(Kind::Address, vec![of_workload(workload("shop/a", told_at))], &[]);
        assembly.place(in_sandbox("shop/a", "1", &["10.1.0.9"]));
        assembly.vouch(if is_vouched { [pod("shop/a")].into() } else { BTreeSet::new() });
        let running = assembly.make();
        assert_eq!(running.rejected.netns.is_empty(), is_told_of, "{what}");
        assembly.expect([pod("shop/a")].into());
        let waiting = assembly.make();
        assert_eq!(own_workload(&waiting, "shop/a").netns, Some(netns("a")), "{what}");
        assert_eq!(waiting.mesh.authorization.is_empty(), is_told_of, "{what}");
        let at = if is_vouched { "10.1.0.9" } else { told_at };
        assert_eq!(addresses(&waiting, "shop/a"), [at], "{what}");
    }
}

#[test]
fn a_port_is_left_alone_only_as_long_as_nothing_refuses_plaintext_there() {
    let mut assembly = assembly();
    assembly.place(leaving_alone("shop/a", &[9090, 9100]));
    assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))], &[]);
    assert_eq!(left(&assembly.make()), [9090, 9100]);
    assembly.take(Kind::PeerAuthentication, vec![strict()], &[]);
    let closed = assembly.make();
    assert_eq!((left(&closed), &closed.changes.workloads), (vec![9100], &vec![pod("shop/a")]));
    assert_eq!(
        told(&closed),
        [(Severity::Warning, Reason::NotPermitted, "discovery/Address/shop/a".to_owned())]
    );
    assembly.take(Kind::PeerAuthentication, vec![resource("shop/other", vec![0xff])], &[]);
    assert_eq!(left(&assembly.make()), Vec::<u16>::new(), "what cannot be read may be stricter");
    assembly.take(Kind::PeerAuthentication, Vec::new(), &["shop/strict".to_owned(), "shop/other".to_owned()]);
    let open = assembly.make();
    assert_eq!((left(&open), told(&open)), (vec![9090, 9100], Vec::new()));
}

#[test]
fn a_port_is_left_alone_only_as_long_as_istios_own_policies_take_plaintext_there() {
    let name = "istio-system/istio_converted_static_strict";
    let by_port = |one: Match| Rule {
        clauses: vec![
            Clause { matches: vec![Match { not_principals: vec![present()], ..Match::default() }] },
            Clause { matches: vec![one] },
        ],
    };
    let not_port = by_port(Match { not_destination_ports: vec![9100], ..Match::default() });
    let all = only(Match { not_principals: vec![present()], ..Match::default() });
    let from_somebody = only(Match { principals: vec![present()], ..Match::default() });
    for (what, rule, still) in [
        ("of all", all, vec![]),
        ("but one", not_port, vec![9100]),
        ("of somebody", from_somebody, vec![9090, 9100]),
    ] {
        let mut assembly = assembly();
        assembly.place(leaving_alone("shop/a", &[9090, 9100]));
        let mut named = workload("shop/a", "10.1.0.1");
        named.authorization_policies = vec![name.to_owned()];
        assembly.take(Kind::Address, vec![of_workload(named)], &[]);
        assert_eq!(left(&assembly.make()), [9090, 9100]);
        let policy = authorization(name, Scope::WorkloadSelector, Action::Deny, vec![rule]);
        assembly.take(Kind::Authorization, vec![of_authorization(&policy)], &[]);
        assert_eq!(left(&assembly.make()), still, "{what}");
        assembly.take(Kind::Authorization, Vec::new(), &[name.to_owned()]);
        assert_eq!(left(&assembly.make()), [9090, 9100], "{what}");
    }
}

#[test]
fn no_pod_leaves_a_tenant_that_is_kept_to_the_mesh_by_its_own_word() {
    let mut assembly = assembly();
    assembly.place(leaving_alone("shop/a", &[9090]));
    assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))], &[]);
    assert_eq!(own_workload(&assembly.make(), "shop/a").exclusions.outbound_ports, [25]);
    assembly.take(Kind::Tenant, vec![facts("tenant/kept", &tenant("kept", &["shop"], "mesh"))], &[]);
    let made = assembly.make();
    let kept = own_workload(&made, "shop/a").exclusions;
    assert_eq!(kept, Exclusions { inbound_ports: vec![9090], ..Exclusions::default() });
    assembly.take(Kind::Tenant, vec![facts("tenant/kept", &tenant("kept", &["shop"], "any"))], &[]);
    assert_eq!(own_workload(&assembly.make(), "shop/a").exclusions.outbound_ports, [25]);
}
