//! Where a pod's network namespace is: a seam, since who makes pods (a container runtime, a CNI plugin) knows it, and Kubernetes does
//! not.

use std::{fmt, path::PathBuf, sync::Arc};

/// A pod, as who made it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandboxed<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID, which is nobody else's at any time.
    pub uid: &'a str,
    /// What its annotation `canopy.mesh/netns` says: the word of its author, who is not to be trusted with it.
    pub annotation: Option<&'a str>,
}

/// Hears the UIDs of pods whose network namespace has come, gone or changed.
pub type Hear = Arc<dyn Fn(&str) + Send + Sync>;

/// Who knows where the network namespaces of this node's pods are.
pub trait Sandboxes: Send + fmt::Debug {
    /// The file that names the pod's network namespace, if it has one by now. Must not wait.
    fn netns(&self, pod: &Sandboxed<'_>) -> Option<PathBuf>;

    /// From now on `hear` is told of every pod of which [`netns`](Self::netns) would say something else than before. Called once,
    /// before the first question.
    fn changes(&mut self, hear: Hear);
}

/// Believes the annotation of each pod. Only where nobody writes pods who is not trusted with every network namespace of the node:
/// in tests, and where admission keeps the annotation to administrators.
#[derive(Debug, Default)]
pub struct Annotated;

impl Sandboxes for Annotated {
    fn netns(&self, pod: &Sandboxed<'_>) -> Option<PathBuf> {
        pod.annotation.map(PathBuf::from)
    }

    /// An annotation changes with its pod, of which is heard anyway.
    fn changes(&mut self, _hear: Hear) {}
}
