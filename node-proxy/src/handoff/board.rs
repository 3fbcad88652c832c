//! The switchboard: which pods of this node are served by which cell's inbox.
//!
//! Immutable; the supervisor makes a new one when a tree is planted or uprooted or a cell is replaced, and gives it to every cell.
//! So looking somebody up takes no lock, and each cell knows at most one board of the past. A line that is out of date leads to
//! an inbox that refuses: every tree has a number of its own.

use std::{collections::HashMap, sync::Arc};

use config::{model::Workload, name::PodName};

use super::Inbox;

/// All lines of a node.
#[derive(Debug, Default)]
pub struct Board {
    /// Counts up with every board of the daemon.
    pub version: u64,
    lines: HashMap<PodName, Line>,
}

/// How a pod's tree is reached.
#[derive(Debug, Clone)]
pub struct Line {
    /// The pod, with its tenant and its addresses.
    pub workload: Arc<Workload>,
    /// Its tree.
    pub tree: u64,
    /// Of the cell that serves it now.
    pub inbox: Arc<Inbox>,
}

impl Board {
    /// A board with these lines.
    pub fn new(version: u64, lines: impl Iterator<Item = Line>) -> Self {
        Self { version, lines: lines.map(|line| (line.workload.pod.clone(), line)).collect() }
    }

    /// The line of a pod of this node.
    pub fn line(&self, pod: &PodName) -> Option<&Line> {
        self.lines.get(pod)
    }
}
