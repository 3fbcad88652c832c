//! By which names workloads and Services are found.

use super::*;

#[test]
fn pods_and_services_are_found_by_name_and_by_address_and_a_service_brings_its_pods() {
    let node = "{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: shop}, \
        spec: {hostNetwork: true, containers: [{name: c}]}, status: {podIP: 192.0.2.1}}";
    let other = POD.replace("web-1", "web-2").replace("10.0.0.1", "10.0.0.2");
    let lone = POD.replace("web-1", "lone").replace("10.0.0.1", "fd00::3").replace("app: web", "app: lone");
    let source = Source::of(&[NAMESPACE, POD, &other, &lone, SERVICE, node]);
    let service = "shop/web.shop.svc.cluster.local";
    let (one, two, lone) = ("c1//Pod/shop/web-1", "c1//Pod/shop/web-2", "c1//Pod/shop/lone");
    let table: [(&str, &[&str]); 13] = [
        (one, &[one]),
        ("/10.0.0.1", &[one]),
        ("/10.0.0.2", &[two]),
        ("/fd00::3", &[lone]),
        (service, &[service, one, two]),
        ("/10.96.0.1", &[service, one, two]),
        ("", &[]),
        ("/", &[]),
        ("/10.0.0.9", &[]),
        ("10.0.0.1", &[]),
        ("net/10.0.0.1", &[]),
        ("shop/other.shop.svc.cluster.local", &[]),
        // Its address is the node's: it says nothing of who it is.
        ("/192.0.2.1", &[]),
    ];
    for (asked, expected) in table {
        let found = source.shelf.find(asked);
        assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{asked}");
        assert!(found.iter().all(|name| source.shelf.get(Kind::Address, name, &Reader::default()).is_some()));
    }
    assert_eq!(source.shelf.names(Kind::Address).count(), 4);
    assert_eq!(source.get(Kind::Address, one).aliases, ["/10.0.0.1"]);
    assert_eq!(source.get(Kind::Address, service).aliases, ["/10.96.0.1"]);
    assert_eq!(source.get(Kind::Tenant, "ns/shop").aliases, [""; 0]);
}

#[test]
fn what_moved_or_went_is_found_where_it_is_and_nowhere_else() {
    let mut source = Source::of(&[NAMESPACE, POD, SERVICE]);
    source.edit([("001", POD.replace("10.0.0.1", "10.0.0.7").as_str())]);
    assert!(source.shelf.find("/10.0.0.1").is_empty());
    assert_eq!(source.shelf.find("/10.0.0.7").len(), 1);
    source.edit([("001", "")]);
    assert!(source.shelf.find("/10.0.0.7").is_empty());
    assert_eq!(source.shelf.find("/10.96.0.1").len(), 1, "a Service without pods is still one");
}
