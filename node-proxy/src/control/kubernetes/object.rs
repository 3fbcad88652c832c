//! One object as the API server sends it: what its file says, and the facts that decide whether a pod is captured.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use config::{
    opt_in::{self, MODE, Mode, NETNS, RUNTIME_HANDLER},
    store::FileText,
};
use serde::Deserialize;

use super::{
    json::{Fields, on_lines, quoted},
    kinds::Resource,
};
use crate::control::sandboxes::mirror::uid_of_sandbox;

/// An object of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) file: PathBuf,
    /// Which version of it; equal only if nothing of it changed.
    pub(super) version: String,
    pub(super) text: FileText,
    pub(super) facts: Facts,
}

/// What is known of an object beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Facts {
    Pod(Box<PodFacts>),
    RuntimeClass { name: String, handler: Option<String> },
    Namespace { mode: Option<Mode> },
    Other,
}

/// By what a pod is found, and what is to be said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) namespace: String,
    pub(super) name: String,
    /// As its node knows it: of a static pod, not that of its mirror.
    pub(super) uid: String,
    pub(super) node: Option<String>,
    pub(super) host_network: bool,
    /// Those that its status has, which may be those of a sandbox that has ended.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) runtime_class: Option<String>,
    pub(super) service_account: Option<String>,
    /// `status.phase`.
    pub(super) phase: Option<String>,
    /// What its label says.
    pub(super) mode: Option<Mode>,
    /// Whether it has the container of a sidecar, as the webhook writes it.
    pub(super) sidecar: bool,
    /// What its annotation says of its network namespace: its author's word.
    pub(super) netns: Option<String>,
}

/// Why something is no object.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    #[error("not an object of Kubernetes: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("an object without a name")]
    Nameless,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    namespace: Option<Cow<'a, str>>,
    uid: Cow<'a, str>,
    resource_version: Cow<'a, str>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    spec: Spec,
    status: Status,
    handler: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    runtime_class_name: Option<String>,
    service_account_name: Option<String>,
    init_containers: Option<Vec<Init>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Init {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    phase: Option<String>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

impl Status {
    fn addresses(&self) -> Vec<IpAddr> {
        let further = self.pod_ips.iter().flatten().filter_map(|one| one.ip.as_ref());
        self.pod_ip.iter().chain(further).filter_map(|address| address.parse().ok()).collect()
    }
}

impl Object {
    /// Reads an object of this kind and version, as it stands in a list or in an event.
    pub(super) fn read(resource: &Resource, version: &str, raw: &str) -> Result<Self, ObjectError> {
        let Head { metadata } = serde_json::from_str(raw)?;
        if metadata.name.is_empty() {
            return Err(ObjectError::Nameless);
        }
        let is_pod = resource.kind == "Pod";
        let said = metadata.annotations.as_ref().filter(|_| is_pod);
        let sandbox = said.map_or(&*metadata.uid, |said| uid_of_sandbox(&metadata.uid, said)).to_owned();
        let text = if raw.len() > MOST_BYTES {
            let why =
                format!("has {} bytes, more than the {MOST_BYTES} that are read: make it smaller", raw.len());
            FileText::Unreadable(Arc::from(why))
        } else {
            let say = Say { uid: (sandbox != metadata.uid).then_some(&*sandbox), ..Say::default() };
            let text = trimmed(raw, (resource.kind, &resource.api_version(version)), say)?;
            FileText::from(if resource.written { on_lines(&text) } else { text }.into_bytes())
        };
        Ok(Self {
            file: resource.file(metadata.namespace.as_deref(), &metadata.name),
            // A name that was given again is another object, whatever its version.
            version: format!("{}/{}", metadata.uid, metadata.resource_version),
            text,
            facts: facts(resource, metadata, sandbox, raw),
        })
    }
}

/// `uid` is that by which a pod's sandbox is called.
fn facts(resource: &Resource, metadata: Meta<'_>, uid: String, raw: &str) -> Facts {
    let Meta { name, namespace, labels, annotations, .. } = metadata;
    let name = name.into_owned();
    let mode = labels.and_then(|mut labels| Mode::of(&labels.remove(MODE)?));
    // What is of another form than ever was says nothing.
    let body = || serde_json::from_str::<Body>(raw).unwrap_or_default();
    match resource.kind {
        "RuntimeClass" => Facts::RuntimeClass { name, handler: body().handler },
        "Namespace" => Facts::Namespace { mode },
        "Pod" => {
            let Body { spec, status, .. } = body();
            let mut annotations = annotations.unwrap_or_default();
            Facts::Pod(Box::new(PodFacts {
                namespace: namespace.unwrap_or_default().into_owned(),
                name,
                uid,
                node: spec.node_name,
                host_network: spec.host_network.unwrap_or(false),
                addresses: status.addresses(),
                runtime_class: spec.runtime_class_name,
                service_account: spec.service_account_name.filter(|name| !name.is_empty()),
                phase: status.phase,
                mode,
                sidecar: spec.init_containers.iter().flatten().any(Init::is_sidecar),
                netns: annotations.remove(NETNS),
            }))
        }
        _ => Facts::Other,
    }
}

impl Init {
    fn is_sidecar(&self) -> bool {
        opt_in::is_sidecar(Some(&self.name), self.restart_policy.as_deref())
    }
}

/// What only a node, or who reads RuntimeClasses, may say of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Say<'a> {
    /// By which UID its sandbox is called, if not by its own.
    pub(super) uid: Option<&'a str>,
    /// Where its network namespace is.
    pub(super) netns: Option<&'a str>,
    /// What runs it.
    pub(super) handler: Option<&'a str>,
    /// The addresses that it has where its status does not say so: not yet, or still those of a former sandbox.
    pub(super) addresses: &'a [IpAddr],
}

