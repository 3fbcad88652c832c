//! An update costs what it changed: everything else is the very object it was.

use super::*;

fn routed() -> Mesh {
    let mut mesh = mesh();
    add_service(&mut mesh, "bank/ledger", "10.96.0.2", AppProtocol::Http1, &["10.0.1.1:80"]);
    add_route(&mut mesh, "shop/cart", "shop/cart", vec![rule(vec![prefix("/")], vec![backend("shop/cart")])]);
    add_route(
        &mut mesh,
        "shop/mine",
        "bank/ledger",
        vec![rule(vec![prefix("/")], vec![backend("bank/ledger")])],
    );
    mesh
}

/// Compiles a mesh and then what `change` makes of it, both with one compiler.
fn before_and_after(change: impl FnOnce(&mut Mesh)) -> [BTreeMap<TenantId, Arc<Snapshot>>; 2] {
    let mut mesh = routed();
    let mut compiler = Compiler::new();
    let before = compiler.compile(&mesh);
    change(&mut mesh);
    mesh.version += 1;
    let after = compiler.compile(&mesh);
    assert_same_meaning(&after, &compile(&mesh));
    [before, after]
}

/// What was compiled on top of an older version reads like what is compiled from nothing.
pub(super) fn assert_same_meaning(
    one: &BTreeMap<TenantId, Arc<Snapshot>>,
    other: &BTreeMap<TenantId, Arc<Snapshot>>,
) {
    let sorted = |snapshot: &Snapshot| {
        let directory = &snapshot.directory;
        let services: BTreeMap<_, _> =
            directory.services.iter().map(|(key, entry)| (*key, format!("{entry:?}"))).collect();
        let workloads: BTreeMap<_, _> = directory
            .workloads
            .iter()
            .map(|(key, entry)| {
                let protocols: BTreeMap<_, _> = entry.protocols.iter().map(|(port, p)| (*port, *p)).collect();
                (*key, format!("{:?} {protocols:?}", entry.workload))
            })
            .collect();
        let endpoints: std::collections::BTreeSet<_> = directory.endpoints.iter().copied().collect();
        let consumers = snapshot.consumer_routes.0.iter().flat_map(|(caller, services)| {
            services.iter().flat_map(move |(service, ports)| {
                ports.iter().map(move |(port, table)| ((caller, service, *port), format!("{table:?}")))
            })
        });
        let consumers: BTreeMap<_, _> = consumers.collect();
        format!("{services:?} {workloads:?} {endpoints:?} {consumers:?} {:?}", snapshot.egress)
    };
    let all = |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>| -> Vec<String> {
        snapshots.iter().map(|(id, snapshot)| format!("{id} {}", sorted(snapshot))).collect()
    };
    assert_eq!(all(one), all(other));
}

fn cart(snapshots: &BTreeMap<TenantId, Arc<Snapshot>>) -> &Arc<ServiceEntry> {
    &snapshots[&tenant("shop")].directory.services[&at("10.96.0.1:80")]
}

fn ledger(snapshots: &BTreeMap<TenantId, Arc<Snapshot>>) -> &Arc<ServiceEntry> {
    &snapshots[&tenant("shop")].directory.services[&at("10.96.0.2:80")]
}

fn own_table(snapshots: &BTreeMap<TenantId, Arc<Snapshot>>) -> &Arc<crate::snapshot::RouteTable> {
    let routes = &snapshots[&tenant("shop")].consumer_routes;
    routes.table(&namespace("shop"), &service_name("bank/ledger"), 80).unwrap()
}

#[test]
fn nothing_new_is_the_same_snapshot() {
    let [before, after] = before_and_after(|_| {});
    for (id, snapshot) in &before {
        assert!(Arc::ptr_eq(snapshot, &after[id]), "{id}");
    }
}

#[test]
fn an_object_that_was_read_again_and_says_the_same_changes_no_entry() {
    let [before, after] = before_and_after(|mesh| {
        let service = mesh.services.get_mut(&service_name("shop/cart")).unwrap();
        *service = Arc::new(Service::clone(service));
    });
    assert!(Arc::ptr_eq(&before[&tenant("shop")], &after[&tenant("shop")]));
}

#[test]
fn a_changed_endpoint_changes_its_service_and_the_routes_to_it_alone() {
    let [before, after] = before_and_after(|mesh| {
        let service = mesh.services.get_mut(&service_name("shop/cart")).unwrap();
        Arc::make_mut(service).ports[0].endpoints[0].ready = false;
    });
    assert!(!cart(&after).cluster.endpoints[0].ready);
    assert!(!Arc::ptr_eq(&cart(&before).routes, &cart(&after).routes));
    assert!(Arc::ptr_eq(
        &cart(&before).routes.entries()[0].matcher,
        &cart(&after).routes.entries()[0].matcher
    ));
    assert!(Arc::ptr_eq(ledger(&before), ledger(&after)));
    assert!(Arc::ptr_eq(own_table(&before), own_table(&after)));
    let workloads = |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>| {
        Arc::clone(&snapshots[&tenant("shop")].directory.workloads)
    };
    assert!(Arc::ptr_eq(&workloads(&before), &workloads(&after)));
}

