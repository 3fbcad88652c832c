//! What becomes of the configuration when things happen to a cluster, and to its API server.

use config::{finding::Severity, model::Mesh, name::PodName, opt_in::NETNS};
use serde_json::{Value, json};

use super::{
    testing::{Cluster, Faults},
    *,
};
use crate::control::sandboxes::{Handler, Places, Sandbox};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
const SERVICES: &str = "/api/v1/services";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const LONG: Duration = Duration::from_secs(20);
/// Long enough for whatever would be wrong to happen, at the pace of the tests.
const QUIET: Duration = Duration::from_millis(600);
/// What asks for all of a kind has this in it; what looks how far the API server is asks for one.
const LISTS: &str = "limit=2";

fn pace() -> Pace {
    Pace {
        first: Duration::from_millis(20),
        longest: Duration::from_millis(100),
        look: Duration::from_millis(250),
        silence: LONG,
        watch: Duration::from_secs(60),
        page: 2,
        page_bytes: 1 << 20,
    }
}

fn options(cluster: &Cluster) -> Options {
    Options {
        access: cluster.access(),
        watched: kinds::cluster(),
        reading: store::Options::default(),
        capture: None,
    }
}

fn source(cluster: &Cluster) -> KubernetesSource {
    KubernetesSource::start_at(options(cluster), pace()).unwrap()
}

/// A cluster with a namespace and these Services.
fn cluster(services: &[&str]) -> Cluster {
    let cluster = Cluster::start(&[]);
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "shop" } }));
    services.iter().for_each(|name| cluster.put(SERVICES, service(name)));
    cluster
}

fn service(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": { "ports": [{ "port": 80 }] } })
}

fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "cart", "namespace": "shop" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "one" }],
            "rules": [{ "backendRefs": [{ "name": "one", "port": 80 }] }],
        },
    })
}

/// Waits until this is so.
#[track_caller]
fn until(source: &mut KubernetesSource, is_so: impl Fn(&Mesh) -> bool) -> Outcome {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        if let Some(outcome) = source.next(QUIET)
            && is_so(&outcome.mesh)
        {
            return outcome;
        }
    }
    panic!("{:?}", source.store.mesh());
}

#[track_caller]
fn until_services(source: &mut KubernetesSource, services: &[&str]) -> Outcome {
    until(source, |mesh| names(mesh) == services)
}

fn names(mesh: &Mesh) -> Vec<&str> {
    mesh.services.keys().map(|service| service.name.as_str()).collect()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn shown(source: &KubernetesSource, kind: &str) -> Shown {
    source.standing().shown().find(|shown| shown.kind == kind).unwrap()
}

#[test]
fn nothing_is_served_before_all_is_known_and_from_then_on_what_happens() {
    let cluster = cluster(&["one", "two", "three"]);
    cluster.fail(Faults { status: Some(403), ..Faults::default() });
    let mut source = source(&cluster);
    assert!(source.next(QUIET).is_none(), "it may not be read");
    assert!(!source.standing().is_complete());
    cluster.fail(Faults::default());
    let first = until(&mut source, |_| true);
    assert_eq!(names(&first.mesh), ["one", "three", "two"], "all of it at once, from two pages");
    assert!(first.findings.is_empty(), "{:#?}", first.findings);
    cluster.put(SERVICES, service("four"));
    until_services(&mut source, &["four", "one", "three", "two"]);
    cluster.delete(SERVICES, "shop/one");
    until_services(&mut source, &["four", "three", "two"]);
    assert_eq!(shown(&source, "Service").objects, 3);
    assert_eq!(shown(&source, "Service").relists, 0);
    assert!(shown(&source, "Service").errors > 0);
}

#[test]
fn what_is_wrong_with_an_object_is_said_of_it_by_its_name_and_its_last_good_version_stays() {
    let cluster = cluster(&["one"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    let mut wrong = service("one");
    wrong["spec"]["ports"][0]["port"] = json!(99_999);
    cluster.put(SERVICES, wrong);
    let end = Instant::now() + LONG;
    let outcome = loop {
        assert!(Instant::now() < end);
        let Some(outcome) = source.next(QUIET) else { continue };
        if !outcome.findings.is_empty() {
            break outcome;
        }
    };
    assert_eq!(names(&outcome.mesh), ["one"]);
    let rejected = outcome.findings.iter().find(|finding| finding.severity == Severity::Rejected).unwrap();
    let said = rejected.to_string();
    assert!(said.starts_with("Service/shop/one.json:"), "{said}");
    assert!(said.contains("Service shop/one: spec.ports[0].port:"), "{said}");
    assert_eq!(rejected.excerpt.as_deref().map(str::trim), Some("\"port\": 99999"));
}

#[test]
fn a_kind_that_is_not_installed_is_not_waited_for_and_is_found_when_it_is() {
    let cluster = Cluster::start(&[ROUTES]);
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "shop" } }));
    cluster.put(SERVICES, service("one"));
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    assert_eq!(shown(&source, "HTTPRoute").known, Known::NotInstalled);
    cluster.install(ROUTES);
    cluster.put(ROUTES, route());
    until(&mut source, |mesh| mesh.routes.len() == 1);
    assert_eq!(shown(&source, "HTTPRoute").known, Known::All);
}

