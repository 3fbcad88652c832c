//! Where this node's pods are: each pod's network namespace, by its UID, as the runtime's own words have it.
//!
//! Two tell of it: the gate, of a pod that is about to start, and the [container runtime](cri), of those that run. Whether a pod is to
//! be captured is nobody's to say here. It must never hold more than a node can have, and never give one sandbox's namespace for another's.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use config::name::PodName;
use tokio::sync::watch;

pub mod cri;

/// Most sandboxes that are kept of either teller: a node has some hundred pods.
const MOST: usize = 4096;

/// A pod's sandbox: what all its containers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod's UID, as the kubelet knows it; of a static pod, that of its file, which is not that of its mirror pod.
    pub uid: String,
    /// The pod.
    pub pod: PodName,
    /// The runtime's name for the sandbox: a pod that is started anew has another.
    pub container: String,
    /// The file that names its network namespace; `None` where it has none of its own.
    pub netns: Option<PathBuf>,
    /// Its addresses, before the API server has them.
    pub addresses: Vec<IpAddr>,
    /// What runs it, where that is known.
    pub handler: Handler,
}

/// What runs a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handler {
    /// By its name in the runtime's configuration, as a RuntimeClass names it.
    pub name: String,
    /// By what it is (`io.containerd.runc.v2`), where the runtime says.
    pub kind: String,
}

/// Why no sandbox of its sort can be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is the node's own network.
    #[error("the pod is on the node's network (hostNetwork), which is not one pod's to capture")]
    HostNetwork,
    /// What runs in it has a kernel of its own, of which this one sees packets and no sockets.
    #[error(
        "the pod runs in a sandbox of its own kernel ({0}), in which no connection can be steered: leave it out by the label \
         canopy.mesh/mode: off, or run it with the node's default RuntimeClass"
    )]
    OwnKernel(String),
}

impl Sandbox {
    /// Why it cannot be captured, if so.
    pub fn unfit(&self) -> Option<Unfit> {
        if self.netns.is_none() {
            return Some(Unfit::HostNetwork);
        }
        let Handler { name, kind } = &self.handler;
        let own = [kind, name].into_iter().find(|word| OWN_KERNELS.iter().any(|own| word.contains(own)));
        own.map(|word| Unfit::OwnKernel(word.clone()))
    }
}

/// Parts of the names of handlers and runtimes whose pods have a kernel of their own: gVisor, Kata Containers, Firecracker.
const OWN_KERNELS: [&str; 4] = ["runsc", "gvisor", "kata", "firecracker"];

/// There is no room for one more.
#[derive(Debug, thiserror::Error)]
#[error(
    "{MOST} sandboxes are known already, more than a node can have: are those of former pods ever deleted?"
)]
pub struct Full;

/// All sandboxes of this node that somebody has told of. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the gate: they may not run yet.
    told: BTreeMap<String, Told>,
    /// By the runtime: they run.
    found: BTreeMap<String, Arc<Sandbox>>,
}

#[derive(Debug)]
struct Told {
    sandbox: Arc<Sandbox>,
    /// The runtime has listed it once: when it no longer does, it is gone.
    listed: bool,
}

impl Places {
    /// Where a pod is. Of two sandboxes, the one that was told of by the gate: a pod that is started anew is told of before it runs.
    pub fn of(&self, uid: &str) -> Option<Arc<Sandbox>> {
        let known = self.known();
        known.told.get(uid).map(|told| &told.sandbox).or_else(|| known.found.get(uid)).map(Arc::clone)
    }

    /// Every sandbox.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        let known = self.known();
        let told = known.told.values().map(|told| &told.sandbox);
        let found = known.found.iter().filter(|(uid, _)| !known.told.contains_key(*uid));
        told.chain(found.map(|(_, sandbox)| sandbox)).map(Arc::clone).collect()
    }

    /// Counts up with every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A pod is about to start here.
    pub fn told(&self, sandbox: Sandbox) -> Result<(), Full> {
        let mut known = self.known();
        if known.told.get(&sandbox.uid).is_some_and(|told| *told.sandbox == sandbox) {
            return Ok(());
        }
        if known.told.len() >= MOST {
            // Whose end nobody told, since the daemon was away.
            known.told.retain(|_, told| told.sandbox.netns.as_deref().is_some_and(|path| path.exists()));
        }
        if known.told.len() >= MOST && !known.told.contains_key(&sandbox.uid) {
            return Err(Full);
        }
        let told = Told { sandbox: Arc::new(sandbox), listed: false };
        known.told.insert(told.sandbox.uid.clone(), told);
        drop(known);
        self.changed();
        Ok(())
    }

    /// A sandbox is gone. One that has taken its place stays.
    pub fn left(&self, container: &str) {
        self.retain(|of| of != container);
    }

    /// These sandboxes are all that there are; others that the gate told of are gone. What the runtime found, it says itself.
    pub fn only(&self, containers: &[String]) {
        let mut known = self.known();
        let before = known.told.len();
        known.told.retain(|_, told| containers.contains(&told.sandbox.container));
        let is_less = known.told.len() < before;
        drop(known);
        if is_less {
            self.changed();
        }
    }

    /// What the runtime runs, all of it: a later one of the same pod has taken an earlier one's place.
    pub fn found(&self, sandboxes: Vec<Arc<Sandbox>>) {
        let found: BTreeMap<_, _> =
            sandboxes.into_iter().take(MOST).map(|sandbox| (sandbox.uid.clone(), sandbox)).collect();
        let mut known = self.known();
        let mut is_other = known.found != found;
        known.told.retain(|uid, told| {
            let is_listed = found.get(uid).is_some_and(|found| found.container == told.sandbox.container);
            let stays = is_listed || !told.listed;
            told.listed |= is_listed;
            is_other |= !stays;
            stays
        });
        known.found = found;
        drop(known);
        if is_other {
            self.changed();
        }
    }

    fn retain(&self, stays: impl Fn(&str) -> bool) {
        let mut known = self.known();
        let before = known.told.len() + known.found.len();
        known.told.retain(|_, told| stays(&told.sandbox.container));
        known.found.retain(|_, found| stays(&found.container));
        let is_less = known.told.len() + known.found.len() < before;
        drop(known);
        if is_less {
            self.changed();
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
