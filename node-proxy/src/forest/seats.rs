//! How many connections a cell may have open: its share of the process's descriptors.
//!
//! Descriptors are the one thing that all cells take from the same table. No tenant may take so many that another's
//! connections are refused: what all cells may hold, and do hold, never adds up to more than there are.

use super::Settings;
use crate::{cell::Limits, tenancy::Holding};

/// Kept for what is no connection: two descriptors of each listener and namespace of a pod, files, what is accepted only to be
/// refused. A quarter, where the limit is low.
fn reserve(descriptors: u64) -> u64 {
    (descriptors / 4).min(8192)
}

/// A cell may have as many sockets to elsewhere as connections that it accepted.
const PER_CONNECTION: u64 = 2;
/// Nobody gets less, also where the limit is so low (`ulimit -n`), or others hold so many, that the shares overlap.
const LEAST: usize = 64;

impl Settings {
    /// Divides the descriptors among so many tenants, unless the operator has said how many connections each may have. One share
    /// is left over, for a tenant that comes later.
    pub(super) fn share_descriptors(&mut self, tenants: usize) {
        let told = self.limits.connections_told;
        self.limits.connections = told.unwrap_or_else(|| share(self.descriptors, tenants));
    }

    /// How many connections there may be besides those that cells hold or may hold.
    pub(super) fn free(&self, committed: impl Iterator<Item = usize>) -> usize {
        let all = if self.limits.connections_told.is_some() { usize::MAX } else { room(self.descriptors) };
        committed.fold(all, usize::saturating_sub)
    }
}

/// What a cell gets that starts while `free` are left, of which the cells of so many tenants, itself among them, are still to get
/// theirs. It may be less than its share, where others have not let go of theirs yet.
pub(super) fn first(share: usize, free: usize, missing: usize) -> usize {
    share.min(free / missing.saturating_add(1)).max(LEAST.min(share))
}

/// What running cells may be given of what is free: a share is left over for a tenant that comes later.
pub(super) fn spare(free: usize, share: usize) -> usize {
    free.saturating_sub(share)
}

/// What a running cell was given, and what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) bound: usize,
    pub(super) holding: Holding,
}

impl Given {
    /// What it may hold by now, whatever it has heard so far.
    pub(super) fn committed(self) -> usize {
        self.bound.max(self.holding.bound).max(self.holding.held)
    }

    /// What to give it from now on, with so many to spare; `None` where that is what it has, or where it has not heard of the last yet.
    pub(super) fn next(self, share: usize, spare: usize) -> Option<usize> {
        let next = share.min(self.committed().saturating_add(spare));
        (self.holding.bound == self.bound && next != self.bound).then_some(next)
    }
}

/// Connections that all cells together may have.
fn room(descriptors: u64) -> usize {
    usize::try_from((descriptors - reserve(descriptors)) / PER_CONNECTION).unwrap_or(usize::MAX)
}

fn share(descriptors: u64, tenants: usize) -> usize {
    let share = room(descriptors) / tenants.saturating_add(1);
    share.min(Limits::of_descriptors(descriptors).connections).max(LEAST)
}

#[cfg(test)]
mod tests;
