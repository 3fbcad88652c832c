//! Which pods are captured, and what is said of them.

use std::{collections::BTreeMap, sync::Mutex};

use config::{
    opt_in::{NETNS, RUNTIME_HANDLER},
    store::{Options, Outcome, Store},
};
use serde_json::{Value, json};

use super::*;
use crate::control::kubernetes::{kinds, sandboxes::Hear};

/// Where pods are, by UID.
#[derive(Debug, Default, Clone)]
struct Made(std::sync::Arc<Mutex<BTreeMap<String, Placed>>>);

impl Made {
    fn make(&self, uid: &str) {
        self.put(uid, Placed::default());
    }

    fn put(&self, uid: &str, placed: Placed) {
        let netns = Some(format!("/run/netns/{uid}").into());
        self.0.lock().unwrap().insert(uid.to_owned(), Placed { netns, ..placed });
    }
}

impl Sandboxes for Made {
    fn of(&self, pod: &Sandboxed<'_>) -> Option<Placed> {
        self.0.lock().unwrap().get(pod.uid).cloned()
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn changes(&mut self, _hear: Hear) {}
}

fn object(kind: &str, value: Value) -> (PathBuf, Option<Object>) {
    let watched = kinds::cluster().into_iter().find(|watched| watched.resource.kind == kind).unwrap();
    let object = Object::read(watched.resource, watched.resource.versions[0], &value.to_string()).unwrap();
    (object.file.clone(), Some(object))
}

fn namespace(name: &str, mode: Option<&str>) -> (PathBuf, Option<Object>) {
    let labels = mode.map(|mode| json!({ "canopy.mesh/mode": mode }));
    object("Namespace", json!({ "metadata": { "name": name, "labels": labels } }))
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> (PathBuf, Option<Object>) {
    let address = format!("10.0.0.{}", name.as_bytes()[0] - b'a' + 1);
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") },
        "spec": { "nodeName": "here", "containers": [{ "name": "c" }] },
        "status": { "phase": "Running", "podIP": address },
    });
    change(&mut pod);
    object("Pod", pod)
}

fn changes(changes: impl IntoIterator<Item = (PathBuf, Option<Object>)>) -> Pending {
    Pending { changes: changes.into_iter().collect(), ..Pending::default() }
}

fn view(alone: bool) -> (View, Made) {
    let made = Made::default();
    let node = "here".try_into().unwrap();
    let capture = Capture { node, sandboxes: Box::new(made.clone()), alone };
    (View::new(Some(capture)), made)
}

/// What the store makes of what is given.
fn read(view: &View) -> Outcome {
    let node = view.capture.as_ref().map(|capture| capture.node.clone());
    Store::new(Options { of_cluster: true, node, ..Options::default() }).apply(view.files())
}

/// The pods that are captured here, with their network namespaces.
fn given(view: &View) -> Vec<(String, String)> {
    let outcome = read(view);
    let here = outcome.mesh.workloads.iter().filter_map(|(pod, workload)| {
        Some((pod.name.to_string(), workload.netns.as_ref()?.to_str()?.to_owned()))
    });
    here.collect()
}

fn captured(name: &str) -> (String, String) {
    (name.to_owned(), format!("/run/netns/uid-{name}"))
}

#[test]
fn a_pod_is_captured_when_it_is_asked_for_and_its_network_namespace_is_known_in_either_order() {
    let (mut view, made) = view(true);
    view.take(changes([namespace("shop", None), pod("a", |_| {}), pod("b", |_| {})]));
    made.make("uid-a");
    view.take(changes([namespace("bank", Some("node"))]));
    assert_eq!(given(&view), [], "another's label is nothing to it");
    assert!(view.take(Pending { sandboxes: ["uid-a".to_owned()].into(), ..Pending::default() }));
    assert_eq!(given(&view), [], "nobody has asked for it");
    assert!(view.take(changes([namespace("shop", Some("node"))])));
    assert_eq!(given(&view), [captured("a")], "the other's sandbox is waited for");
    made.make("uid-b");
    let sandboxes = ["uid-b".to_owned(), "nobody's".to_owned()].into();
    assert!(view.take(Pending { sandboxes, ..Pending::default() }));
    assert_eq!(given(&view), [captured("a"), captured("b")]);
    let before = view.files().clone();
    assert!(!view.take(changes([namespace("shop", Some("node")), pod("a", |_| {})])), "nothing changed");
    assert_eq!(*view.files(), before);
    assert!(view.take(changes([namespace("shop", None)])));
    assert_eq!(given(&view), []);
}