#[test]
fn a_kind_that_is_taken_out_takes_its_objects_along_only_when_it_is_asked_for_again_in_vain() {
    let cluster = cluster(&["one"]);
    cluster.put(ROUTES, route());
    let mut source = source(&cluster);
    until(&mut source, |mesh| mesh.routes.len() == 1);
    cluster.uninstall(ROUTES);
    let before = cluster.asked(ROUTES, LISTS).len();
    cluster.drop_watches();
    wait_for("a list is asked for", || cluster.asked(ROUTES, LISTS).len() == before + 1);
    assert!(source.next(Duration::from_millis(100)).is_none(), "one answer is none");
    until(&mut source, |mesh| mesh.routes.is_empty());
    assert!(cluster.asked(ROUTES, LISTS).len() >= before + 2);
}

#[test]
fn a_watch_that_breaks_goes_on_from_where_it_was_and_asks_for_nothing_again() {
    let cluster = cluster(&["one"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    cluster.bookmark(SERVICES);
    let lists = cluster.asked(SERVICES, LISTS).len();
    for service in ["three", "two"] {
        let watches = cluster.asked(SERVICES, "watch=1").len();
        cluster.fail(Faults { status: Some(503), ..Faults::default() });
        cluster.drop_watches();
        wait_for("it is tried again", || cluster.asked(SERVICES, "watch=1").len() >= watches + 3);
        assert!(
            source.next(Duration::from_millis(100)).is_none(),
            "an API server that is away changes nothing"
        );
        cluster.put(SERVICES, self::service(service));
        cluster.fail(Faults::default());
        until(&mut source, |mesh| names(mesh).contains(&service));
    }
    assert_eq!(names(source.store.mesh()), ["one", "three", "two"]);
    assert_eq!(cluster.asked(SERVICES, LISTS).len(), lists, "{:?}", cluster.asked(SERVICES, ""));
    assert_eq!(shown(&source, "Service").relists, 0);
}

#[test]
fn what_was_forgotten_is_asked_for_once_and_what_is_not_there_any_more_goes() {
    let cluster = cluster(&["one", "two"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one", "two"]);
    let lists = cluster.asked(SERVICES, LISTS).len();
    cluster.lose(SERVICES, "shop/one");
    assert!(source.next(QUIET).is_none(), "nobody was told");
    cluster.forget();
    cluster.drop_watches();
    until_services(&mut source, &["two"]);
    assert!(source.next(QUIET).is_none(), "and what is the same is no change");
    assert_eq!(cluster.asked(SERVICES, LISTS).len(), lists + 1);
    assert_eq!(shown(&source, "Service").relists, 1);
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away() {
    let cluster = cluster(&["four", "one", "three", "two"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["four", "one", "three", "two"]);
    let second_pages = cluster.asked(SERVICES, "continue=").len();
    cluster.lose(SERVICES, "shop/one");
    cluster.forget();
    cluster.fail(Faults { pages: Some(500), ..Faults::default() });
    cluster.drop_watches();
    wait_for("it breaks off", || cluster.asked(SERVICES, "continue=").len() >= second_pages + 2);
    assert!(source.next(QUIET).is_none());
    cluster.fail(Faults::default());
    until_services(&mut source, &["four", "three", "two"]);
}

#[test]
fn an_api_server_that_was_put_back_to_an_earlier_time_is_asked_for_all_it_has() {
    let cluster = cluster(&["one", "two"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one", "two"]);
    cluster.lose(SERVICES, "shop/one");
    cluster.go_back(7);
    cluster.drop_watches();
    until_services(&mut source, &["two"]);
    cluster.put(SERVICES, service("three"));
    until_services(&mut source, &["three", "two"]);
}

#[test]
fn an_event_that_is_not_understood_is_made_up_for_by_a_list() {
    let cluster = cluster(&["one"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    cluster.lose(SERVICES, "shop/one");
    let object = json!({ "metadata": { "resourceVersion": "9999" } });
    cluster.say(SERVICES, json!({ "type": "RENAMED", "object": object }));
    until_services(&mut source, &[]);
}

#[test]
fn watches_that_end_at_once_are_not_begun_without_a_pause() {
    let cluster = cluster(&["one"]);
    cluster.fail(Faults { short_watches: true, ..Faults::default() });
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    let before = cluster.asked(SERVICES, "watch=1").len();
    thread::sleep(Duration::from_secs(1));
    let begun = cluster.asked(SERVICES, "watch=1").len() - before;
    assert!((3..30).contains(&begun), "{begun} in a second, at pauses of 100 ms");
}

#[test]
fn pages_that_are_too_large_are_asked_for_with_fewer_objects() {
    let cluster = cluster(&["five", "four", "one", "three", "two"]);
    let pace = Pace { page: 500, page_bytes: 600, ..pace() };
    let mut source = KubernetesSource::start_at(options(&cluster), pace).unwrap();
    until_services(&mut source, &["five", "four", "one", "three", "two"]);
    let first = cluster.asked(SERVICES, "limit=500");
    assert_eq!(first.len(), 1, "{first:?}");
}

#[test]
fn a_token_is_shown_to_the_api_server_and_to_nobody_else() {
    let cluster = cluster(&["one"]);
    let mut source = source(&cluster);
    until_services(&mut source, &["one"]);
    assert_eq!(cluster.tokens(), ["Bearer a-secret".to_owned()].into());
    assert!(!format!("{source:?}").contains("a-secret"));
}

#[test]
fn an_api_server_that_is_not_there_yet_is_waited_for_and_a_cluster_that_is_not_named_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let access = Access { kubeconfig: vec![directory.path().join("none")], context: None };
    let gone = Cluster::start(&[]);
    let unnamed = KubernetesSource::start_at(Options { access, ..options(&gone) }, pace()).unwrap_err();
    assert!(unnamed.to_string().contains("--kubeconfig"), "{unnamed}");
    let options = options(&gone);
    let text = std::fs::read_to_string(&options.access.kubeconfig[0]).unwrap();
    let address = gone.address();
    drop(gone);
    let kubeconfig = directory.path().join("config");
    std::fs::write(&kubeconfig, text).unwrap();
    let access = Access { kubeconfig: vec![kubeconfig], context: None };
    let mut source = KubernetesSource::start_at(Options { access, ..options }, pace()).unwrap();
    assert!(source.next(QUIET).is_none(), "nobody is at {address}");
    assert!(shown(&source, "Pod").errors > 0);
}

#[test]
fn a_node_is_given_its_own_pods_that_are_opted_in_and_asks_for_no_others() {
    let cluster = Cluster::start(&[]);
    let labels = json!({ "canopy.mesh/mode": "node" });
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "shop", "labels": labels } }));
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "bank" } }));
    let pod = |namespace: &str, name: &str, node: &str, address: &str| {
        let annotations = json!({ NETNS: format!("/run/netns/{name}") });
        json!({
            "metadata": { "name": name, "namespace": namespace, "annotations": annotations },
            "spec": { "nodeName": node, "containers": [{ "name": "c" }] },
            "status": { "podIP": address },
        })
    };
    cluster.put(PODS, pod("shop", "in", "here", "10.0.0.1"));
    cluster.put(PODS, pod("shop", "elsewhere", "there", "10.0.0.2"));
    cluster.put(PODS, pod("bank", "out", "here", "10.0.0.3"));
    let node: config::name::NodeName = "here".try_into().unwrap();
    let capture = Capture { node: node.clone(), sandboxes: Box::new(Annotated), alone: true };
    let reading = store::Options { node: Some(node), ..store::Options::default() };
    let watched = pods_of("here");
    let options = Options { watched, reading, capture: Some(capture), ..options(&cluster) };
    let mut source = KubernetesSource::start_at(options, pace()).unwrap();
    let outcome = until(&mut source, |_| true);
    let captured = |mesh: &Mesh| -> Vec<String> {
        let here = mesh.workloads.iter().filter(|(_, workload)| workload.netns.is_some());
        here.map(|(pod, _)| pod.to_string()).collect()
    };
    assert_eq!(captured(&outcome.mesh), ["shop/in"]);
    assert!(
        outcome.standings.iter().all(|standing| &*standing.object.kind == "Pod"),
        "{:?}",
        outcome.standings
    );
    let asked = cluster.asked(PODS, "");
    assert!(asked.iter().all(|asked| asked.contains("fieldSelector=spec.nodeName=here")), "{asked:?}");
    assert_eq!(cluster.asked(SERVICES, ""), [""; 0]);
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "shop" } }));
    until(&mut source, |mesh| captured(mesh).is_empty());
}

