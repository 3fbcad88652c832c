//! What a cell in a process of its own says to the daemon.
//!
//! None of it is believed: a description is shown to operators as the tenant's own word, and an answer that nobody asked for is
//! dropped. It must never be able to make the daemon do anything.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::forest::describe::TreeDescription;

/// A frame of a cell's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// What is there, as it was asked: one tree after the other.
    Described {
        /// The question's number.
        number: u64,
        /// A tree; none after the last.
        tree: Option<Box<TreeDescription>>,
    },
    /// A question of what there is at an address.
    Find(IpAddr),
    /// A question about certificates.
    Certificates(Vec<u8>),
    /// What workloads have used, of which that is news.
    Rows(Vec<RowTold>),
}

/// What one workload has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowTold {
    /// Its tree.
    pub tree: u64,
    /// As its row counts it.
    pub words: Vec<u64>,
}