#[test]
fn a_pod_is_released_by_its_label_by_its_end_and_when_it_is_gone() {
    let (mut view, made) = view(true);
    made.make("uid-a");
    made.make("uid-new");
    view.take(changes([namespace("shop", Some("node")), pod("a", |_| {})]));
    assert_eq!(given(&view), [captured("a")]);
    for change in [
        |pod: &mut Value| pod["metadata"]["labels"] = json!({ "canopy.mesh/mode": "off" }),
        |pod: &mut Value| pod["status"]["phase"] = json!("Succeeded"),
        |pod: &mut Value| pod["spec"]["hostNetwork"] = json!(true),
        |pod: &mut Value| pod["status"]["podIP"] = json!(null),
        |pod: &mut Value| pod["spec"]["nodeName"] = json!("elsewhere"),
        |pod: &mut Value| pod["metadata"]["uid"] = json!("uid-of-one-whose-sandbox-is-not-made"),
        |pod: &mut Value| pod["spec"]["runtimeClassName"] = json!("gvisor"),
    ] {
        assert!(view.take(changes([pod("a", change)])));
        assert_eq!(given(&view), []);
        assert!(view.take(changes([pod("a", |_| {})])));
        assert_eq!(given(&view), [captured("a")]);
    }
    view.take(changes([pod("a", |pod| pod["metadata"]["uid"] = json!("uid-new"))]));
    assert_eq!(given(&view), [("a".to_owned(), "/run/netns/uid-new".to_owned())]);
    assert!(view.take(changes([(PathBuf::from("Pod/shop/a.json"), None)])));
    assert_eq!(given(&view), []);
}

#[test]
fn a_pod_is_judged_again_when_its_runtime_class_becomes_known() {
    let (mut view, made) = view(true);
    made.make("uid-a");
    let fast = |pod: &mut Value| pod["spec"]["runtimeClassName"] = json!("fast");
    view.take(changes([namespace("shop", Some("node")), pod("a", fast)]));
    assert_eq!(given(&view), [captured("a")]);
    let class =
        |handler: &str| object("RuntimeClass", json!({ "metadata": { "name": "fast" }, "handler": handler }));
    assert!(view.take(changes([class("kata-qemu")])));
    assert_eq!(given(&view), []);
    assert!(view.take(changes([class("runc")])));
    assert_eq!(given(&view), [captured("a")]);
}

#[test]
fn a_pod_has_the_addresses_of_its_sandbox_until_its_status_has_them_and_when_it_has_those_of_a_former_one() {
    let (mut view, made) = view(true);
    let starting = |pod: &mut Value| pod["status"] = json!({ "phase": "Pending" });
    view.take(changes([namespace("shop", Some("node")), pod("a", starting)]));
    assert!(!view.files().contains_key(Path::new("Pod/shop/a.json")), "no workload yet");
    let addresses = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    made.put("uid-a", Placed { addresses: addresses.clone(), are_given: true, ..Placed::default() });
    assert!(view.take(Pending { sandboxes: ["uid-a".to_owned()].into(), ..Pending::default() }));
    assert_eq!(given(&view), [captured("a")]);
    let of = |view: &View| read(view).mesh.workloads.values().next().unwrap().addresses.clone();
    assert_eq!(of(&view), addresses);
    let says = |view: &mut View, addresses: &[&str]| {
        let ips: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        let status = json!({ "phase": "Running", "podIP": addresses[0], "podIPs": ips });
        view.take(changes([pod("a", |pod| pod["status"] = status)]));
    };
    says(&mut view, &["10.0.0.7"]);
    assert_eq!(of(&view), addresses[..1], "of this sandbox, the API server's word counts for more");
    // The kubelet says the former one's until this one runs, which waits to be enrolled.
    for former in [&["10.0.0.1"][..], &["10.0.0.7", "fd00::1"], &["10.0.0.1", "fd00::7"]] {
        says(&mut view, former);
        assert_eq!(of(&view), addresses, "{former:?}");
    }
    // Where nobody knows a sandbox's, or it was only seen what it has on its interfaces, what the API server says is all that counts.
    let said: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::7".parse().unwrap()];
    for addresses in [Vec::new(), addresses] {
        made.put("uid-a", Placed { addresses, ..Placed::default() });
        view.take(Pending { sandboxes: ["uid-a".to_owned()].into(), ..Pending::default() });
        assert_eq!(of(&view), said);
    }
}

