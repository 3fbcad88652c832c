//! A route cannot loop: a backend is its endpoints, and what goes to an endpoint asks no route, neither on its way nor where
//! it arrives.

use http::Request;

use super::{
    Destination, Snapshot, at, compile, files, namespace,
    said::{
        objects::route,
        scene::{self, Text},
    },
    store,
};
use crate::{
    route::{Decision, decide, mirrors},
    snapshot::Cluster,
};

fn with(routes: &[(&str, String)]) -> Vec<Text> {
    let of = |(of, spec): &(&str, String)| {
        (format!("{of}-route.yaml"), scene::object("HTTPRoute", of, "name: web", spec))
    };
    let mut files = scene::files();
    files.extend(routes.iter().map(of));
    files
}

/// The Services to whose endpoints a request to a Service goes, with those to which it is copied.
fn reached(snapshot: &Snapshot, caller: &str, service: &str) -> Vec<String> {
    let destination = snapshot.resolve(&namespace(caller), at(&format!("{}:80", scene::vip("web", service))));
    let Destination::Service { routes, .. } = destination else { panic!("{service} is no Service") };
    let (parts, ()) = Request::get("/").body(()).unwrap().into_parts();
    let Decision::Forward(forward) = decide(&routes, &parts, |_| 0) else {
        panic!("{service}: not forwarded")
    };
    let copies = mirrors(&forward, |_| 0).map(|mirror| &mirror.cluster);
    std::iter::once(forward.cluster).chain(copies).map(|cluster| ends(snapshot, caller, cluster)).collect()
}

/// Every endpoint is a pod: an address that no route is attached to, whoever calls it.
fn ends(snapshot: &Snapshot, caller: &str, cluster: &Cluster) -> String {
    assert!(!cluster.endpoints.is_empty());
    for endpoint in cluster.endpoints.iter() {
        let there = snapshot.resolve(&namespace(caller), endpoint.address);
        assert!(matches!(there, Destination::Workload { .. }), "{} leads on: {there:?}", endpoint.address);
    }
    cluster.service.to_string()
}

#[test]
fn a_route_that_leads_back_and_two_that_lead_to_each_other_end_at_the_first_endpoint() {
    let itself = [("bank", route("bank", "bank"))];
    let each_other = [("bank", route("bank", "forum")), ("forum", route("forum", "bank"))];
    let around = [
        ("bank", route("bank", "forum")),
        ("forum", route("forum", "shop")),
        ("shop", route("shop", "bank")),
    ];
    for (what, routes, expected) in [
        // To the backend, and a copy to the Service of the route's own namespace.
        ("itself", &itself[..], ["bank/web", "bank/web"]),
        ("each other", &each_other[..], ["forum/web", "bank/web"]),
        ("a ring of three", &around[..], ["forum/web", "bank/web"]),
    ] {
        let mesh = store().apply(&files(&[&with(routes)])).mesh;
        assert_eq!(mesh.routes.len(), routes.len(), "{what}");
        let snapshots = compile(&mesh);
        for caller in scene::NAMESPACES {
            let snapshot = &snapshots[&mesh.membership[&namespace(caller)]];
            assert_eq!(reached(snapshot, caller, "bank"), expected, "{what}, by {caller}");
        }
    }
}
