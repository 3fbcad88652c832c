//! How many connections a cell may have open: its share of the process's descriptors.
//!
//! Descriptors are the one thing that all cells take from the same table. No tenant may take so many that another's
//! connections are refused.

use super::Settings;
use crate::cell::Limits;

/// Kept for what is no connection: two descriptors of each listener and namespace of a pod, idle upstream connections,
/// files. A quarter, where the limit is low.
fn reserve(descriptors: u64) -> u64 {
    (descriptors / 4).min(8192)
}

/// A relayed connection has two sockets.
const PER_CONNECTION: u64 = 2;
/// Nobody gets less, also where the limit is so low (`ulimit -n`) that the shares overlap.
const LEAST: usize = 64;

impl Settings {
    /// Divides the descriptors among so many tenants, for cells that start from now on, unless the operator has said how
    /// many connections each may have. One share is left over, for a
    /// tenant that comes later; a cell that runs keeps what it has until it is restarted, so that a newcomer takes
    /// nothing away from connections that are there.
    pub(super) fn share_descriptors(&mut self, tenants: usize) {
        let told = self.limits.connections_told;
        self.limits.connections = told.unwrap_or_else(|| share(self.descriptors, tenants));
    }
}

fn share(descriptors: u64, tenants: usize) -> usize {
    let shares = u64::try_from(tenants).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(PER_CONNECTION);
    let share = usize::try_from((descriptors - reserve(descriptors)) / shares).unwrap_or(usize::MAX);
    share.min(Limits::of_descriptors(descriptors).connections).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tenants_together_and_one_more_fit_into_the_limit() {
        for tenants in 1..100 {
            let all = share(262_144, tenants) as u64 * PER_CONNECTION * (tenants as u64 + 1);
            assert!(all + reserve(262_144) <= 262_144, "{tenants}");
        }
        assert_eq!(share(262_144, 3), 31_744);
    }

    #[test]
    fn a_share_is_neither_nothing_nor_everything() {
        assert_eq!(share(0, 3), LEAST);
        assert_eq!(share(1024, 2), 128);
        assert_eq!(share(u64::MAX, 0), Limits::default().connections);
    }
}
