//! Which resources a change changes: those that say something else, each once, and no others.

use super::*;

const UID: &str = "Address c1//Pod/shop/web-1";
const OTHER: &str = "Address c1//Pod/shop/web-2";
const WEB: &str = "Address shop/web.shop.svc.cluster.local";

fn other() -> String {
    POD.replace("web-1", "web-2").replace("10.0.0.1", "10.0.0.2")
}

/// Two pods behind a Service.
fn source() -> Source {
    let mut source = Source::new();
    source.edit([("ns", NAMESPACE), ("one", POD), ("two", other().as_str()), ("web", SERVICE)]);
    source
}

#[test]
fn the_first_mesh_is_all_new_and_the_same_again_is_nothing() {
    let mut source = Source::new();
    let new = source.edit([("ns", NAMESPACE), ("one", POD), ("two", other().as_str()), ("web", SERVICE)]);
    assert_eq!(new, ["Tenant ns/shop", "Namespace shop", UID, OTHER, WEB]);
    assert_eq!(source.edit([]), [""; 0]);
    let mesh = source.mesh();
    assert_eq!(source.shelf.stock(&Arc::new((*mesh).clone())), [], "another mesh of the same objects");
    let mut anew = (*mesh).clone();
    anew.services.values_mut().for_each(|service| *service = Arc::new((**service).clone()));
    anew.workloads.values_mut().for_each(|pod| *pod = Arc::new((**pod).clone()));
    assert_eq!(source.shelf.stock(&Arc::new(anew)), [], "and one of others that say the same");
}

#[test]
fn each_edit_changes_what_says_something_else_by_it() {
    let selecting =
        |labels: &str| policy("p", &format!("{{selector: {{matchLabels: {labels}}}, rules: [{{}}]}}"));
    let targeting = policy(
        "t",
        "{targetRefs: [{group: '', kind: Service, name: web}], rules: [{to: [{operation: {ports: ['1']}}]}]}",
    );
    let not_ready = POD.replace("status: {", "status: {conditions: [{type: Ready, status: 'False'}], ");
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, \
        spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}}";
    let peers = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: strict, namespace: shop}, \
        spec: {mtls: {mode: STRICT}}}";
    let network = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n, namespace: shop}, \
        spec: {podSelector: {}, policyTypes: [Ingress]}}";
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop}, \
        spec: {hosts: [example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}}";
    let tenant = "{apiVersion: canopy.mesh/v1alpha1, kind: Tenant, metadata: {name: team}, spec: {namespaces: [shop]}}";
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
        metadata: {name: by-hand, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}, \
        endpoints: [{addresses: [10.0.0.2]}], ports: [{port: 1}]}";
    let by_hand = "{apiVersion: v1, kind: Service, metadata: {name: by-hand, namespace: shop}, spec: {ports: [{port: 1}]}}";
    let by_hand_policy =
        policy("h", "{targetRefs: [{group: '', kind: Service, name: by-hand}], rules: [{}]}");
    let (hand, any) = ("Address shop/by-hand.shop.svc.cluster.local", "{rules: [{}]}");
    let mut source = source();
    // One after the other.
    let table: [(&str, &str, &str, &[&str]); 27] = [
        ("a pod's node", "one", &POD.replace("nodeName: one", "nodeName: two"), &[UID]),
        ("and back", "one", POD, &[UID]),
        ("a comment", "one", &format!("# here\n{POD}"), &[]),
        ("a pod that is not ready", "one", &not_ready, &[UID, WEB]),
        ("and is", "one", POD, &[UID, WEB]),
        ("a Service's address", "web", &SERVICE.replace("10.96.0.1", "10.96.0.9"), &[WEB]),
        ("a Service's port", "web", &SERVICE.replace("port: 80", "port: 81"), &[UID, OTHER, WEB]),
        ("and back", "web", SERVICE, &[UID, OTHER, WEB]),
        ("a policy of all names nobody", "p", &policy("p", any), &["Authorization shop/p"]),
        ("one that selects both", "p", &selecting("{app: web}"), &["Authorization shop/p", UID, OTHER]),
        ("one that selects none", "p", &selecting("{app: lost}"), &["Authorization shop/p", UID, OTHER]),
        ("a pod that it selects", "two", &other().replace("app: web", "app: lost"), &[OTHER, WEB]),
        ("and does no more", "two", &other(), &[OTHER, WEB]),
        ("none any more", "p", "", &["Authorization shop/p"]),
        ("one of a Service", "t", &targeting, &["Authorization shop/t", UID, OTHER]),
        // Nobody can tell now who would be behind it, so all are kept by a policy that allows nothing.
        ("without the Service", "web", "", &["Authorization shop/t", UID, OTHER, WEB]),
        (
            "with another selector",
            "web",
            &SERVICE.replace("app: web", "app: x"),
            &["Authorization shop/t", UID, OTHER, WEB],
        ),
        ("with the first", "web", SERVICE, &[UID, OTHER, WEB]),
        ("no policy of a Service", "t", "", &["Authorization shop/t", UID, OTHER]),
        ("a route", "r", route, &["Route HTTPRoute/shop/r"]),
        ("without plaintext", "peers", peers, &["PeerAuthentication shop/strict"]),
        ("of the network", "network", network, &["NetworkPolicy shop/n"]),
        ("outside", "entry", entry, &["ServiceEntry shop/e"]),
        ("a Service of nobody", "hand", by_hand, &[hand]),
        ("its policy", "h", &by_hand_policy, &["Authorization shop/h", UID, OTHER]),
        ("its pods", "slice", slice, &["Authorization shop/h", UID, OTHER, hand]),
        (
            "a tenant",
            "t",
            tenant,
            &["Tenant ns/shop", "Tenant tenant/team", UID, OTHER, "Route HTTPRoute/shop/r"],
        ),
    ];
    let readers = [Reader::default(), reader("one")];
    let look = |source: &Source| readers.each_ref().map(|reader| all(&source.shelf, reader));
    for (row, file, text, expected) in table {
        let before = look(&source);
        let changed = source.edit([(file, text)]);
        assert_eq!(changed, expected, "{row}");
        assert_eq!(changed, differing(&before, &look(&source)), "{row}");
    }
}

