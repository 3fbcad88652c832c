//! Where this node's pods are: each pod's network namespace, by its UID, as the runtime's own words have it.
//!
//! Two tell of it: the gate, of a pod that is about to start, and the [container runtime](cri), of those that run. Whether a pod is to
//! be captured is nobody's to say here. It must never hold more than a node can have, and never give one sandbox's namespace for another's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use config::{
    name::PodName,
    opt_in::{self, Runtime},
};

use self::listeners::Listeners;
use crate::control::kubernetes::Hear;

pub mod cri;
mod listeners;
pub mod mirror;
mod pods;

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
    /// Whether these are what who made it gave it. Otherwise they were seen on its interfaces, where a pod that may do that puts whatever it
    /// likes, another's address, too: they count only where nobody says anything else.
    pub are_given: bool,
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

impl Handler {
    /// The one word of it by which it is told whether a pod has a kernel of its own: of two, the one that says so. `None` where nothing is
    /// known.
    pub fn word(&self) -> Option<&str> {
        let words = [self.kind.as_str(), self.name.as_str()].into_iter().filter(|word| !word.is_empty());
        let is_own =
            |word: &&str| opt_in::sandbox(&Runtime { handler: Some(word), ..Runtime::default() }).is_some();
        words.clone().find(is_own).or_else(|| words.clone().next())
    }
}

/// `/var/run` is a link to `/run` on every host, by which runtimes call network namespaces, and nothing in a container.
pub fn spelt(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
}

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
    listeners: Listeners,
}

#[derive(Debug, Default)]
struct Known {
    /// By the gate: they may not run yet.
    told: BTreeMap<String, Told>,
    /// By the runtime: they run.
    found: BTreeMap<String, Arc<Sandbox>>,
    /// Somebody has told of all that run.
    is_whole: bool,
}

#[derive(Debug)]
struct Told {
    sandbox: Arc<Sandbox>,
    /// The runtime has listed it once: when it no longer does, it is gone.
    listed: bool,
}

impl Told {
    /// Takes over what the runtime knows better; whether that is anything.
    fn learn(&mut self, found: &Sandbox) -> bool {
        let sandbox = &self.sandbox;
        // What runs it, the plugin is not told; and of a pod with several networks, it may have heard of another one last.
        let is_wrong = |address: &IpAddr| !found.addresses.contains(address);
        let is_elsewhere = found.are_given
            && !found.addresses.is_empty()
            && (!sandbox.are_given || sandbox.addresses.iter().any(is_wrong));
        if found.handler == sandbox.handler && !is_elsewhere {
            return false;
        }
        let sandbox = Arc::make_mut(&mut self.sandbox);
        sandbox.handler = found.handler.clone();
        if is_elsewhere {
            sandbox.addresses.clone_from(&found.addresses);
            sandbox.are_given = true;
        }
        true
    }
}

impl Known {
    /// Whoever had an address of a new sandbox has ended, whether anybody has told of that or not; which pods those are. One that runs all
    /// the same, the runtime finds again.
    fn give_away(&mut self, new: &Sandbox) -> BTreeSet<String> {
        let is_ended = |sandbox: &Sandbox| {
            new.are_given
                && sandbox.uid != new.uid
                && sandbox.addresses.iter().any(|address| new.addresses.contains(address))
        };
        let told = self.told.extract_if(.., |_, told| is_ended(&told.sandbox));
        let mut ended: BTreeSet<String> = told.map(|(uid, _)| uid).collect();
        ended.extend(self.found.extract_if(.., |_, found| is_ended(found)).map(|(uid, _)| uid));
        ended
    }
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

    /// Whether these are addresses that a pod has in its sandbox, by the word of who made that. No pod has a say in it.
    pub fn has(&self, uid: &str, pod: &PodName, addresses: &[IpAddr]) -> bool {
        let is_its = |sandbox: Arc<Sandbox>| {
            sandbox.are_given
                && sandbox.pod == *pod
                && addresses.iter().all(|address| sandbox.addresses.contains(address))
        };
        !addresses.is_empty() && self.of(uid).is_some_and(is_its)
    }

    /// Whether the gate told of it: it is enrolled before it starts, and known before the API server has its addresses.
    pub fn is_told(&self, uid: &str) -> bool {
        self.known().told.contains_key(uid)
    }

    /// Whether all was told once that ran when the daemon started. Before, a pod that is not known may be one of those.
    pub fn is_whole(&self) -> bool {
        self.known().is_whole
    }

    /// From now on it is heard which pods are somewhere else than before, by their UIDs, at once and on whatever thread learns it.
    pub fn hear(&self, hear: Hear) {
        self.0.listeners.add(hear);
    }

    /// Counts up with every change from now on.
    #[cfg(test)]
    pub(in crate::control) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        let (count, counted) = tokio::sync::watch::channel(0);
        self.hear(Arc::new(move |_| count.send_modify(|count| *count += 1)));
        counted
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
        let mut others = known.give_away(&sandbox);
        others.insert(sandbox.uid.clone());
        known.told.insert(sandbox.uid.clone(), Told { sandbox: Arc::new(sandbox), listed: false });
        drop(known);
        self.changed(&others);
        Ok(())
    }

    /// A sandbox is gone. One that has taken its place stays.
    pub fn left(&self, container: &str) {
        self.retain(|of| of != container);
    }

    /// These sandboxes are all that there are; others that the gate told of are gone. What the runtime found, it says itself.
    pub fn only(&self, containers: &[String]) {
        let mut known = self.known();
        let gone = known.told.extract_if(.., |_, told| !containers.contains(&told.sandbox.container));
        let gone: BTreeSet<String> = gone.map(|(uid, _)| uid).collect();
        drop(known);
        self.changed(&gone);
    }

    /// Whoever tells of pods has told of all that there are.
    pub fn all_told(&self) {
        self.known().is_whole = true;
    }

    /// What the runtime runs, all of it: a later one of the same pod has taken an earlier one's place.
    pub fn found(&self, sandboxes: Vec<Arc<Sandbox>>) {
        let found: BTreeMap<_, _> =
            sandboxes.into_iter().take(MOST).map(|sandbox| (sandbox.uid.clone(), sandbox)).collect();
        let mut known = self.known();
        let all = known.found.keys().chain(found.keys());
        let mut others: BTreeSet<String> =
            all.filter(|uid| known.found.get(*uid) != found.get(*uid)).cloned().collect();
        known.told.retain(|uid, told| {
            let listed = found.get(uid).filter(|found| found.container == told.sandbox.container);
            let stays = listed.is_some() || !told.listed;
            if let Some(found) = listed
                && told.learn(found)
            {
                others.insert(uid.clone());
            }
            told.listed |= listed.is_some();
            if !stays {
                others.insert(uid.clone());
            }
            stays
        });
        known.found = found;
        known.is_whole = true;
        drop(known);
        self.changed(&others);
    }

    fn retain(&self, stays: impl Fn(&str) -> bool) {
        let mut known = self.known();
        let told = known.told.extract_if(.., |_, told| !stays(&told.sandbox.container));
        let mut gone: BTreeSet<String> = told.map(|(uid, _)| uid).collect();
        let found = known.found.extract_if(.., |_, found| !stays(&found.container));
        gone.extend(found.map(|(uid, _)| uid));
        drop(known);
        self.changed(&gone);
    }

    fn changed(&self, uids: &BTreeSet<String>) {
        if uids.is_empty() {
            return;
        }
        self.0.listeners.tell(uids);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