#[test]
fn a_pod_that_the_runtime_runs_with_a_kernel_of_its_own_is_refused_with_the_reason_whatever_its_class_is_called()
 {
    let (mut view, made) = view(true);
    let runs = |handler: &str| Placed { handler: Some(handler.to_owned()), ..Placed::default() };
    let refusals = |view: &View| {
        let findings = read(view).findings;
        findings.iter().filter(|it| it.message.contains("not captured, and out of the mesh")).count()
    };
    let class = object("RuntimeClass", json!({ "metadata": { "name": "fast" }, "handler": "own" }));
    view.take(changes([namespace("shop", Some("node")), class]));
    for (handler, is_in) in
        [("io.containerd.runsc.v1", false), ("kata", false), ("io.containerd.runc.v2", true)]
    {
        for class in [json!(null), json!("fast")] {
            made.put("uid-a", runs(handler));
            view.take(changes([pod("a", |pod| pod["spec"]["runtimeClassName"] = class.clone())]));
            view.take(Pending { sandboxes: ["uid-a".to_owned()].into(), ..Pending::default() });
            assert_eq!(given(&view).len(), usize::from(is_in), "{handler} {class}");
            assert_eq!(refusals(&view), usize::from(!is_in), "{handler} {class}");
        }
    }
}

#[test]
fn a_node_that_follows_a_control_plane_captures_what_that_calls_meshed_whatever_labels_say_under_a_tenant() {
    let tenant = |egress: &str| {
        object(
            "Tenant",
            json!({ "metadata": { "name": "t" }, "spec": { "namespaces": ["shop"], "egress": egress } }),
        )
    };
    let off = |pod: &mut Value| pod["metadata"]["labels"] = json!({ "canopy.mesh/mode": "off" });
    for (namespace_says, egress, is_in) in [
        (Some("node"), "mesh", true),
        (Some("off"), "mesh", true),
        (None, "mesh", true),
        (Some("node"), "any", false),
    ] {
        let (mut node, made) = view(true);
        let mut plane = View::new(None);
        made.make("uid-a");
        for view in [&mut node, &mut plane] {
            view.take(changes([namespace("shop", namespace_says), tenant(egress), pod("a", off)]));
        }
        assert_eq!(given(&node).len(), usize::from(is_in), "{namespace_says:?} {egress}");
        let meshed = read(&plane).mesh.workloads.values().next().unwrap().meshed;
        assert_eq!(meshed, is_in, "{namespace_says:?} {egress}");
    }
}

#[test]
fn where_all_is_given_pods_elsewhere_are_said_as_they_are_and_sandboxes_by_their_handler() {
    let (mut view, made) = view(false);
    made.make("uid-a");
    let class = object("RuntimeClass", json!({ "metadata": { "name": "fast" }, "handler": "kata" }));
    let elsewhere = pod("b", |pod| {
        pod["spec"]["nodeName"] = json!("elsewhere");
        pod["spec"]["runtimeClassName"] = json!("fast");
        pod["metadata"]["annotations"] = json!({ NETNS: "/run/netns/x", "own": "1" });
        pod["metadata"]["uid"] = json!("uid-a");
        pod["status"]["podIP"] = json!("10.0.0.2");
    });
    view.take(changes([namespace("shop", Some("node")), pod("a", |_| {}), elsewhere, class]));
    assert_eq!(given(&view), [captured("a")]);
    let files: Vec<_> = view.files().keys().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(files, ["Namespace/shop.json", "Pod/shop/a.json", "Pod/shop/b.json"]);
    let FileText::Bytes(text) = &view.files()[Path::new("Pod/shop/b.json")] else { panic!() };
    let said: Value = serde_json::from_slice(text).unwrap();
    assert_eq!(said["metadata"]["annotations"], json!({ RUNTIME_HANDLER: "kata", "own": "1" }));
}