#[test]
fn nothing_is_served_before_the_runtime_has_said_where_pods_are_and_a_pod_is_taken_the_moment_it_is_known() {
    let cluster = Cluster::start(&[]);
    let labels = json!({ "canopy.mesh/mode": "node" });
    cluster.put(NAMESPACES, json!({ "metadata": { "name": "shop", "labels": labels } }));
    let pod = json!({
        "metadata": { "name": "cart", "namespace": "shop", "uid": "u", "annotations": { NETNS: "/proc/1/ns/net" } },
        "spec": { "nodeName": "here", "containers": [{ "name": "c" }] },
        "status": { "phase": "Pending" },
    });
    cluster.put(PODS, pod);
    let places = Places::default();
    let node: config::name::NodeName = "here".try_into().unwrap();
    let capture = Capture { node: node.clone(), sandboxes: Box::new(places.clone()), alone: true };
    let reading = store::Options { node: Some(node), ..store::Options::default() };
    let options = Options { watched: pods_of("here"), reading, capture: Some(capture), ..options(&cluster) };
    let mut source = KubernetesSource::start_at(options, pace()).unwrap();
    assert!(source.next(QUIET).is_none(), "pods that run could be let go");
    places.found(Vec::new());
    let first = until(&mut source, |_| true);
    assert!(first.mesh.workloads.is_empty(), "its annotation is not believed: {:?}", first.mesh.workloads);
    let sandbox = Sandbox {
        uid: "u".to_owned(),
        pod: PodName::new("shop".try_into().unwrap(), "cart".try_into().unwrap()),
        container: "c".to_owned(),
        netns: Some("/var/run/netns/c".into()),
        addresses: vec!["10.0.0.7".parse().unwrap()],
        are_given: true,
        handler: Handler::default(),
    };
    let begun = Instant::now();
    places.told(sandbox).unwrap();
    let mesh = source.next(LONG).unwrap().mesh;
    let cart = mesh.workloads.values().next().unwrap();
    assert_eq!(cart.netns.as_deref(), Some(std::path::Path::new("/run/netns/c")));
    assert_eq!(cart.addresses.len(), 1, "its status has none yet");
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    places.left("c");
    until(&mut source, |mesh| mesh.workloads.is_empty());
}
