//! The sidecar's container: a native one (an init container that stays), first of all, ready before the next begins.
//!
//! What the pod declares is told to it, as no sidecar reads the API server.

use serde_json::{Map, Value, json};

use super::{CANOPY_ROOTS, NAME, RUN, Refusal, TOKEN, Terms};

pub(super) fn container(pod: &Value, terms: &Terms) -> Result<Value, Refusal> {
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": name != RUN });
    let ready = json!({ "path": "/readyz", "port": METRICS });
    Ok(json!({
        "name": NAME,
        "image": terms.image,
        "args": ["sidecar"],
        "restartPolicy": "Always",
        "env": environment(pod, terms),
        "ports": [{ "name": "canopy-metrics", "containerPort": METRICS }],
        "startupProbe": { "httpGet": ready, "periodSeconds": 1, "failureThreshold": 120 },
        "readinessProbe": { "httpGet": ready, "periodSeconds": 5 },
        "resources": resources(pod)?,
        "securityContext": {
            "runAsUser": 0, "runAsGroup": GROUP, "runAsNonRoot": false,
            "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
            // The rules of the pod's own network, the marks of its own sockets, and its callers' addresses.
            "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [mount(RUN, "/run/canopy"), mount(CANOPY_ROOTS, "/etc/canopy/roots"), mount(TOKEN, "/var/run/secrets/canopy")],
    }))
}

fn environment(pod: &Value, terms: &Terms) -> Vec<Value> {
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let (roots, token) = ("/etc/canopy/roots/roots.pem", "/var/run/secrets/canopy/token");
    vec![
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        value("CANOPY_POD", "$(POD_NAMESPACE)/$(POD_NAME)"),
        field("CANOPY_POD_UID", "metadata.uid"),
        field("CANOPY_POD_IP", "status.podIPs"),
        field("CANOPY_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("CANOPY_NODE", "spec.nodeName"),
        field("CANOPY_NODE_IP", "status.hostIP"),
        // The kubelet puts variables in the place of $(NAME).
        value("CANOPY_POD_MANIFEST", &declared(pod).to_string().replace('$', "$$")),
        value("CANOPY_DISCOVERY", &format!("https://{}", terms.control)),
        value("CANOPY_DISCOVERY_ROOT", roots),
        value("CANOPY_DISCOVERY_TOKEN", token),
        value("CANOPY_DISCOVERY_ON_DEMAND", "true"),
        value("CANOPY_CA", &format!("istio:{}", terms.control)),
        value("CANOPY_ISTIO_ROOT", roots),
        value("CANOPY_ISTIO_TOKEN", token),
        value("CANOPY_TRUST_DOMAIN", &terms.trust_domain),
        value("CANOPY_CLUSTER_DOMAIN", &terms.cluster_domain),
        value("CANOPY_ROOT_NAMESPACE", &terms.root_namespace),
        value("CANOPY_LOG_FORMAT", "json"),
    ]
}

/// What of the pod's manifest a proxy heeds, and no more: not who it is, not what its containers run or are told.
fn declared(pod: &Value) -> Value {
    let ours = |key: &String| key.starts_with("canopy.mesh/");
    let annotations = pod["metadata"]["annotations"].as_object();
    let annotations: Map<String, Value> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let of = |list: &str| -> Vec<Value> {
        pod["spec"][list].as_array().into_iter().flatten().map(of_container).collect()
    };
    json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": { "containers": of("containers"), "initContainers": of("initContainers") },
    })
}

fn of_container(container: &Value) -> Value {
    let heeded = ["name", "restartPolicy", "ports", "livenessProbe", "readinessProbe", "startupProbe"];
    let heeded = heeded.into_iter().filter_map(|key| Some((key.to_owned(), container.get(key)?.clone())));
    Value::Object(heeded.collect())
}

/// By the pod's annotations, or by default.
fn resources(pod: &Value) -> Result<Value, Refusal> {
    let mut resources = json!({
        "requests": { "cpu": "10m", "memory": "32Mi" },
        "limits": { "memory": "128Mi" },
    });
    for (key, kind, of) in [
        ("cpu", "requests", "cpu"),
        ("memory", "requests", "memory"),
        ("cpu-limit", "limits", "cpu"),
        ("memory-limit", "limits", "memory"),
    ] {
        let annotation = format!("sidecar.canopy.mesh/{key}");
        let Some(value) = pod["metadata"]["annotations"].get(&annotation) else { continue };
        let text = value.as_str().unwrap_or_default();
        if !is_amount(text) {
            return Err(Refusal::Amount { annotation, value: text.to_owned() });
        }
        resources[kind][of] = text.into();
    }
    Ok(resources)
}

/// Whether it looks like a quantity; what it comes to is the API server's to judge.
fn is_amount(text: &str) -> bool {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let is_number = digits.parse::<f64>().is_ok_and(|number| number.is_finite() && number > 0.0);
    is_number && text.len() <= 16 && text.len() - digits.len() <= 2
}

/// Where the kubelet asks how it is.
const METRICS: u16 = 15020;
/// A group of the sidecar's own: its connections to the control plane pass by the rules for the pod's.
const GROUP: u32 = 15021;
