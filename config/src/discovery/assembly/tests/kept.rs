//! What is refused: the last good version stays, what protects is never left out, and what is removed is gone.

use super::*;
use crate::{
    condition::About,
    discovery::messages::{Action, AppProtocol, Scope as Whom},
    model::{Action as Does, Egress, NetworkPolicy, PeerAuthentication, Scope},
    name::Namespace,
    opt_in::Kept,
};

const POISON: &[u8] = b"\xff\xff\xff";

fn namespace(name: &str) -> Namespace {
    name.try_into().unwrap()
}

fn peers(name: &str, namespace: &str) -> PeerAuthentication {
    let value = serde_json::json!({
        "name": {"namespace": namespace, "name": name}, "created": null, "scope": {"namespace": namespace},
        "mode": "permissive", "ports": [], "unreadable": false,
    });
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_protects_and_cannot_be_read_refuses_all_that_its_name_may_be_about() {
    for (name, scope) in [
        ("shop/x", Scope::Namespace(namespace("shop"))),
        ("shop/made_up", Scope::Namespace(namespace("shop"))),
        ("istio-system/x", Scope::Mesh),
        ("shop/x y", Scope::Mesh),
        ("x", Scope::Mesh),
        ("", Scope::Mesh),
        ("Shop/x", Scope::Mesh),
        (&"x".repeat(2000), Scope::Mesh),
    ] {
        let mut assembly = assembly();
        for kind in [Kind::Authorization, Kind::PeerAuthentication] {
            assert_eq!(assembly.take(kind, vec![resource(name, POISON.to_vec())], &[]).len(), 1, "{name}");
        }
        let made = assembly.make();
        let policies: Vec<_> =
            made.mesh.authorization.values().map(|one| (one.action, one.scope.clone())).collect();
        assert_eq!(policies, [(Does::Unreadable, scope.clone())], "{name}");
        let peers: Vec<_> =
            made.mesh.peer_authentication.values().map(|one| (one.unreadable, one.scope.clone())).collect();
        assert_eq!(peers, [(true, scope)], "{name}");
        let reasons: Vec<Reason> = made.findings.iter().map(|finding| finding.reason).collect();
        assert!(reasons.contains(&Reason::StoodIn) && reasons.len() == 4, "{reasons:?}");
        assert!(made.standings.iter().all(|one| !one.of(About::Accepted).unwrap().status), "{name}");
        for kind in [Kind::Authorization, Kind::PeerAuthentication] {
            assembly.take(kind, Vec::new(), &[name.to_owned()]);
        }
        let gone = assembly.make();
        assert_eq!(
            mesh(&gone),
            Mesh { version: 0, ..Mesh::default() },
            "{name} is gone, and what stood in for it"
        );
        assert!(gone.findings.is_empty() && gone.standings.is_empty());
    }
}

#[test]
fn a_network_policy_that_cannot_be_read_is_of_its_namespace_or_of_every_one_there_is() {
    let mut assembly = assembly();
    let set = [workload("shop/a", "10.1.0.1"), workload("bank/b", "10.1.0.2")].map(of_workload);
    assembly.take(Kind::Address, set.into(), &[]);
    assembly.take(Kind::NetworkPolicy, vec![resource("shop/x", POISON.to_vec())], &[]);
    let made = assembly.make();
    let unreadable = |made: &Made| -> Vec<String> {
        let all: Vec<&Arc<NetworkPolicy>> = made.mesh.network_policies.values().collect();
        assert!(all.iter().all(|policy| policy.unreadable));
        all.iter().map(|policy| policy.name.to_string()).collect()
    };
    assert_eq!(unreadable(&made), ["shop/x"]);
    assembly.take(Kind::NetworkPolicy, vec![resource("nowhere", POISON.to_vec())], &["shop/x".to_owned()]);
    let everywhere = ["bank/unreadable-in-discovery", "shop/unreadable-in-discovery"];
    assert_eq!(unreadable(&assembly.make()), everywhere);
    assembly.take(Kind::Address, vec![of_workload(workload("new/c", "10.1.0.3"))], &[uid("bank/b")]);
    assert_eq!(unreadable(&assembly.make()), ["new/unreadable-in-discovery", "shop/unreadable-in-discovery"]);
    assembly.take(Kind::NetworkPolicy, Vec::new(), &["nowhere".to_owned()]);
    assert!(assembly.make().mesh.network_policies.is_empty());
}

#[test]
fn the_last_good_version_stays_until_a_better_one_comes_or_it_is_removed() {
    let mut assembly = assembly();
    let rule = || vec![only(Match { principals: vec![present()], ..Match::default() })];
    let good = of_authorization(&authorization("shop/x", Whom::Namespace, Action::Allow, rule()));
    assembly.take(Kind::Authorization, vec![good.clone()], &[]);
    let first = assembly.make();
    let rejections = assembly.take(Kind::Authorization, vec![resource("shop/x", POISON.to_vec())], &[]);
    assert_eq!(rejections[0].reason, Reason::Malformed);
    let kept = assembly.make();
    assert!(Arc::ptr_eq(&first.mesh, &kept.mesh), "nothing is in force but what was");
    let file = "discovery/Authorization/shop/x".to_owned();
    let expected = [
        (Severity::Rejected, Reason::Malformed, file.clone()),
        (Severity::Warning, Reason::KeptLastGood, file),
    ];
    let found: BTreeSet<_> = told(&kept).into_iter().collect();
    assert_eq!(found, expected.into());
    let standing = &kept.standings[0];
    assert_eq!(standing.of(About::Programmed).unwrap().reason, "KeptLastGood");
    assert_eq!(standing.object.to_string(), "AuthorizationPolicy shop/x");
    // Once removed, it is nobody's last good version.
    assembly.take(Kind::Authorization, Vec::new(), &["shop/x".to_owned()]);
    assert!(assembly.make().mesh.authorization.is_empty());
    assembly.take(Kind::Authorization, vec![resource("shop/x", POISON.to_vec())], &[]);
    assert_eq!(own_policy(&assembly.make(), "shop/x").action, Does::Unreadable);
    assembly.take(Kind::Authorization, vec![good], &[]);
    let mended = assembly.make();
    assert_eq!(own_policy(&mended, "shop/x").action, Does::Allow);
    assert_eq!(told(&mended), []);
    assert!(mended.standings[0].is_well());
}

#[test]
fn the_same_again_changes_nothing_and_what_did_not_change_stays_the_same_object() {
    let set = || {
        let first = behind(workload("shop/a", "10.1.0.1"), "shop/cart", &[(80, 8080)]);
        let service = service("shop/cart", "10.96.0.9", &[(80, 0, AppProtocol::Tcp)]);
        vec![of_workload(first), of_service(service), of_workload(workload("bank/b", "10.1.0.2"))]
    };
    let mut assembly = assembly();
    assembly.take(Kind::Address, set(), &["never/there".to_owned()]);
    assembly.place(local(&["shop/a"]));
    let first = assembly.make();
    assert_eq!(first.mesh.version, 1);
    assembly.take(Kind::Address, set(), &["never/there".to_owned()]);
    assembly.place(local(&["shop/a"]));
    let again = assembly.make();
    assert!(Arc::ptr_eq(&first.mesh, &again.mesh) && again.changes.is_empty());
    assert!(Arc::ptr_eq(&first.standings, &again.standings));
    assembly.take(Kind::Address, vec![of_workload(workload("bank/b", "10.1.0.3"))], &[]);
    let moved = assembly.make();
    assert_eq!((moved.mesh.version, &moved.changes.workloads), (2, &vec![pod("bank/b")]));
    assert!(moved.changes.services.is_empty() && moved.changes.tenants.is_empty());
    for (name, workload) in first.mesh.workloads.iter().filter(|(name, _)| **name != pod("bank/b")) {
        assert!(Arc::ptr_eq(workload, &moved.mesh.workloads[name]), "{name}");
    }
    assert!(
        first.mesh.services.iter().all(|(name, service)| Arc::ptr_eq(service, &moved.mesh.services[name]))
    );
    assembly.take(Kind::Address, Vec::new(), &[uid("shop/a"), host("shop/cart"), uid("bank/b")]);
    let gone = assembly.make();
    assert_eq!(mesh(&gone), Mesh::default(), "with its tenants and namespaces");
}

#[test]
fn a_tenant_has_the_namespaces_it_lists_and_the_first_by_name_counts() {
    let mut assembly = assembly();
    assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))], &[]);
    let owner = |assembly: &mut Assembly| own_workload(&assembly.make(), "shop/a").tenant.to_string();
    assert_eq!(owner(&mut assembly), "ns/shop");
    assembly.take(Kind::Tenant, vec![facts("tenant/b", &tenant("b", &["shop", "bank"], "mesh"))], &[]);
    assert_eq!(owner(&mut assembly), "b");
    assembly.take(Kind::Tenant, vec![facts("tenant/a", &tenant("a", &["shop"], "any"))], &[]);
    assert_eq!(owner(&mut assembly), "a");
    let made = assembly.make();
    let all: Vec<_> =
        made.mesh.tenants.values().map(|one| (one.id.to_string(), one.namespaces.clone())).collect();
    let expected = [("a".to_owned(), vec![namespace("shop")]), ("b".to_owned(), vec![namespace("bank")])];
    assert_eq!(all, expected);
    assembly.take(Kind::Tenant, Vec::new(), &["tenant/a".to_owned(), "tenant/b".to_owned()]);
    assert_eq!(owner(&mut assembly), "ns/shop");
}

