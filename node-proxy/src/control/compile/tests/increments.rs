//! Whatever changes, in whatever order: what is compiled on top of what was there reads like what is compiled from nothing.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{sharing::assert_same_meaning, *};

/// One object more, another one of its name, or one less.
#[derive(Debug, Clone)]
enum Step {
    Route {
        name: &'static str,
        parents: Vec<(&'static str, Option<u16>)>,
        route: RouteSpec,
    },
    NoRoute(&'static str),
    Service {
        name: &'static str,
        vip: &'static str,
        protocol: AppProtocol,
        ports: Vec<u16>,
        ready: bool,
    },
    NoService(&'static str),
    /// Read again, and the same as before.
    Again,
}

#[derive(Debug, Clone)]
struct RouteSpec {
    created: Option<i64>,
    rules: Vec<(Vec<&'static str>, &'static str)>,
}

const ROUTES: [&str; 5] = ["shop/a", "shop/b", "bank/a", "bank/b", "bank/c"];
const SERVICES: [&str; 3] = ["shop/cart", "bank/ledger", "bank/late"];
const VIPS: [&str; 4] = ["10.96.0.1", "10.96.0.2", "10.96.0.3", ""];
const PREFIXES: [&str; 3] = ["/", "/a", "/a/b"];

fn step() -> impl Strategy<Value = Step> {
    let rule = (vec(select(&PREFIXES[..]), 0..3), select(&SERVICES[..]));
    let created = proptest::option::of(0..2_i64);
    let route = (created, vec(rule, 0..3)).prop_map(|(created, rules)| RouteSpec { created, rules });
    let parent = (select(&SERVICES[..]), proptest::option::weighted(0.4, 80..82_u16));
    let with_route = (select(&ROUTES[..]), vec(parent, 1..3), route)
        .prop_map(|(name, parents, route)| Step::Route { name, parents, route });
    let protocols = [AppProtocol::Http1, AppProtocol::Undeclared, AppProtocol::Tcp];
    let of_service = (select(&VIPS[..]), select(protocols.to_vec()), vec(80..82_u16, 1..3), any::<bool>());
    let with_service =
        (select(&SERVICES[..]), of_service).prop_map(|(name, (vip, protocol, mut ports, ready))| {
            ports.dedup();
            Step::Service { name, vip, protocol, ports, ready }
        });
    prop_oneof![
        4 => with_route,
        2 => select(&ROUTES[..]).prop_map(Step::NoRoute),
        3 => with_service,
        1 => select(&SERVICES[..]).prop_map(Step::NoService),
        1 => Just(Step::Again),
    ]
}

fn apply(mesh: &mut Mesh, step: &Step) {
    mesh.version += 1;
    match step {
        Step::Route { name, parents, route } => {
            let rules = route.rules.iter().map(|(prefixes, target)| {
                rule(prefixes.iter().map(|path| prefix(path)).collect(), vec![backend(target)])
            });
            add_route_of_age(mesh, name, "shop/cart", route.created, rules.collect());
            let parent = |(service, port): &(&str, Option<u16>)| Parent {
                service: service_name(service),
                port: *port,
            };
            let added = mesh.routes.get_mut(&route_name(name)).unwrap();
            Arc::make_mut(added).parents = parents.iter().map(parent).collect();
        }
        Step::NoRoute(name) => drop(mesh.routes.remove(&route_name(name))),
        Step::Service { name, vip, protocol, ports, ready } => {
            add_service(mesh, name, vip, *protocol, &["10.0.0.1:8080"]);
            let service = Arc::make_mut(mesh.services.get_mut(&service_name(name)).unwrap());
            service.ports[0].endpoints[0].ready = *ready;
            let port = |number: &u16| ServicePort { number: *number, ..service.ports[0].clone() };
            service.ports = ports.iter().map(port).collect();
        }
        Step::NoService(name) => drop(mesh.services.remove(&service_name(name))),
        Step::Again => {
            for service in mesh.services.values_mut() {
                *service = Arc::new(Service::clone(service));
            }
            for route in mesh.routes.values_mut() {
                *route = Arc::new(HttpRoute::clone(route));
            }
        }
    }
}

fn route_name(name: &str) -> RouteName {
    let (of, name) = name.split_once('/').unwrap();
    RouteName::new(RouteKind::Http, namespace(of), name.try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_compiled_in_steps_reads_like_what_is_compiled_at_once(
        steps in vec(vec(step(), 1..4), 1..12),
    ) {
        let mut mesh = mesh();
        let mut compiler = Compiler::new();
        for together in steps {
            together.iter().for_each(|step| apply(&mut mesh, step));
            assert_same_meaning(&compiler.compile(&mesh), &compile(&mesh));
        }
    }
}
