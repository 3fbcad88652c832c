//! CPU between cells: shares that are guarantees, caps, and a place for the daemon's own threads.
//!
//! By the first of these that the machine allows: a weight for each cell in one parent cgroup; the scheduling class for
//! whoever has nothing else to do, where it can be left again; and where neither can be had, a cell that takes too much
//! pauses itself between two turns of its loop. Caps are held by a quota of the cgroup, or by such pauses. What was measured
//! of each is in decision 0018.
//!
//! One thread (`watch`) reads the cells' clocks and says who stands where. It must never wait for anybody: a cell that has
//! fallen behind its share is put back by it, whatever else holds still.

pub mod standing;

pub mod pace;

pub mod layout;

pub mod own;

pub mod hierarchy;

pub mod means;

mod outside;

mod placing;

mod watch;

use std::sync::{Arc, OnceLock};

use config::{model::Budget, name::TenantId};

pub use self::{
    hierarchy::{HierarchyError, clear},
    means::Means,
    pace::{Pace, Pacer},
    watch::Enforcement,
};
use super::Ledger;
use crate::sys::clock::ThreadId;

/// A tenant's lanes as the enforcement knows them.
#[derive(Debug, Clone)]
pub struct CellAccount {
    /// Whose they are.
    pub tenant: TenantId,
    /// Each of them; never none.
    pub lanes: Vec<LaneAccount>,
    /// What they may use together.
    pub budget: Budget,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct LaneAccount {
    /// Its thread, once it runs.
    pub thread: Arc<OnceLock<ThreadId>>,
    /// Where it is told how fast it may go.
    pub ledger: Arc<Ledger>,
}

/// CPUs that the daemon may run on.
pub fn cpus() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| usize::try_from(set.count()).unwrap_or(1).max(1))
}

/// The share, in thousandths of a CPU, that a tenant has the weight of whose budget says none.
pub const DEFAULT_SHARE_MILLIS: u64 = 100;
/// What is kept for the daemon's own threads, in thousandths of a CPU.
pub const RESERVE_MILLIS: u64 = 100;

/// What a budget's share weighs.
pub fn share_millis(budget: &Budget) -> u64 {
    budget.cpu_share_millis.unwrap_or(DEFAULT_SHARE_MILLIS).max(1)
}
