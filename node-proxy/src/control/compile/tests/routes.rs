//! Who sees which HTTPRoutes, and in which order they are tried.

use super::*;

/// `ROUTE.RULE` of each entry, in order.
fn order(mesh: &Mesh) -> Vec<String> {
    let (_, routes) = entry_of(resolve(mesh, "bank", "10.96.0.1:80"));
    let name =
        |entry: &crate::snapshot::routes::Entry| format!("{}.{}", entry.rule.route.name, entry.rule.name);
    routes.entries().into_iter().map(name).collect()
}

#[test]
fn a_producers_route_is_for_all_callers_and_makes_an_undeclared_port_http() {
    let mut mesh = mesh();
    add_route(&mut mesh, "shop/split", "shop/cart", vec![rule(vec![], vec![backend("shop/cart")])]);
    for caller in ["shop", "bank"] {
        let destination = resolve(&mesh, caller, "10.96.0.1:80");
        assert_eq!(destination.protocol(), AppProtocol::Http1);
        let (entry, routes) = entry_of(destination);
        assert_eq!(entry.protocol, AppProtocol::Http1);
        assert!(routes.default.is_none());
        assert_eq!(routes.entries().len(), 1);
        assert_eq!(routes.port, 80);
    }
}

#[test]
fn a_consumers_route_is_for_its_own_namespace_only_and_replaces_the_producers() {
    let mut mesh = mesh();
    add_route(&mut mesh, "bank/mine", "shop/cart", vec![rule(vec![], vec![backend("shop/cart")])]);
    let bank = resolve(&mesh, "bank", "10.96.0.1:80");
    assert_eq!(bank.protocol(), AppProtocol::Http1, "HTTP for those who have a route");
    assert_eq!(entry_of(bank).1.entries()[0].rule.route.to_string(), "bank/mine");
    let shop = resolve(&mesh, "shop", "10.96.0.1:80");
    assert_eq!(shop.protocol(), AppProtocol::Undeclared, "as it was for everybody else");
    assert!(entry_of(shop).1.default.is_some());

    add_route(&mut mesh, "shop/theirs", "shop/cart", vec![rule(vec![], vec![backend("shop/cart")])]);
    let (_, routes) = entry_of(resolve(&mesh, "bank", "10.96.0.1:80"));
    assert_eq!(routes.entries().len(), 1, "replaced, not added to");
    assert_eq!(routes.entries()[0].rule.route.to_string(), "bank/mine");
    let (_, routes) = entry_of(resolve(&mesh, "shop", "10.96.0.1:80"));
    assert_eq!(routes.entries()[0].rule.route.to_string(), "shop/theirs");
}

#[test]
fn a_consumers_route_is_not_in_another_tenants_snapshot_at_all() {
    let mut mesh = mesh();
    add_route(&mut mesh, "bank/mine", "shop/cart", vec![rule(vec![], vec![])]);
    let snapshots = compile(&mesh);
    assert!(snapshots[&tenant("shop")].consumer_routes.0.is_empty());
    assert_eq!(snapshots[&tenant("bank")].consumer_routes.0.len(), 1);
}

#[test]
fn a_route_for_one_port_leaves_the_others_alone() {
    let mut mesh = mesh();
    let cart = Arc::make_mut(mesh.services.get_mut(&service_name("shop/cart")).unwrap());
    let other = ServicePort { number: 81, ..cart.ports[0].clone() };
    cart.ports.push(other);
    add_route(&mut mesh, "shop/split", "shop/cart", vec![rule(vec![], vec![])]);
    let both = compile(&mesh);
    let is_routed = |snapshots: &BTreeMap<TenantId, Arc<Snapshot>>, port: u16| {
        let destination = SocketAddr::new(IpAddr::from([10, 96, 0, 1]), port);
        let (_, routes) = entry_of(snapshots[&tenant("shop")].resolve(&namespace("shop"), destination));
        routes.default.is_none()
    };
    assert!(is_routed(&both, 80) && is_routed(&both, 81));
    let route = Arc::make_mut(mesh.routes.values_mut().next().unwrap());
    // Named twice, once by number: still one attachment.
    route.parents = vec![Parent { port: Some(81), ..route.parents[0].clone() }; 2];
    let one = compile(&mesh);
    assert!(!is_routed(&one, 80) && is_routed(&one, 81));
}

