//! What the supervisor tells a cell. Bytes, descriptors and plain data only, so that a cell may be a process one day.
//!
//! Each message is complete in itself; a cell that missed none can be told everything again by planting anew.

use std::{sync::Arc, time::Duration};

use config::{model::Workload, name::PodName};
use tokio::sync::oneshot;

use super::describe::TreeDescription;
use crate::{
    capture::Presence,
    handoff::Board,
    snapshot::Snapshot,
    sys::{listen::PodListeners, netns::Netns},
};

/// Messages that may wait for a cell. One that leaves more unread does not serve, and is replaced.
pub(super) const INBOX: usize = 1024;

/// A message to a cell.
#[derive(Debug)]
pub(super) enum ToCell {
    /// Serve a workload.
    Plant(Plant),
    /// Serve a workload no more: take what waits, close the listeners, and end its connections after `grace`.
    Uproot {
        /// The pod.
        pod: PodName,
        /// Its tree.
        tree: u64,
        /// How long its connections may go on.
        grace: Duration,
    },
    /// Reach other tenants' pods by this from now on.
    Board(Arc<Board>),
    /// Decide by this from now on.
    Swap(Arc<Snapshot>),
    /// Hold so many connections at most from now on, each way.
    Share(usize),
    /// Say what is there.
    Describe(oneshot::Sender<Vec<TreeDescription>>),
    /// Listen no more for a workload that is not steered any more, and end its connections after `grace`. The neighbours still
    /// have to reach it.
    Unlisten {
        /// Its tree.
        tree: u64,
        /// How long its connections may go on.
        grace: Duration,
    },
    /// Ask what is there to finish, and say in the ledger when it has; serve what is new as ever.
    Finish,
    /// Accept nothing more, and end when the connections have, or after `grace`.
    Drain {
        /// How long they may go on.
        grace: Duration,
    },
}

/// A tree to plant.
#[derive(Debug)]
pub(super) struct Plant {
    /// The workload.
    pub(super) workload: Arc<Workload>,
    /// Its network namespace.
    pub(super) netns: Netns,
    /// The tree's number.
    pub(super) tree: u64,
    /// Its listeners; the supervisor holds the same sockets.
    pub(super) listeners: PodListeners,
    /// To be held as long as anything of it lives.
    pub(super) presence: Presence,
}
