//! From meshes to snapshots: who sees what, in which order, and what is shared with the version before.

use std::net::{IpAddr, SocketAddr};

use config::{
    identity::{Identity, TrustDomain},
    model::{
        AppProtocol, Backend, BackendTarget, Budget, Egress, Endpoint, Exclusions, HttpRoute, InvalidBackend,
        Isolation, Labels, Match, Parent, PathMatch, Rule, Service, ServicePort, Tenant, Timeouts, Workload,
    },
    name::{PodName, RouteKind, RouteName, ServiceName},
};

use super::*;
use crate::snapshot::{Destination, ServiceEntry, routes::PathMatcher};

mod grpc_routes;
mod increments;
mod ownership;
mod pods;
mod routes;
mod scale;
mod sharing;
mod told;

/// Two tenants, `shop` with a Service and two pods, `bank` with a pod.
fn mesh() -> Mesh {
    let mut mesh = Mesh { version: 1, ..Mesh::default() };
    for name in ["shop", "bank"] {
        let (id, namespace) = (tenant(name), namespace(name));
        let tenant = Tenant {
            id: id.clone(),
            namespaces: vec![namespace.clone()],
            isolation: Isolation::Thread,
            egress: Egress::Any,
            budget: Budget::default(),
            owner: None,
            left_out: 0,
        };
        mesh.tenants.insert(id.clone(), Arc::new(tenant));
        mesh.membership.insert(namespace, id);
    }
    add_pod(&mut mesh, "shop/cart-0", "10.0.0.1");
    add_pod(&mut mesh, "shop/cart-1", "10.0.0.2");
    add_pod(&mut mesh, "bank/ledger-0", "10.0.1.1");
    add_service(
        &mut mesh,
        "shop/cart",
        "10.96.0.1",
        AppProtocol::Undeclared,
        &["10.0.0.1:8080", "10.0.0.2:8080"],
    );
    mesh
}

fn namespace(name: &str) -> Namespace {
    name.try_into().unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::Namespace(namespace(name))
}

fn service_name(name: &str) -> ServiceName {
    let (namespace, name) = name.split_once('/').unwrap();
    ServiceName::new(namespace.try_into().unwrap(), name.try_into().unwrap())
}

fn add_pod(mesh: &mut Mesh, name: &str, address: &str) {
    let (of, pod) = name.split_once('/').unwrap();
    let pod = PodName::new(namespace(of), pod.try_into().unwrap());
    let identity = Identity {
        trust_domain: TrustDomain::default(),
        namespace: namespace(of),
        service_account: "default".try_into().unwrap(),
    };
    let workload = Workload {
        pod: pod.clone(),
        uid: None,
        tenant: tenant(of),
        identity,
        addresses: vec![address.parse().unwrap()],
        netns: None,
        ports: Vec::new(),
        labels: Labels::new(),
        node: None,
        meshed: false,
        probes: Vec::new(),
        exclusions: Exclusions::default(),
        waypoint: None,
        sidecar: false,
    };
    mesh.workloads.insert(pod, Arc::new(workload));
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), AppProtocol::Undeclared)
}

/// A Service with port 80; headless where `vip` is empty.
fn add_service(mesh: &mut Mesh, name: &str, vip: &str, protocol: AppProtocol, endpoints: &[&str]) {
    let name = service_name(name);
    let endpoints = endpoints.iter().map(|address| endpoint(address)).collect();
    let port = ServicePort { number: 80, name: None, protocol, endpoints };
    let vips = vip.parse().into_iter().collect();
    let service = Service { vips, ports: vec![port], ..Service::new(name.clone()) };
    mesh.services.insert(name, Arc::new(service));
}

fn backend(service: &str) -> Backend {
    let target = BackendTarget::Service { service: service_name(service), port: 80 };
    Backend { weight: 1, target, filters: Vec::new() }
}

fn prefix(path: &str) -> Match {
    Match { path: Some(PathMatch::Prefix(path.into())), ..Match::default() }
}