#[test]
fn a_port_that_is_declared_to_be_no_http_has_no_routes() {
    let mut mesh = mesh();
    add_service(&mut mesh, "shop/cart", "10.96.0.1", AppProtocol::Tcp, &["10.0.0.1:8080"]);
    add_route(&mut mesh, "shop/split", "shop/cart", vec![rule(vec![], vec![])]);
    let (entry, routes) = entry_of(resolve(&mesh, "bank", "10.96.0.1:80"));
    assert_eq!(entry.protocol, AppProtocol::Tcp);
    assert!(routes.default.is_some());
}

#[test]
fn matches_are_tried_in_the_specifications_order() {
    let mut mesh = mesh();
    let path = |path| Match { path: Some(path), ..Match::default() };
    let header = |name: &str| config::model::HeaderMatch {
        name: name.into(),
        value: config::model::ValueMatch::Exact("1".into()),
    };
    let query =
        config::model::QueryMatch { name: "q".into(), value: config::model::ValueMatch::Exact("1".into()) };
    let matches = [
        ("all", prefix("/")),
        ("regex", path(PathMatch::Regex("/long/.*".into()))),
        ("query", Match { query: vec![query], ..prefix("/a") }),
        ("headers-1", Match { headers: vec![header("a")], ..prefix("/a") }),
        ("headers-2", Match { headers: vec![header("a"), header("b")], ..prefix("/a") }),
        ("method", Match { method: Some("GET".into()), ..prefix("/a") }),
        ("plain", prefix("/a/")),
        ("longer", prefix("/a/b")),
        ("exact", path(PathMatch::Exact("/".into()))),
    ];
    let named = |(name, one): (&str, Match)| Rule { name: Some(name.into()), ..rule(vec![one], vec![]) };
    add_route(&mut mesh, "shop/r", "shop/cart", matches.into_iter().map(named).collect());
    let expected = ["exact", "longer", "method", "headers-2", "headers-1", "query", "plain", "all", "regex"];
    assert_eq!(order(&mesh), expected.map(|name| format!("r.{name}")));
}

#[test]
fn equal_matches_go_by_age_then_by_name_then_by_position() {
    let mut mesh = mesh();
    let rules = || vec![rule(vec![prefix("/x")], vec![]), rule(vec![prefix("/x")], vec![])];
    add_route_of_age(&mut mesh, "shop/a-young", "shop/cart", Some(2000), rules());
    add_route_of_age(&mut mesh, "shop/b-unknown", "shop/cart", None, rules());
    add_route_of_age(&mut mesh, "shop/d-old", "shop/cart", Some(1000), rules());
    add_route_of_age(&mut mesh, "shop/c-old", "shop/cart", Some(1000), rules());
    let expected =
        ["c-old.0", "c-old.1", "d-old.0", "d-old.1", "a-young.0", "a-young.1", "b-unknown.0", "b-unknown.1"];
    assert_eq!(order(&mesh), expected);
}

#[test]
fn a_condition_that_cannot_be_compiled_matches_nothing_and_its_route_still_counts() {
    let table =
        [("no regex", "a("), ("a regex only between brackets", "a)|(b"), ("too large", r"(\w{100}){100}")];
    for (name, pattern) in table {
        let mut mesh = mesh();
        let regex = Match { path: Some(PathMatch::Regex(pattern.into())), ..Match::default() };
        add_route(&mut mesh, "shop/r", "shop/cart", vec![rule(vec![regex], vec![backend("shop/cart")])]);
        let (_, routes) = entry_of(resolve(&mesh, "bank", "10.96.0.1:80"));
        assert!(routes.entries().is_empty() && routes.default.is_none(), "{name}");
    }
}

#[test]
fn a_rule_without_matches_matches_everything() {
    let mut mesh = mesh();
    add_route(&mut mesh, "shop/r", "shop/cart", vec![rule(vec![], vec![])]);
    let (_, routes) = entry_of(resolve(&mesh, "bank", "10.96.0.1:80"));
    assert!(matches!(&routes.entries()[0].matcher.path, PathMatcher::Prefix(all) if all.is_empty()));
}

