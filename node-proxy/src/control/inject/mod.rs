//! Sidecars into pods: what a pod that asks for one is made with, as a JSON patch; and the webhook that the API server asks.
//!
//! The patch is a pure function of the pod. It must never change what the pod's author has written but what bears the sidecar's own names, nor
//! touch a pod twice.

use serde_json::{Value, json};

pub use self::serve::{Options, Webhook, WebhookError};
use self::{
    container::{GROUP, container},
    pod::{Pod, Spec, Standing},
    same::is_same,
};

mod bounds;
mod container;
mod pod;
mod review;
mod same;
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
#[derive(Debug, thiserror::Error)]
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
    /// It is of the sidecar's group.
    #[error(
        "the pod, or a container of it, asks for group {GROUP} (runAsGroup, fsGroup or supplementalGroups), which is the sidecar's own and goes \
         around it: take another"
    )]
    Group,
    /// What it declares has no room.
    #[error(
        "labels, annotations canopy.mesh/*, ports and probes of the pod have {0} bytes, more than the {MOST_DECLARED} that its sidecar can be told"
    )]
    Declared(usize),
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
    /// It has another form than a pod.
    #[error("what is to be admitted has not the form of a pod: {0}")]
    Form(#[from] serde_json::Error),
}

/// The patch (RFC 6902) that gives a pod (JSON) its sidecar, which believes these roots (PEM); nothing where it has one.
///
/// What stands there under its names, and is something else, is replaced, whoever wrote it: who carries a pod is not its author's to say.
pub fn patch(pod: &str, terms: &Terms, roots: &str) -> Result<Vec<Value>, Refusal> {
    let mut pod: Pod<'_> = serde_json::from_str(pod)?;
    let mut spec = pod.spec.take().ok_or(Refusal::NoPod)?;
    check(&spec)?;
    let (init, volume_list) = (spec.init_list(), spec.volume_list());
    let own = spec.init()?;
    if own.iter().any(|container| container.is_of(GROUP)) {
        return Err(Refusal::Group);
    }
    let container = container(&pod.metadata, (&spec.take_containers(), &own), terms)?;
    let mut patch = Vec::new();
    // First of those that there are, so that every other container of the pod starts when it serves.
    put(&mut patch, ("initContainers", &init), Some(0), &[container])?;
    put(&mut patch, ("volumes", &volume_list), None, &volumes(terms))?;
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_none() {
        patch.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    if annotations.and_then(|annotations| annotations.get(ROOTS)).is_none_or(|said| said != roots) {
        let key = ROOTS.replace('/', "~1");
        patch.push(json!({ "op": "add", "path": format!("/metadata/annotations/{key}"), "value": roots }));
    }
    Ok(patch)
}

/// Whether it can have one.
fn check(spec: &Spec<'_>) -> Result<(), Refusal> {
    let containers = || spec.containers.iter().flatten();
    if containers().any(|container| container.name == NAME) {
        return Err(Refusal::NameTaken);
    }
    if spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork);
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Err(Refusal::Windows);
    }
    let is_of_group = spec.security_context.as_ref().is_some_and(|groups| groups.has(GROUP));
    if is_of_group || containers().any(|container| container.is_of(GROUP)) {
        return Err(Refusal::Group);
    }
    Ok(())
}

/// Has these in a list of the spec, each once and as it is here: at its beginning, or anywhere.
fn put(
    patch: &mut Vec<Value>,
    (list, there): (&str, &Standing<'_>),
    first: Option<usize>,
    wanted: &[Value],
) -> Result<(), Refusal> {
    let (mut gone, mut missing) = (Vec::new(), Vec::new());
    for one in wanted {
        let places = there.named(one["name"].as_str().unwrap_or_default())?;
        let is_there = match places[..] {
            [place] => {
                first.is_none_or(|first| first == place)
                    && there.at(place).is_some_and(|at| is_same(&at, one))
            }
            _ => false,
        };
        if !is_there {
            gone.extend(places);
            missing.push(one);
        }
    }
    // From behind, so that each is still where it was.
    gone.sort_unstable();
    let remove =
        gone.iter().rev().map(|place| json!({ "op": "remove", "path": format!("/spec/{list}/{place}") }));
    patch.extend(remove);
    if !missing.is_empty() && !there.is_there() {
        patch.push(json!({ "op": "add", "path": format!("/spec/{list}"), "value": [] }));
    }
    let place = if first.is_some() { "0" } else { "-" };
    patch.extend(
        missing
            .iter()
            .map(|one| json!({ "op": "add", "path": format!("/spec/{list}/{place}"), "value": one })),
    );
    Ok(())
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
const NAME: &str = config::opt_in::SIDECAR;
const RUN: &str = "canopy-run";
const CANOPY_ROOTS: &str = "canopy-roots";
const TOKEN: &str = "canopy-token";
/// Bytes of what a pod declares at most: the kernel gives a process no longer variable than 128 KiB, and `$` counts twice.
const MOST_DECLARED: usize = 48 << 10;
/// By which annotation a pod is told the roots: no object of another namespace can be mounted.
const ROOTS: &str = "sidecar.canopy.mesh/roots";
/// The kubelet renews it in time.
const TOKEN_SECONDS: u64 = 3600;