fn rule(matches: Vec<Match>, backends: Vec<Backend>) -> Rule {
    Rule { name: None, matches, filters: Vec::new(), backends, timeouts: Timeouts::default() }
}

fn add_route(mesh: &mut Mesh, name: &str, parent: &str, rules: Vec<Rule>) {
    add_route_of_age(mesh, name, parent, None, rules);
}

fn add_route_of_age(mesh: &mut Mesh, name: &str, parent: &str, created: Option<i64>, rules: Vec<Rule>) {
    add_route_of_kind(mesh, RouteKind::Http, (name, parent, created), rules);
}

fn add_grpc_route(mesh: &mut Mesh, name: &str, parent: &str, rules: Vec<Rule>) {
    add_route_of_kind(mesh, RouteKind::Grpc, (name, parent, None), rules);
}

fn add_route_of_kind(
    mesh: &mut Mesh,
    kind: RouteKind,
    (name, parent, created): (&str, &str, Option<i64>),
    rules: Vec<Rule>,
) {
    let (of, route) = name.split_once('/').unwrap();
    let name = RouteName::new(kind, namespace(of), route.try_into().unwrap());
    let parents = vec![Parent { service: service_name(parent), port: None }];
    let route = HttpRoute { name: name.clone(), tenant: tenant(of), created, parents, rules };
    mesh.routes.insert(name, Arc::new(route));
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// What callers of `caller` reach at an address.
fn resolve(mesh: &Mesh, caller: &str, address: &str) -> Destination {
    compile(mesh)[&tenant(caller)].resolve(&namespace(caller), at(address))
}

fn entry_of(destination: Destination) -> (Arc<ServiceEntry>, Arc<crate::snapshot::RouteTable>) {
    match destination {
        Destination::Service { entry, routes } => (entry, routes),
        other => panic!("no Service: {other:?}"),
    }
}

#[test]
fn a_destination_is_a_service_a_workload_or_outside() {
    let mesh = mesh();
    for caller in ["shop", "bank"] {
        let (entry, routes) = entry_of(resolve(&mesh, caller, "10.96.0.1:80"));
        assert_eq!(entry.service, service_name("shop/cart"));
        assert_eq!(entry.cluster.endpoints.len(), 2);
        assert!(Arc::ptr_eq(routes.default.as_ref().unwrap(), &entry.cluster));
        assert!(matches!(resolve(&mesh, caller, "10.0.1.1:9"), Destination::Workload { .. }));
        assert!(
            matches!(resolve(&mesh, caller, "10.96.0.1:81"), Destination::Outside),
            "another port of the VIP"
        );
        assert!(matches!(resolve(&mesh, caller, "192.0.2.1:80"), Destination::Outside));
    }
}

#[test]
fn an_ipv4_address_inside_ipv6_is_the_same_address() {
    let mut mesh = mesh();
    add_service(&mut mesh, "bank/mapped", "::ffff:10.96.0.2", AppProtocol::Tcp, &["[::ffff:10.0.1.1]:5432"]);
    assert!(matches!(resolve(&mesh, "shop", "[::ffff:10.96.0.1]:80"), Destination::Service { .. }));
    assert!(matches!(resolve(&mesh, "shop", "[::ffff:10.0.0.1]:80"), Destination::Workload { .. }));
    let (entry, _) = entry_of(resolve(&mesh, "shop", "10.96.0.2:80"));
    assert_eq!(entry.cluster.endpoints[0].address, at("10.0.1.1:5432"));
    let snapshots = compile(&mesh);
    let pod = snapshots[&tenant("shop")].pod_at(at("[::ffff:10.0.1.1]:1"));
    assert_eq!(pod.unwrap().to_string(), "bank/ledger-0");
}

#[test]
fn a_headless_service_is_reached_by_pod_address_and_still_says_what_its_ports_speak() {
    let mut mesh = mesh();
    add_service(&mut mesh, "bank/db", "", AppProtocol::Tcp, &["10.0.1.1:5432"]);
    let snapshots = compile(&mesh);
    let directory = &snapshots[&tenant("bank")].directory;
    assert_eq!(directory.services.len(), 1, "only the Service with a VIP");
    assert!(directory.is_endpoint(at("10.0.1.1:5432")));
    assert_eq!(resolve(&mesh, "shop", "10.0.1.1:5432").protocol(), AppProtocol::Tcp);
    assert_eq!(resolve(&mesh, "shop", "10.0.1.1:5433").protocol(), AppProtocol::Undeclared);
}

#[test]
fn services_that_disagree_about_a_port_are_not_believed() {
    let agreed = [
        ("both", AppProtocol::Http1, AppProtocol::Http1, AppProtocol::Http1),
        ("one says nothing", AppProtocol::Undeclared, AppProtocol::Http2, AppProtocol::Http2),
        ("they differ", AppProtocol::Http1, AppProtocol::Tcp, AppProtocol::Undeclared),
    ];
    for (name, one, other, expected) in agreed {
        let mut mesh = mesh();
        add_service(&mut mesh, "bank/one", "10.96.0.3", one, &["10.0.1.1:80"]);
        add_service(&mut mesh, "bank/other", "10.96.0.4", other, &["10.0.1.1:80"]);
        assert_eq!(resolve(&mesh, "bank", "10.0.1.1:80").protocol(), expected, "{name}");
    }
}

#[test]
fn an_endpoint_says_more_than_its_service() {
    let mut mesh = mesh();
    let cart = Arc::make_mut(mesh.services.get_mut(&service_name("shop/cart")).unwrap());
    cart.ports[0].protocol = AppProtocol::Http1;
    cart.ports[0].endpoints[1].protocol = AppProtocol::Http2;
    assert_eq!(resolve(&mesh, "shop", "10.0.0.1:8080").protocol(), AppProtocol::Http1);
    assert_eq!(resolve(&mesh, "shop", "10.0.0.2:8080").protocol(), AppProtocol::Http2);
}

#[test]
fn an_endpoint_that_is_listed_twice_counts_once_and_is_ready_if_either_says_so() {
    let mut mesh = mesh();
    let cart = Arc::make_mut(mesh.services.get_mut(&service_name("shop/cart")).unwrap());
    cart.ports[0].endpoints = vec![endpoint("10.0.0.1:8080"), endpoint("[::ffff:10.0.0.1]:8080")];
    cart.ports[0].endpoints[0].ready = false;
    let (entry, _) = entry_of(resolve(&mesh, "shop", "10.96.0.1:80"));
    assert_eq!(entry.cluster.endpoints.len(), 1);
    assert!(entry.cluster.endpoints[0].ready);
}

#[test]
fn an_address_that_two_pods_claim_is_the_one_on_this_machine() {
    let mut mesh = mesh();
    add_pod(&mut mesh, "shop/zombie", "10.0.0.1");
    let pod = |mesh: &Mesh| compile(mesh)[&tenant("shop")].pod_at(at("10.0.0.1:1")).unwrap().to_string();
    assert_eq!(pod(&mesh), "shop/cart-0", "the first by name");
    let zombie = mesh.workloads.iter_mut().find(|(name, _)| name.name.as_str() == "zombie").unwrap().1;
    Arc::make_mut(zombie).netns = Some("/run/netns/zombie".into());
    assert_eq!(pod(&mesh), "shop/zombie");
}

#[test]
fn egress_is_the_tenants_own() {
    let mut mesh = mesh();
    Arc::make_mut(mesh.tenants.get_mut(&tenant("bank")).unwrap()).egress = Egress::Mesh;
    let snapshots = compile(&mesh);
    assert_eq!(snapshots[&tenant("bank")].egress, Egress::Mesh);
    assert_eq!(snapshots[&tenant("shop")].egress, Egress::Any);
}

#[test]
fn a_budget_or_an_isolation_that_changes_is_a_new_snapshot_for_its_tenant_alone() {
    let mut mesh = mesh();
    let mut compiler = Compiler::default();
    let before = compiler.compile(&mesh);
    let bank = Arc::make_mut(mesh.tenants.get_mut(&tenant("bank")).unwrap());
    bank.budget.connections = Some(7);
    let budgeted = compiler.compile(&mesh);
    assert_eq!(budgeted[&tenant("bank")].budget.connections, Some(7));
    Arc::make_mut(mesh.tenants.get_mut(&tenant("bank")).unwrap()).isolation = Isolation::Process;
    let isolated = compiler.compile(&mesh);
    assert_eq!(isolated[&tenant("bank")].isolation, Isolation::Process);
    assert!(Arc::ptr_eq(&before[&tenant("shop")], &isolated[&tenant("shop")]));
}

#[test]
fn without_budgets_none_is_in_a_snapshot_nor_told_to_a_cell_that_compiles_for_itself() {
    let mut mesh = mesh();
    let bank = Arc::make_mut(mesh.tenants.get_mut(&tenant("bank")).unwrap());
    (bank.budget.connections, bank.isolation) = (Some(7), Isolation::Process);
    let mut compiler = Compiler::for_node(Arc::default()).without_budgets();
    let compiled = compiler.compile(&mesh);
    let snapshot = &compiled[&tenant("bank")];
    assert_eq!(snapshot.budget, Budget::default());
    let told = &snapshot.source.as_ref().unwrap().mesh.tenants[&tenant("bank")];
    assert_eq!((told.budget, told.isolation), (Budget::default(), Isolation::Process));
    assert!(Arc::ptr_eq(snapshot, &compiler.compile(&mesh)[&tenant("bank")]));
}

#[test]
fn a_tenant_that_had_a_process_is_still_told_what_changes_so_that_one_that_leaves_hears_it() {
    let (mut mesh, mut compiler) = (mesh(), Compiler::for_node(Arc::default()));
    let mut is_told = |isolation: Isolation| {
        Arc::make_mut(mesh.tenants.get_mut(&tenant("bank")).unwrap()).isolation = isolation;
        let source = compiler.compile(&mesh)[&tenant("bank")].source.clone();
        source.map(|source| source.mesh.tenants[&tenant("bank")].isolation)
    };
    assert_eq!(is_told(Isolation::Thread), None, "nobody is there to be told");
    assert_eq!(is_told(Isolation::Process), Some(Isolation::Process));
    assert_eq!(is_told(Isolation::Thread), Some(Isolation::Thread));
}

#[test]
fn a_pod_of_this_machine_knows_for_which_services_it_answers() {
    let mut mesh = mesh();
    let pod = service_name("shop/cart-0");
    let pod = PodName::new(pod.namespace, pod.name);
    Arc::make_mut(mesh.workloads.get_mut(&pod).unwrap()).netns = Some("/run/netns/cart-0".into());
    add_service(&mut mesh, "shop/headless", "", AppProtocol::Tcp, &["10.0.0.1:9000"]);
    let snapshots = compile(&mesh);
    let snapshot = &snapshots[&tenant("shop")];
    let at = |pod: &str, service: (&str, &str, u16)| {
        let entry = snapshot.directory.workloads.get(&pod.parse().unwrap()).unwrap();
        snapshot.answer(&entry.workload, pod.parse().unwrap(), service).map(|at| at.to_string())
    };
    assert_eq!(at("10.0.0.1", ("cart", "shop", 80)).as_deref(), Some("10.0.0.1:8080"));
    assert_eq!(at("10.0.0.1", ("headless", "shop", 80)).as_deref(), Some("10.0.0.1:9000"));
    for other in [("cart", "shop", 81), ("cart", "bank", 80), ("ledger", "shop", 80)] {
        assert_eq!(at("10.0.0.1", other), None, "{other:?}");
    }
    assert_eq!(at("10.0.0.2", ("cart", "shop", 80)), None, "it is on another machine");
    add_service(&mut mesh, "shop/cart", "10.96.0.1", AppProtocol::Undeclared, &["10.0.0.2:8080"]);
    let later = compile(&mesh);
    let entry = &later[&tenant("shop")].directory.workloads[&"10.0.0.1".parse::<IpAddr>().unwrap()];
    assert_eq!(entry.answers.len(), 1, "it is no endpoint any more");
}
