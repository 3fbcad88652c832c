//! The sidecar's container: a native one (an init container that stays), first of all, ready before the next begins.
//!
//! What the pod declares is told to it, as no sidecar reads the API server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    CANOPY_ROOTS, MOST_DECLARED, NAME, RUN, Refusal, TOKEN, Terms,
    pod::{Container, Metadata},
};

/// Of a pod with these containers, and these init containers beside it.
pub(super) fn container(
    metadata: &Metadata,
    (containers, init): (&[Container], &[Container]),
    terms: &Terms,
) -> Result<Value, Refusal> {
    let declared = declared(metadata, containers, init).to_string();
    if declared.len() > MOST_DECLARED {
        return Err(Refusal::Declared(declared.len()));
    }
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": name != RUN });
    let ready = json!({ "path": "/readyz", "port": METRICS });
    Ok(json!({
        "name": NAME,
        "image": terms.image,
        "args": ["sidecar"],
        "restartPolicy": "Always",
        "env": environment(&declared, terms),
        "ports": [{ "name": "canopy-metrics", "containerPort": METRICS }],
        "startupProbe": { "httpGet": ready, "periodSeconds": 1, "failureThreshold": 120 },
        "readinessProbe": { "httpGet": ready, "periodSeconds": 5 },
        "resources": resources(metadata)?,
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

fn environment(declared: &str, terms: &Terms) -> Vec<Value> {
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
        field("CANOPY_NODE_IP", "status.hostIPs"),
        // The kubelet puts variables in the place of $(NAME).
        value("CANOPY_POD_MANIFEST", &declared.replace('$', "$$")),
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
fn declared(metadata: &Metadata, containers: &[Container], init: &[Container]) -> Value {
    let annotations =
        metadata.annotations.iter().flatten().filter(|(key, _)| key.starts_with("canopy.mesh/"));
    let annotations: BTreeMap<&String, &String> = annotations.collect();
    json!({
        "metadata": { "labels": metadata.labels.clone().unwrap_or_default(), "annotations": annotations },
        "spec": { "containers": containers, "initContainers": init },
    })
}

/// By the pod's annotations, or by default.
fn resources(metadata: &Metadata) -> Result<Value, Refusal> {
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
        let said = metadata.annotations.as_ref().and_then(|annotations| annotations.get(&annotation));
        let Some(text) = said else { continue };
        if !is_amount(text) {
            return Err(Refusal::Amount { annotation, value: text.clone() });
        }
        resources[kind][of] = text.as_str().into();
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
pub(super) const GROUP: u32 = 15021;
