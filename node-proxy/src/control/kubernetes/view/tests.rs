//! Which pods are captured, and what is said of them.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};

use super::*;
use crate::control::kubernetes::{kinds, sandboxes::Hear};

/// Network namespaces by UID.
#[derive(Debug, Default, Clone)]
struct Made(std::sync::Arc<Mutex<BTreeMap<String, PathBuf>>>);

impl Made {
    fn make(&self, uid: &str) {
        self.0.lock().unwrap().insert(uid.to_owned(), format!("/run/netns/{uid}").into());
    }
}

impl Sandboxes for Made {
    fn netns(&self, pod: &Sandboxed<'_>) -> Option<PathBuf> {
        self.0.lock().unwrap().get(pod.uid).cloned()
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
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") },
        "spec": { "nodeName": "here", "containers": [{ "name": "c" }] },
        "status": { "phase": "Running", "podIP": "10.0.0.1" },
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

/// The pods that are given, with their network namespaces.
fn given(view: &View) -> Vec<(String, Option<String>)> {
    let pods = view.files().iter().filter(|(file, _)| file.starts_with("Pod"));
    pods.map(|(file, text)| {
        let FileText::Bytes(text) = text else { panic!("{text:?}") };
        let pod: Value = serde_json::from_slice(text).unwrap();
        let netns = pod["metadata"]["annotations"][NETNS].as_str().map(str::to_owned);
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), netns)
    })
    .collect()
}

fn captured(name: &str) -> (String, Option<String>) {
    (name.to_owned(), Some(format!("/run/netns/uid-{name}")))
}

#[test]
fn a_pod_is_captured_when_it_is_asked_for_and_its_network_namespace_is_known_in_either_order() {
    let (mut view, made) = view(true);
    assert!(!view.take(changes([namespace("shop", None), pod("a", |_| {}), pod("b", |_| {})])));
    made.make("uid-a");
    assert!(!view.take(changes([namespace("bank", Some("node"))])), "another's label is nothing to it");
    assert!(view.take(changes([namespace("shop", Some("node"))])));
    assert_eq!(given(&view), [captured("a")]);
    made.make("uid-b");
    let sandboxes = ["uid-b".to_owned(), "nobody's".to_owned()].into();
    assert!(view.take(Pending { sandboxes, ..Pending::default() }));
    assert_eq!(given(&view), [captured("a"), captured("b")]);
    let before = view.files().clone();
    assert!(!view.take(changes([namespace("shop", Some("node")), pod("a", |_| {})])), "nothing changed");
    assert_eq!(*view.files(), before);
    assert!(view.take(changes([namespace("shop", None)])));
    assert!(view.files().is_empty(), "and no file is given of anything else");
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
    assert_eq!(given(&view), [("a".to_owned(), Some("/run/netns/uid-new".to_owned()))]);
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
fn where_all_is_given_pods_elsewhere_are_said_as_they_are_and_sandboxes_by_their_handler() {
    let (mut view, made) = view(false);
    made.make("uid-a");
    let class = object("RuntimeClass", json!({ "metadata": { "name": "fast" }, "handler": "kata" }));
    let elsewhere = pod("b", |pod| {
        pod["spec"]["nodeName"] = json!("elsewhere");
        pod["spec"]["runtimeClassName"] = json!("fast");
        pod["metadata"]["annotations"] = json!({ NETNS: "/run/netns/x", "own": "1" });
    });
    view.take(changes([namespace("shop", Some("node")), pod("a", |_| {}), elsewhere, class]));
    assert_eq!(given(&view), [captured("a"), ("b".to_owned(), None)]);
    let files: Vec<_> = view.files().keys().map(|file| file.to_str().unwrap()).collect();
    assert_eq!(files, ["Namespace/shop.json", "Pod/shop/a.json", "Pod/shop/b.json"]);
    let FileText::Bytes(text) = &view.files()[Path::new("Pod/shop/b.json")] else { panic!() };
    let said: Value = serde_json::from_slice(text).unwrap();
    assert_eq!(said["metadata"]["annotations"], json!({ RUNTIME_HANDLER: "kata", "own": "1" }));
}
