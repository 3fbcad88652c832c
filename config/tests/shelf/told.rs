//! Who is told what of a pod.

use config::{discovery::Resource, model::Workload};

use super::*;

const SECRET: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web}
  annotations: {canopy.mesh/netns: /run/netns/web-1, canopy.mesh/exclude-outbound-ports: '5432'}
spec:
  nodeName: one
  containers:
  - name: c
    livenessProbe: {httpGet: {port: 80, path: /, httpHeaders: [{name: authorization, value: a-secret}]}}
status: {podIP: 10.0.0.1}
";

fn told(resource: &Resource) -> Workload {
    let Type::Workload(workload) = address(resource) else { panic!("{resource:?}") };
    serde_json::from_str(&own(&workload.extensions)).expect("a workload of the model")
}

#[test]
fn what_is_asked_of_a_pod_and_left_alone_is_told_to_its_own_node_alone() {
    let source = Source::of(&[NAMESPACE, SECRET]);
    let get = |reader: &Reader| source.shelf.get(Kind::Address, "c1//Pod/shop/web-1", reader).unwrap();
    let own = get(&reader("one"));
    let pod = told(&own);
    assert_eq!((pod.probes.len(), &pod.exclusions.outbound_ports[..], pod.netns), (1, &[5432][..], None));
    for other in [reader("two"), Reader::default()] {
        let seen = get(&other);
        let pod = told(&seen);
        assert_eq!((pod.probes.len(), &pod.exclusions.outbound_ports[..], pod.netns), (0, &[][..], None));
        assert!(!String::from_utf8_lossy(&seen.body).contains("a-secret"));
        assert_ne!(seen.version, own.version);
    }
}

#[test]
fn a_pod_of_no_known_node_is_told_nobody_as_its_own() {
    let source = Source::of(&[NAMESPACE, &SECRET.replace("nodeName: one", "hostname: one")]);
    for reader in [reader("one"), Reader::default()] {
        let seen = source.shelf.get(Kind::Address, "c1//Pod/shop/web-1", &reader).unwrap();
        assert_eq!(told(&seen).probes, []);
    }
}

#[test]
fn where_a_network_namespace_is_changes_nothing_for_anybody() {
    let mut source = Source::of(&[NAMESPACE, SECRET]);
    let moved = SECRET.replace("/run/netns/web-1", "/run/netns/other");
    assert_eq!(source.edit([("001", moved.as_str())]), [""; 0]);
    let asked = SECRET.replace("a-secret", "another");
    assert_eq!(source.edit([("001", asked.as_str())]), ["Address c1//Pod/shop/web-1"]);
}

#[test]
fn an_object_of_the_model_is_read_back_from_what_it_is_told_as() {
    let mut source = Source::of(&[
        NAMESPACE,
        SECRET,
        SERVICE,
        &policy("p", "{rules: [{from: [{source: {namespaces: [a]}}]}]}"),
    ]);
    let mesh = source.mesh();
    let pod = told(&source.shelf.get(Kind::Address, "c1//Pod/shop/web-1", &reader("one")).unwrap());
    let expected = mesh.workloads.values().map(|pod| Workload { netns: None, ..(**pod).clone() });
    assert_eq!(expected.collect::<Vec<_>>(), [pod]);
    let service = source.service("shop/web.shop.svc.cluster.local");
    let service: config::model::Service = serde_json::from_str(&own(&service.extensions)).unwrap();
    assert_eq!(mesh.services.values().map(|it| &**it).collect::<Vec<_>>(), [&service]);
    let raised: config::model::AuthorizationPolicy =
        serde_json::from_str(&own(&source.policy("shop/p").extensions)).unwrap();
    assert_eq!(mesh.authorization.values().map(|it| &**it).collect::<Vec<_>>(), [&raised]);
    let tenant = messages::Facts::decode(source.get(Kind::Tenant, "ns/shop").body.as_slice()).unwrap();
    let tenant: config::model::Tenant = serde_json::from_str(&tenant.json).unwrap();
    assert_eq!(*mesh.tenants[&tenant.id], tenant);
}

#[test]
fn a_field_that_the_model_does_not_know_is_refused_wherever_it_is() {
    let source = Source::of(&[NAMESPACE, SECRET]);
    let pod = source.shelf.get(Kind::Address, "c1//Pod/shop/web-1", &reader("one")).unwrap();
    let Type::Workload(workload) = address(&pod) else { panic!("{pod:?}") };
    let json = own(&workload.extensions);
    let refused = |from: &str, to: &str| {
        assert!(json.contains(from), "{from} in {json}");
        serde_json::from_str::<Workload>(&json.replacen(from, to, 1)).is_err()
    };
    assert!(!refused("\"uid\"", "\"uid\""));
    for place in
        ["{\"pod\":{", "\"identity\":{", "\"exclusions\":{", "\"probes\":[{", "\"http\":{", "{\"pod\":"]
    {
        let to = if place == "{\"pod\":" {
            "{\"new\":1,\"pod\":".to_owned()
        } else {
            format!("{place}\"new\":1,")
        };
        assert!(refused(place, &to), "{place}");
    }
}
