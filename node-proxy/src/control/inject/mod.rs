//! Sidecars into pods: what a pod that asks for one is made with, as a JSON patch; and the webhook that the API server asks.
//!
//! The patch is a pure function of the pod. It must never change what the pod's author has written, nor touch a pod twice.

use serde_json::{Value, json};

use self::container::container;
pub use self::serve::{Options, Webhook, WebhookError};

mod container;
mod review;
mod serve;

#[cfg(test)]
mod tests;

/// What every sidecar is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The image, which is this one.
    pub image: String,
    /// Where the control plane is found by pods, as HOST:PORT.
    pub control: String,
    /// For whom tokens have to be.
    pub audience: String,
    /// The trust domain of all identities.
    pub trust_domain: String,
    /// What the names of the cluster's Services end in.
    pub cluster_domain: String,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: String,
}

/// Why a pod gets no sidecar, and is refused, since it asked for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It shares the node's network.
    #[error(
        "the pod shares the node's network (hostNetwork), which no sidecar captures: take the label canopy.mesh/mode: sidecar away"
    )]
    HostNetwork,
    /// It is of Windows.
    #[error("the pod is of Windows, and the sidecar of Linux: label it canopy.mesh/mode: off")]
    Windows,
    /// An ordinary container is called as the sidecar is.
    #[error("a container of the pod is called {NAME}, as the sidecar is: give it another name")]
    NameTaken,
    /// An amount is none.
    #[error("the annotation {annotation}: {value:?} is no amount of a resource: say one as 100m or 64Mi")]
    Amount {
        /// Which.
        annotation: String,
        /// What it says.
        value: String,
    },
    /// It is no pod.
    #[error("what is to be admitted is no pod with a spec")]
    NoPod,
}

/// The patch (RFC 6902) that gives a pod its sidecar, which believes these roots (PEM); nothing where it has one.
pub fn patch(pod: &Value, terms: &Terms, roots: &str) -> Result<Vec<Value>, Refusal> {
    let spec = pod.get("spec").filter(|spec| spec.is_object()).ok_or(Refusal::NoPod)?;
    if named(spec, "initContainers") {
        return Ok(Vec::new());
    }
    if named(spec, "containers") {
        return Err(Refusal::NameTaken);
    }
    if spec["hostNetwork"] == true {
        return Err(Refusal::HostNetwork);
    }
    if spec["os"]["name"] == "windows" {
        return Err(Refusal::Windows);
    }
    let mut patch = Vec::new();
    // First of all, so that every other container of the pod starts when it serves.
    insert(&mut patch, spec, "initContainers", "0", [container(pod, terms)?]);
    insert(&mut patch, spec, "volumes", "-", volumes(terms));
    if !pod["metadata"]["annotations"].is_object() {
        patch.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    let key = ROOTS.replace('/', "~1");
    patch.push(json!({ "op": "add", "path": format!("/metadata/annotations/{key}"), "value": roots }));
    Ok(patch)
}

/// Adds to a list of the spec at a place, or makes the list.
fn insert<const N: usize>(patch: &mut Vec<Value>, spec: &Value, list: &str, place: &str, values: [Value; N]) {
    if spec[list].as_array().is_none() {
        patch.push(
            json!({ "op": "add", "path": format!("/spec/{list}"), "value": Value::from(values.to_vec()) }),
        );
        return;
    }
    let path = format!("/spec/{list}/{place}");
    patch.extend(values.into_iter().map(|value| json!({ "op": "add", "path": path, "value": value })));
}

fn named(spec: &Value, list: &str) -> bool {
    spec[list]
        .as_array()
        .is_some_and(|containers| containers.iter().any(|container| container["name"] == NAME))
}

/// Where its sockets are, the roots that it believes, and what it proves itself by.
fn volumes(terms: &Terms) -> [Value; 3] {
    let roots = json!({ "path": "roots.pem", "fieldRef": { "fieldPath": format!("metadata.annotations['{ROOTS}']") } });
    let token = json!({ "path": "token", "audience": terms.audience, "expirationSeconds": TOKEN_SECONDS });
    [
        json!({ "name": RUN, "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
        json!({ "name": CANOPY_ROOTS, "downwardAPI": { "items": [roots] } }),
        json!({ "name": TOKEN, "projected": { "sources": [{ "serviceAccountToken": token }] } }),
    ]
}

/// What the container is called, in every pod.
const NAME: &str = "canopy-sidecar";
const RUN: &str = "canopy-run";
const CANOPY_ROOTS: &str = "canopy-roots";
const TOKEN: &str = "canopy-token";
/// By which annotation a pod is told the roots: no object of another namespace can be mounted.
const ROOTS: &str = "sidecar.canopy.mesh/roots";
/// The kubelet renews it in time.
const TOKEN_SECONDS: u64 = 3600;
