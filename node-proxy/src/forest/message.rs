//! What the supervisor tells a cell: a closed set of messages, with a version.
//!
//! Each message is complete in itself; a cell that missed none can be told everything again by planting anew. A message carries
//! descriptors, plain data, what is immutable and shared by count (the snapshot, a workload), the row of the ledger that the cell alone writes, where to answer, and the board with
//! the inboxes that cells put each other's handoffs in; never a connection, its state, or a lock that is held. Between threads of one
//! process nothing is encoded; what each part is between two is in `wire`, and why in decision 0015.

use std::{sync::Arc, time::Duration};

use config::{model::Workload, name::PodName};
use tokio::sync::oneshot;

use super::describe::TreeDescription;
use crate::{
    capture::Presence,
    handoff::Board,
    snapshot::Snapshot,
    sys::{listen::PodListeners, netns::Netns},
    tenancy::Row,
};

/// Of the set of messages. Whoever changes what may be told counts it up: a test compares the set with the one of this version.
pub(super) const VERSION: u32 = 2;
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
    /// Where it is put down what its connections use.
    pub(super) row: Arc<Row>,
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use config::model::Mesh;
    use serde::{Serialize, de::DeserializeOwned};

    use super::*;

    /// What may be told in this version, each with all it carries.
    const SET: &str = "\
        enum ToCell { \
        Plant(Plant), \
        Uproot { pod: PodName, tree: u64, grace: Duration, }, \
        Board(Arc<Board>), \
        Swap(Arc<Snapshot>), \
        Share(usize), \
        Describe(oneshot::Sender<Vec<TreeDescription>>), \
        Unlisten { tree: u64, grace: Duration, }, \
        Finish, \
        Drain { grace: Duration, }, } \
        struct Plant { \
        workload: Arc<Workload>, \
        netns: Netns, \
        tree: u64, \
        listeners: PodListeners, \
        presence: Presence, \
        row: Arc<Row>, }";

    #[test]
    fn the_set_of_messages_is_the_one_of_its_version() {
        let source = include_str!("message.rs").split("#[cfg(test)]").next().unwrap();
        let (_, set) = source.split_once("enum ToCell").unwrap();
        let lines =
            set.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('#'));
        let words: Vec<&str> =
            lines.flat_map(str::split_whitespace).filter(|word| *word != "pub(super)").collect();
        assert_eq!(
            (VERSION, format!("enum ToCell {}", words.join(" "))),
            (2, SET.to_owned()),
            "count up the version"
        );
    }
    /// As long as this compiles. What the rest is between two processes is in decision 0015.
    #[test]
    fn what_a_message_carries_is_data_that_can_be_bytes_or_a_descriptor() {
        fn bytes<T: Serialize + DeserializeOwned>() {}
        fn descriptor<T: AsFd>() {}
        bytes::<(Workload, PodName, u64, usize, Duration)>();
        bytes::<Vec<TreeDescription>>();
        // Of what a snapshot is compiled from, the most.
        bytes::<Mesh>();
        descriptor::<Netns>();
        descriptor::<crate::sys::listen::Listener>();
    }
}