#[test]
fn what_is_made_in_another_order_has_the_same_versions() {
    let texts = [
        ("ns", NAMESPACE),
        ("one", POD),
        ("two", &other()),
        ("web", SERVICE),
        ("p", &policy("p", "{rules: [{}]}")),
    ];
    let mut forwards = Source::new();
    texts.iter().for_each(|text| drop(forwards.edit([*text])));
    let mut backwards = Source::new();
    texts.iter().rev().for_each(|text| drop(backwards.edit([*text])));
    let all_of = |source: &Source| all(&source.shelf, &Reader::default());
    assert_eq!(all_of(&forwards), all_of(&backwards));
    assert_eq!(all_of(&forwards).len(), 6);
}

#[test]
fn a_service_that_names_pods_before_they_are_there_is_said_by_them_when_they_come() {
    let mut source = source();
    let whole = source.mesh();
    let mut without = (*whole).clone();
    let (name, pod) = without.workloads.pop_first().unwrap();
    let mut shelf = Shelf::new(site());
    shelf.stock(&Arc::new(without.clone()));
    let uid = "c1//Pod/shop/web-1";
    assert!(shelf.get(Kind::Address, uid, &Reader::default()).is_none());
    assert_eq!(shelf.find("/10.96.0.1").len(), 2, "only what is there");
    assert!(shelf.names(Kind::Address).all(|name| **name != *uid));
    without.workloads.insert(name.clone(), pod);
    assert_eq!(shelf.stock(&Arc::new(without.clone())), [(Kind::Address, Arc::from(uid))]);
    assert_eq!(all(&shelf, &Reader::default()), all(&source.shelf, &Reader::default()));
    without.workloads.remove(&name);
    assert_eq!(shelf.stock(&Arc::new(without.clone())), [(Kind::Address, Arc::from(uid))]);
    without.services.clear();
    assert_eq!(shelf.stock(&Arc::new(without)).len(), 2, "the Service and the pod that is there");
}