/// An object's text without what is not for Canopy, and without what only a node may say of a pod, which `say` is instead.
/// Objects in lists do not say what they are: `of` which kind and version they are.
pub(super) fn trimmed(raw: &str, of: (&str, &str), say: Say<'_>) -> Result<String, serde_json::Error> {
    let mut fields = Fields::of(raw)?;
    let (kind, api_version) = of;
    for (key, value) in [("kind", kind), ("apiVersion", api_version)] {
        if fields.get(key).is_none() {
            fields.0.insert(0, (Cow::Borrowed(key), Cow::Owned(quoted(value))));
        }
    }
    let metadata = fields.get("metadata").map(str::to_owned).unwrap_or_else(|| "{}".to_owned());
    let mut metadata = Fields::of(&metadata)?;
    metadata.remove("managedFields");
    if let Some(uid) = say.uid {
        metadata.set("uid", quoted(uid));
    }
    let annotations = metadata.get("annotations").filter(|text| *text != "null").unwrap_or("{}").to_owned();
    let mut annotations = Fields::of(&annotations)?;
    for key in [LAST_APPLIED, NETNS, RUNTIME_HANDLER] {
        annotations.remove(key);
    }
    for (key, value) in [(NETNS, say.netns), (RUNTIME_HANDLER, say.handler)] {
        if let Some(value) = value {
            annotations.set(key, quoted(value));
        }
    }
    match annotations.0.is_empty() {
        true => metadata.remove("annotations"),
        false => metadata.set("annotations", annotations.to_string()),
    }
    let metadata = metadata.to_string();
    fields.set("metadata", metadata);
    if !say.addresses.is_empty() {
        let status = fields.get("status").filter(|text| *text != "null").unwrap_or("{}").to_owned();
        let mut status = Fields::of(&status)?;
        status.remove("podIP");
        let addresses =
            say.addresses.iter().map(|address| format!("{{\"ip\":{}}}", quoted(&address.to_string())));
        status.set("podIPs", format!("[{}]", addresses.collect::<Vec<_>>().join(",")));
        let status = status.to_string();
        fields.set("status", status);
    }
    Ok(fields.to_string())
}