#[test]
fn weights_add_up_and_what_has_none_is_left_out() {
    let mut mesh = mesh();
    add_service(&mut mesh, "bank/ledger", "10.96.0.9", AppProtocol::Http1, &["10.0.1.1:80"]);
    let weighted = |weight, target| Backend { weight, ..target };
    let invalid = Backend {
        weight: 2,
        target: BackendTarget::Invalid(InvalidBackend::BackendNotFound),
        filters: Vec::new(),
    };
    let backends = vec![
        weighted(3, backend("shop/cart")),
        weighted(0, backend("shop/cart")),
        invalid,
        weighted(5, backend("bank/ledger")),
        weighted(1, backend("bank/vanished")),
    ];
    add_route(&mut mesh, "shop/r", "shop/cart", vec![rule(vec![], backends)]);
    let (_, routes) = entry_of(resolve(&mesh, "bank", "10.96.0.1:80"));
    let compiled = &routes.entries()[0].rule;
    assert_eq!(compiled.total_weight, 11);
    let shares: Vec<_> = compiled
        .backends
        .iter()
        .map(|backend| (backend.cumulative_weight, backend.cluster.as_ref().map(|c| c.service.to_string())))
        .collect();
    let expected =
        [(3, Some("shop/cart".to_owned())), (5, None), (10, Some("bank/ledger".to_owned())), (11, None)];
    assert_eq!(shares, expected);
}

#[test]
fn a_backend_s_mirror_is_its_own_and_follows_its_service() {
    let mut mesh = mesh();
    let mirror = |service: &str| {
        let target = BackendTarget::Service { service: service_name(service), port: 80 };
        config::model::Filter::Mirror(config::model::Mirror { target, numerator: 1, denominator: 0 })
    };
    let copied =
        Backend { filters: vec![mirror("bank/copy"), mirror("bank/vanished")], ..backend("shop/cart") };
    add_route(&mut mesh, "shop/r", "shop/cart", vec![rule(vec![], vec![backend("shop/cart"), copied])]);
    let mut compiler = Compiler::default();
    let mut mirrors = |mesh: &Mesh| {
        let snapshot = Arc::clone(&compiler.compile(mesh)[&tenant("bank")]);
        let destination = snapshot.resolve(&namespace("bank"), "10.96.0.1:80".parse().unwrap());
        let rule = Arc::clone(&entry_of(destination).1.entries()[0].rule);
        assert!(rule.mirrors.is_empty(), "not the rule's");
        let of = |backend: &crate::snapshot::routes::CompiledBackend| {
            let mirrors = backend.mirrors.iter();
            mirrors.map(|mirror| (mirror.cluster.service.to_string(), mirror.denominator)).collect::<Vec<_>>()
        };
        rule.backends.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(mirrors(&mesh), [vec![], vec![]], "nowhere to copy to");
    add_service(&mut mesh, "bank/copy", "10.96.0.9", AppProtocol::Http1, &["10.0.1.1:80"]);
    mesh.version += 1;
    assert_eq!(mirrors(&mesh), [vec![], vec![("bank/copy".to_owned(), 1)]]);
}

#[test]
fn headers_that_frame_messages_cannot_be_edited_and_a_host_only_be_set() {
    use crate::snapshot::routes::HeaderChange;
    let pairs = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
    let framing = [
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
    ];
    let edit = config::model::HeaderEdit {
        set: pairs(&framing),
        add: pairs(&["host", "x-a"]),
        remove: framing.iter().chain(&["host", "x-b"]).map(|name| (*name).to_owned()).collect(),
    };
    let compiled = edits::compile(&[config::model::Filter::RequestHeaders(edit)]);
    let kinds: Vec<_> = compiled
        .request
        .iter()
        .map(|change| match change {
            HeaderChange::Set(name, _) => format!("set {name}"),
            HeaderChange::Add(name, _) => format!("add {name}"),
            HeaderChange::Remove(name) => format!("remove {name}"),
        })
        .collect();
    assert_eq!(kinds, ["add x-a", "remove x-b"], "a host is not set by one who says to add it");
}

#[test]
fn a_header_s_value_may_have_characters_beyond_ascii() {
    use crate::snapshot::routes::HeaderChange;
    let set = vec![("x-a".to_owned(), "caf\u{e9}".to_owned())];
    let edit = config::model::HeaderEdit { set, ..Default::default() };
    let compiled = edits::compile(&[config::model::Filter::RequestHeaders(edit)]);
    let [HeaderChange::Set(_, value)] = &compiled.request[..] else { panic!("{:?}", compiled.request) };
    assert_eq!(value.as_bytes(), "caf\u{e9}".as_bytes());
}
