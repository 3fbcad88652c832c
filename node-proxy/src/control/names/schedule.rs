//! When which name is looked up, and which addresses it has: pure, so that time is an argument.
//!
//! No tenant's names may keep another's waiting: turns go round by tenant, each has one at a time, and a turn is short. What
//! is remembered is bounded per name; how many names a tenant has is bounded where they are read (`config`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use config::name::{HostName, TenantId};
use tokio::time::Instant;

/// A name, and the tenant that wants it: what one is told is not another's.
pub type Key = (TenantId, HostName);

/// The addresses of each name, in order.
pub type Answers = BTreeMap<Key, Vec<IpAddr>>;

/// How often, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two look-ups of a name.
    pub every: Duration,
    /// How long an address stays after an answer had it last: answers rotate.
    pub keep: Duration,
}

impl Pace {
    /// A name that fails is asked for ever more seldom, but often enough that what it had is not forgotten meanwhile.
    fn after(self, failures: u32) -> Duration {
        (self.every * 2u32.pow(failures.min(DOUBLED))).min(self.keep / 4).max(self.every)
    }
}

/// Names that one turn looks up at most.
pub(super) const TURN: usize = 8;

/// Addresses of a name that are remembered; names that have more are few, and mostly not for connections.
pub(super) const ADDRESSES: usize = 32;

/// A failure is asked about again after twice as long each time, this often doubled.
const DOUBLED: u32 = 4;

#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    names: BTreeMap<Key, Known>,
    /// The turn in which each tenant was served last; those that wait the longest come first.
    served: BTreeMap<TenantId, u64>,
    turns: u64,
    busy: BTreeSet<TenantId>,
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    due: Instant,
    failures: u32,
    /// When an answer had each address last.
    seen: BTreeMap<IpAddr, Instant>,
}

/// What came of a look-up that was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Its addresses are others now.
    Changed,
    /// It failed, and had not before.
    Failed,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, names: BTreeMap::new(), served: BTreeMap::new(), turns: 0, busy: BTreeSet::new() }
    }

    /// These names are wanted now, and no others. Says whether addresses went with those that are not.
    pub(super) fn want(&mut self, wanted: &BTreeSet<Key>, now: Instant) -> bool {
        let before = self.names.len();
        self.names.retain(|key, _| wanted.contains(key));
        let changed = self.names.len() < before;
        for key in wanted {
            let new = || Known { due: now, failures: 0, seen: BTreeMap::new() };
            self.names.entry(key.clone()).or_insert_with(new);
        }
        self.served.retain(|tenant, _| wanted.iter().any(|(owner, _)| owner == tenant));
        changed
    }

    /// The next turn: names of one tenant that are due. It has no other until [`Schedule::is_back`].
    pub(super) fn take(&mut self, now: Instant) -> Option<(TenantId, Vec<HostName>)> {
        let waiting =
            self.names.iter().filter(|((tenant, _), known)| known.due <= now && !self.busy.contains(tenant));
        let waits_longest = |(tenant, _): &&Key| self.served.get(tenant).copied().unwrap_or_default();
        let tenant = waiting.map(|(key, _)| key).min_by_key(waits_longest)?.0.clone();
        let own = |((owner, _), known): &(&Key, &Known)| *owner == tenant && known.due <= now;
        let mut due: Vec<(Instant, HostName)> =
            self.names.iter().filter(own).map(|((_, host), known)| (known.due, host.clone())).collect();
        due.sort();
        due.truncate(TURN);
        self.turns += 1;
        self.served.insert(tenant.clone(), self.turns);
        self.busy.insert(tenant.clone());
        Some((tenant, due.into_iter().map(|(_, host)| host).collect()))
    }

    /// A tenant's turn is over. What was not reached in it is still due.
    pub(super) fn is_back(&mut self, tenant: &TenantId) {
        self.busy.remove(tenant);
    }

    /// Takes in an answer, or that there was none. A failure takes nothing away before its time.
    pub(super) fn answered(&mut self, key: &Key, answer: Option<&[IpAddr]>, now: Instant) -> Option<News> {
        let pace = self.pace;
        let known = self.names.get_mut(key)?;
        let Some(answer) = answer else {
            known.failures = known.failures.saturating_add(1);
            known.due = now + pace.after(known.failures);
            return (known.failures == 1).then_some(News::Failed);
        };
        known.failures = 0;
        known.due = now + pace.every;
        let before: Vec<IpAddr> = known.seen.keys().copied().collect();
        known.seen.extend(answer.iter().map(|address| (*address, now)));
        known.forget_beyond(ADDRESSES);
        let changed = !known.seen.keys().eq(&before);
        changed.then_some(News::Changed)
    }

    /// Forgets addresses that no answer has had for long. Says whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let keep = self.pace.keep;
        let mut changed = false;
        for known in self.names.values_mut() {
            let before = known.seen.len();
            known.seen.retain(|_, seen| now.duration_since(*seen) <= keep);
            changed |= known.seen.len() < before;
        }
        changed
    }

    pub(super) fn answers(&self) -> Answers {
        let known = self.names.iter().filter(|(_, known)| !known.seen.is_empty());
        known.map(|(key, known)| (key.clone(), known.seen.keys().copied().collect())).collect()
    }
}

impl Known {
    /// Those that were seen last stay; of those seen together, the lowest: every answer has the same ones, then.
    fn forget_beyond(&mut self, limit: usize) {
        if self.seen.len() <= limit {
            return;
        }
        let mut all: Vec<(Instant, IpAddr)> =
            self.seen.iter().map(|(address, seen)| (*seen, *address)).collect();
        all.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        for (_, address) in all.split_off(limit) {
            self.seen.remove(&address);
        }
    }
}