/// What kubectl keeps of what it was given: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// etcd takes no request of more than 1.5 MiB (`--max-request-bytes`), so an object is larger only where somebody has raised that.
const MOST_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::kubernetes::kinds;

    fn resource(kind: &str) -> &'static Resource {
        kinds::cluster().into_iter().find(|watched| watched.resource.kind == kind).unwrap().resource
    }

    fn text(object: &Object) -> &str {
        match &object.text {
            FileText::Bytes(bytes) => std::str::from_utf8(bytes).unwrap(),
            FileText::Unreadable(why) => why,
            FileText::AsBefore => "as before",
        }
    }

    #[test]
    fn an_object_says_what_it_said_but_for_what_only_the_api_server_and_kubectl_have_use_for() {
        let raw = r#"{"metadata":{"name":"a","namespace":"shop","uid":"u","resourceVersion":"7","managedFields":[{"x":1}],
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","own":"é"}},
            "spec":{"unknown":1.0,"ports":[{"port":80}]},"status":{"loadBalancer":{}}}"#;
        let service = Object::read(resource("Service"), "v1", raw).unwrap();
        assert_eq!(service.file, std::path::Path::new("Service/shop/a.json"));
        assert_eq!(service.version, "u/7");
        let expected =
            "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Service\",\n  \"metadata\": {\n    \"name\": \"a\",";
        assert!(text(&service).starts_with(expected), "{}", text(&service));
        let said: serde_json::Value = serde_json::from_str(text(&service)).unwrap();
        assert_eq!(said["metadata"]["annotations"], serde_json::json!({ "own": "é" }));
        assert_eq!(said["metadata"].get("managedFields"), None);
        assert!(text(&service).contains("\"unknown\": 1.0"), "spelt as it was");
    }

    #[test]
    fn nobody_but_the_node_says_where_a_pod_is_and_what_it_runs_on_and_its_addresses_before_its_status_does()
    {
        let raw = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"shop","uid":"u","labels":{"canopy.mesh/mode":"off"},
            "annotations":{"canopy.mesh/netns":"/proc/1/ns/net","canopy.mesh/runtime-handler":"runc"}},
            "spec":{"nodeName":"n","hostNetwork":true,"serviceAccountName":"s","runtimeClassName":"kata","overhead":{"cpu":"1"}},"status":{"phase":"Failed"}}"#;
        let pod = Object::read(resource("Pod"), "v1", raw).unwrap();
        assert!(!text(&pod).contains("annotations"), "{}", text(&pod));
        let Facts::Pod(facts) = &pod.facts else { panic!("{pod:?}") };
        let owned = |text: &str| Some(text.to_owned());
        let expected = PodFacts {
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
            uid: "u".to_owned(),
            node: owned("n"),
            host_network: true,
            addresses: Vec::new(),
            runtime_class: owned("kata"),
            service_account: owned("s"),
            phase: owned("Failed"),
            mode: Some(Mode::Off),
            sidecar: false,
            netns: owned("/proc/1/ns/net"),
        };
        assert_eq!(**facts, expected);
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let say =
            Say { netns: Some("/run/netns/a\""), handler: Some("runc"), addresses: &addresses, uid: None };
        let told = trimmed(text(&pod), ("Pod", "v1"), say).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let annotations = serde_json::json!({ NETNS: "/run/netns/a\"", RUNTIME_HANDLER: "runc" });
        assert_eq!(told["metadata"]["annotations"], annotations);
        let status =
            serde_json::json!({ "phase": "Failed", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] });
        assert_eq!(told["status"], status);
    }

    #[test]
    fn a_static_pod_is_called_as_its_node_calls_it_and_no_other_kind_is() {
        let raw = r#"{"metadata":{"name":"a-n","namespace":"shop","uid":"u","resourceVersion":"7","annotations":{
            "kubernetes.io/config.mirror":"4f","kubernetes.io/config.hash":"4f"}},"spec":{"nodeName":"n"}}"#;
        let pod = Object::read(resource("Pod"), "v1", raw).unwrap();
        let Facts::Pod(facts) = &pod.facts else { panic!("{pod:?}") };
        let uid = |object: &Object| -> serde_json::Value { serde_json::from_str(text(object)).unwrap() };
        assert_eq!((facts.uid.as_str(), &uid(&pod)["metadata"]["uid"]), ("4f", &serde_json::json!("4f")));
        assert_eq!(pod.version, "u/7", "a mirror that is made anew is another object");
        let service = Object::read(resource("Service"), "v1", raw).unwrap();
        assert_eq!(uid(&service)["metadata"]["uid"], "u");
    }

    #[test]
    fn an_object_that_is_too_large_is_there_and_cannot_be_read() {
        let large = "x".repeat(MOST_BYTES);
        let raw = format!(r#"{{"metadata":{{"name":"a","namespace":"shop"}},"spec":"{large}"}}"#);
        let policy = Object::read(resource("AuthorizationPolicy"), "v1", &raw).unwrap();
        assert!(matches!(&policy.text, FileText::Unreadable(why) if why.contains("make it smaller")));
    }

    #[test]
    fn what_has_no_name_is_no_object() {
        for raw in ["", "[]", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"name":3}}"#] {
            assert!(Object::read(resource("Pod"), "v1", raw).is_err(), "{raw}");
        }
    }
}