#[test]
fn what_may_be_a_tenants_that_cannot_be_read_goes_no_further_than_the_mesh() {
    let listed = |json: &str| Facts { json: json.to_owned() }.encode_to_vec();
    for (name, body, kept) in [
        ("tenant/x", POISON.to_vec(), vec!["other", "shop"]),
        ("what", POISON.to_vec(), vec!["other", "shop"]),
        ("ns/shop", POISON.to_vec(), vec!["shop"]),
        ("tenant/x", listed(r#"{"namespaces": ["shop", "bank"], "new": 1}"#), vec!["bank", "shop"]),
        ("tenant/x", listed(r#"{"namespaces": ["bank"], "new": 1}"#), vec!["bank"]),
        ("tenant/x", listed(r#"{"namespaces": ["shop", 1]}"#), vec!["other", "shop"]),
    ] {
        let mut assembly = assembly();
        let pods =
            [workload("shop/a", "10.1.0.1"), workload("bank/b", "10.1.0.2"), workload("other/c", "10.1.0.3")];
        assembly.take(Kind::Address, pods.map(of_workload).into(), &[]);
        assembly.take(Kind::Tenant, vec![facts("tenant/bank", &tenant("bank", &["bank"], "any"))], &[]);
        assert_eq!(assembly.take(Kind::Tenant, vec![resource(name, body)], &[]).len(), 1);
        let made = assembly.make();
        let limited = |(namespace, id): (&Namespace, &TenantId)| {
            made.mesh.tenants[id].egress.is_mesh().then(|| namespace.to_string())
        };
        let limited: Vec<String> = made.mesh.membership.iter().filter_map(limited).collect();
        assert_eq!(limited, kept, "{name}");
        let expected: BTreeSet<_> = [(Severity::Warning, Reason::StoodIn)].into();
        let warnings = made.findings.iter().filter(|one| one.severity == Severity::Warning);
        assert_eq!(warnings.map(|one| (one.severity, one.reason)).collect::<BTreeSet<_>>(), expected);
        assembly.take(Kind::Tenant, Vec::new(), &[name.to_owned()]);
        assert!(
            assembly.make().mesh.tenants.values().all(|tenant| tenant.egress == Egress::Any),
            "{name} is gone"
        );
    }
}

#[test]
fn a_tenant_is_kept_to_the_mesh_while_one_that_names_a_namespace_of_it_cannot_be_read() {
    let mut assembly = assembly();
    let of = |egress: &str| facts("tenant/a", &tenant("a", &["shop", "bank"], egress));
    let broken = Facts { json: r#"{"namespaces": ["shop"], "new": 1}"#.to_owned() }.encode_to_vec();
    assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))], &[]);
    assembly.take(Kind::Tenant, vec![of("any"), resource("tenant/b", broken)], &[]);
    let kept = |assembly: &mut Assembly| {
        let made = assembly.make();
        let tenant = made.mesh.tenants.values().find(|tenant| tenant.id.to_string() == "a").unwrap();
        (tenant.egress.is_mesh(), tenant.kept())
    };
    assert_eq!(kept(&mut assembly), (true, Kept::Perhaps), "it takes in nobody without a label");
    assembly.take(Kind::Tenant, vec![of("mesh")], &[]);
    assert_eq!(kept(&mut assembly), (true, Kept::Yes), "by its own word, which counts for more");
    assembly.take(Kind::Tenant, vec![of("any")], &[]);
    assert_eq!(kept(&mut assembly), (true, Kept::Perhaps));
    // One that can be read and names what another has changes nothing for that one.
    assembly.take(Kind::Tenant, vec![facts("tenant/b", &tenant("b", &["shop"], "mesh"))], &[]);
    assert_eq!(kept(&mut assembly), (false, Kept::No));
}

#[test]
fn an_object_is_taken_under_its_own_name_alone_and_whole() {
    let own = peers("x", "shop");
    let newer = serde_json::json!({"name": {"namespace": "shop", "name": "x"}, "created": null, "scope": "mesh",
        "mode": null, "ports": [], "unreadable": false, "from a newer control plane": 1});
    let sets = [
        (Kind::PeerAuthentication, facts("shop/y", &own), Reason::InvalidValue),
        (Kind::PeerAuthentication, facts("shop/x", &newer), Reason::UnknownField),
        (Kind::PeerAuthentication, resource("shop/x", Vec::new()), Reason::Malformed),
        (Kind::Tenant, facts("tenant/b", &tenant("a", &["shop"], "any")), Reason::InvalidValue),
        (
            Kind::Namespace,
            facts("shop", &serde_json::json!({"name": "shop", "labels": {}})),
            Reason::InvalidValue,
        ),
        (
            Kind::Namespace,
            facts(
                "shop",
                &serde_json::json!({"name": "shop", "labels": {"kubernetes.io/metadata.name": "bank"}}),
            ),
            Reason::InvalidValue,
        ),
    ];
    for (kind, resource, reason) in sets {
        let rejections = assembly().take(kind, vec![resource.clone()], &[]);
        assert_eq!(rejections.iter().map(|one| one.reason).collect::<Vec<_>>(), [reason], "{resource:?}");
    }
    assert_eq!(assembly().take(Kind::PeerAuthentication, vec![facts("shop/x", &own)], &[]), []);
}

#[test]
fn the_models_own_word_comes_before_istios_but_names_no_other_and_no_network_namespace() {
    let mut own = own_workload(
        &made(vec![(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.1"))])]),
        "shop/a",
    );
    own.labels.insert("app".to_owned(), "a".to_owned());
    own.netns = Some(netns("stolen"));
    let say = |own: &Workload, name: &str| {
        let said = messages::Workload { extensions: vec![extension(own)], ..workload(name, "10.9.9.9") };
        vec![of_workload(said)]
    };
    let made = made(vec![(Kind::Address, say(&own, "shop/a"))]);
    let expected = Workload { netns: None, ..own.clone() };
    assert_eq!(own_workload(&made, "shop/a"), expected);
    assert_eq!(assembly().take(Kind::Address, say(&own, "shop/b"), &[]).len(), 1, "another's name");
    let mut thief = own.clone();
    thief.identity.namespace = namespace("bank");
    assert_eq!(assembly().take(Kind::Address, say(&thief, "shop/a"), &[])[0].reason, Reason::NotPermitted);
}

#[test]
fn there_are_only_so_many_and_what_protects_is_not_left_out_for_that() {
    let mut options = Options::default();
    options.limits.objects = 1;
    options.limits.file_bytes = 1000;
    let mut assembly = Assembly::new(options, ClusterDomain::default());
    let pods = [workload("shop/a", "10.1.0.1"), workload("shop/b", "10.1.0.2")];
    let rejections = assembly.take(Kind::Address, pods.clone().map(of_workload).into(), &[]);
    assert_eq!(
        rejections.iter().map(|one| (one.name.clone(), one.reason)).collect::<Vec<_>>(),
        [(uid("shop/b"), Reason::TooLarge)]
    );
    let policies = ["a", "b"].map(|name| {
        of_authorization(&authorization(&format!("shop/{name}"), Whom::Namespace, Action::Allow, Vec::new()))
    });
    assert_eq!(assembly.take(Kind::Authorization, policies.into(), &[]).len(), 1);
    let made = assembly.make();
    assert_eq!(made.mesh.workloads.len(), 1);
    assert_eq!(own_policy(&made, "shop/b").action, Does::Unreadable);
    // What is in force may change; what goes makes room.
    assert_eq!(assembly.take(Kind::Address, vec![of_workload(workload("shop/a", "10.1.0.9"))], &[]), []);
    let second = of_workload(pods[1].clone());
    assert_eq!(assembly.take(Kind::Address, vec![second], &[uid("shop/a")]), []);
    let large = resource("shop/large", vec![0; 1001]);
    assert_eq!(assembly.take(Kind::ServiceEntry, vec![large], &[])[0].reason, Reason::TooLarge);
}
