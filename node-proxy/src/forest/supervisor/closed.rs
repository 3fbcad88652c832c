//! Pods that nobody serves and that stay refused: between two trees of one namespace, and those that a daemon which has ended
//! left refused and that cannot be planted.
//!
//! What a pod's own programs do to its namespace may keep it from being planted. It must never open a pod.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use config::{name::PodName, store::Rejected};
use ebpf_redirect::{Parting, Spared};
use tokio::time::Instant;

use super::Supervisor;
use crate::{
    forest::{handover, planting::Planting},
    sys::netns::Netns,
};

impl Supervisor {
    /// Ends a pod's tree in whose namespace another is about to be planted. Should that fail, nobody is let go.
    pub(super) fn clear_for_replanting(&mut self, pod: &PodName, now: Instant) {
        let Some(mut tree) = self.trees.remove(pod) else { return };
        tree.leave(Parting::Closed);
        self.tell_to_uproot(&tree, self.settings.grace, now);
    }

    /// Ends the tree of a pod that was removed, in whose namespace another has proven to be.
    pub(super) fn make_room(&mut self, newcomer: &Planting, now: Instant) {
        let left = handover::left_in(newcomer.netns(), &self.mesh, &self.trees, &self.home);
        for pod in left {
            tracing::info!(%pod, by = %newcomer.workload.pod, "pod removed: its namespace is another's now");
            self.clear_for_replanting(&pod, now);
        }
    }

    /// Lets go of whoever was left refused, unless somebody who is on this node by the configuration, be it by an object that
    /// is rejected, says to be in that namespace.
    pub(super) fn release_unclaimed(&self, rejected: &Rejected) {
        let waiting = self.waiting.values().filter_map(|waiting| waiting.workload.netns.as_deref());
        let found = waiting.chain(rejected.netns.iter().map(|path| &**path)).map(named);
        let namespaces: io::Result<Vec<Option<Netns>>> = found.collect();
        let namespaces: Option<Vec<Netns>> =
            namespaces.ok().filter(|_| !rejected.may_be_more).map(|all| all.into_iter().flatten().collect());
        let descriptors: Option<Vec<BorrowedFd<'_>>> =
            namespaces.as_ref().map(|all| all.iter().map(Netns::as_fd).collect());
        let spared = descriptors.as_deref().map_or(Spared::All, Spared::These);
        match self.settings.redirect.release_unclaimed(spared) {
            Ok(0) => {}
            Ok(pods) => tracing::info!(pods, "pods that nobody names any more are no longer steered"),
            Err(error) => tracing::warn!(%error, "pods that nobody names any more are still steered"),
        }
    }
}

/// The namespace that a file names, if it names one. An error where the machine does not let us see.
fn named(path: &Path) -> io::Result<Option<Netns>> {
    match Netns::open(path) {
        Ok(netns) => Ok(Some(netns).filter(Netns::is_namespace)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}
