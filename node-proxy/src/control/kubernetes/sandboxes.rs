//! Where a pod is: a seam, since who makes pods (a container runtime, a CNI plugin) knows it, and Kubernetes does not.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

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

/// Where a pod is, and what it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// The file that names its network namespace; `None` where it has none of its own.
    pub netns: Option<PathBuf>,
    /// Its addresses, which the API server has only later.
    pub addresses: Vec<IpAddr>,
    /// Whether who made it gave it these, so that others that the API server has are of a former one.
    pub are_given: bool,
    /// What runs it, where that is known.
    pub handler: Option<String>,
}

/// Hears the UIDs of pods that have come to be somewhere, are gone, or are somewhere else.
pub type Hear = Arc<dyn Fn(&str) + Send + Sync>;

/// Who knows where the pods of this node are.
pub trait Sandboxes: Send + fmt::Debug {
    /// Where the pod is, if that is known by now. Must not wait.
    fn of(&self, pod: &Sandboxed<'_>) -> Option<Placed>;

    /// Whether it is known of every pod that runs already. Before, nothing is served: a pod that is not known would be let go.
    fn is_whole(&self) -> bool;

    /// From now on `hear` is told of every pod of which [`of`](Self::of) would say something else than before. Called once,
    /// before the first question.
    fn changes(&mut self, hear: Hear);
}

/// Believes the annotation of each pod. Only where nobody writes pods who is not trusted with every network namespace of the node:
/// in tests, and where admission keeps the annotation to administrators.
#[derive(Debug, Default)]
pub struct Annotated;

impl Sandboxes for Annotated {
    fn of(&self, pod: &Sandboxed<'_>) -> Option<Placed> {
        let netns = Some(pod.annotation?.into());
        Some(Placed { netns, ..Placed::default() })
    }

    fn is_whole(&self) -> bool {
        true
    }

    /// An annotation changes with its pod, of which is heard anyway.
    fn changes(&mut self, _hear: Hear) {}
}