#[test]
fn a_consumers_route_that_changes_is_seen_by_its_tenant_alone() {
    let [before, after] = before_and_after(|mesh| {
        let route = mesh.routes.values_mut().find(|route| route.name.name.as_str() == "mine").unwrap();
        Arc::make_mut(route).rules[0].name = Some("renamed".into());
    });
    assert_eq!(own_table(&after).entries()[0].rule.name, "renamed");
    assert_eq!(after[&tenant("shop")].version, 2);
    assert!(Arc::ptr_eq(&before[&tenant("bank")], &after[&tenant("bank")]));
    assert!(Arc::ptr_eq(&before[&tenant("shop")].directory, &after[&tenant("shop")].directory));
}

#[test]
fn a_producers_route_that_goes_leaves_the_default() {
    let [before, after] = before_and_after(|mesh| mesh.routes.retain(|name, _| name.name.as_str() != "cart"));
    assert!(cart(&before).routes.default.is_none());
    assert!(cart(&after).routes.default.is_some());
    assert_eq!(cart(&after).protocol, AppProtocol::Undeclared);
    assert!(Arc::ptr_eq(&cart(&before).cluster, &cart(&after).cluster));
}

#[test]
fn what_a_service_said_goes_with_it() {
    let [before, after] = before_and_after(|mesh| {
        mesh.services.remove(&service_name("bank/ledger"));
    });
    let protocol = |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>| {
        snapshots[&tenant("bank")].resolve(&namespace("bank"), at("10.0.1.1:80")).protocol()
    };
    assert_eq!((protocol(&before), protocol(&after)), (AppProtocol::Http1, AppProtocol::Undeclared));
    let directory =
        |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>| Arc::clone(&snapshots[&tenant("bank")].directory);
    assert!(directory(&before).is_endpoint(at("10.0.1.1:80")));
    assert!(!directory(&after).is_endpoint(at("10.0.1.1:80")));
    assert!(!directory(&after).services.contains_key(&at("10.96.0.2:80")));
    assert!(after[&tenant("shop")].consumer_routes.0.is_empty());
}

#[test]
fn pods_come_and_go_and_move() {
    let [_, after] = before_and_after(|mesh| {
        mesh.workloads.retain(|pod, _| pod.name.as_str() != "cart-0");
        add_pod(mesh, "shop/cart-1", "10.0.0.7");
        add_pod(mesh, "bank/new", "10.0.1.2");
    });
    let snapshot = &after[&tenant("shop")];
    let pod = |address| snapshot.pod_at(at(address)).map(ToString::to_string);
    assert_eq!(pod("10.0.0.1:1"), None);
    assert_eq!(pod("10.0.0.2:1"), None);
    assert_eq!(pod("10.0.0.7:1").as_deref(), Some("shop/cart-1"));
    assert_eq!(pod("10.0.1.2:1").as_deref(), Some("bank/new"));
}

#[test]
fn a_backend_that_appears_is_used_by_routes_that_waited_for_it() {
    let mut mesh = mesh();
    add_route(&mut mesh, "shop/r", "shop/cart", vec![rule(vec![], vec![backend("bank/late")])]);
    let mut compiler = Compiler::new();
    let usable = |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>| {
        cart(snapshots).routes.entries()[0].rule.backends[0].cluster.is_some()
    };
    assert!(!usable(&compiler.compile(&mesh)));
    add_service(&mut mesh, "bank/late", "10.96.0.5", AppProtocol::Http1, &["10.0.1.1:80"]);
    assert!(usable(&compiler.compile(&mesh)));
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    let mut mesh = routed();
    let mut compiler = Compiler::new();
    compiler.compile(&mesh);
    add_service(&mut mesh, "bank/passing", "10.96.0.7", AppProtocol::Http1, &["10.0.9.9:80"]);
    let rules = vec![rule(vec![prefix("/passing")], vec![backend("bank/passing")])];
    for (name, parent) in [("bank/passing", "bank/passing"), ("shop/passing", "shop/cart")] {
        add_route(&mut mesh, name, parent, rules.clone());
    }
    compiler.compile(&mesh);
    assert!(format!("{compiler:?}").contains("passing"));
    mesh.services.retain(|name, _| name.name.as_str() != "passing");
    mesh.routes.retain(|name, _| name.name.as_str() != "passing");
    compiler.compile(&mesh);
    let known = format!("{compiler:?}");
    assert!(!known.contains("passing") && !known.contains("10.0.9.9"), "{known}");
}

#[test]
fn a_tenant_that_goes_has_no_snapshot() {
    let [_, after] = before_and_after(|mesh| {
        mesh.tenants.remove(&tenant("bank"));
        mesh.membership.remove(&namespace("bank"));
    });
    assert_eq!(after.keys().collect::<Vec<_>>(), [&tenant("shop")]);
}
