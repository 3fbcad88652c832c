//! Where one cell is put: its control group, its class or its pace, changed only where something else is due.
//!
//! What the kernel does not take is said once, and tried again at the next look.

use std::time::Duration;

use super::{
    hierarchy::{self, Group, HierarchyError},
    means::Means,
    pace::Pace,
    standing::Band,
};
use crate::sys::clock::{Class, ThreadId};

/// What a cell is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    /// Where it stands.
    pub(super) band: Band,
    /// Whether nobody has to be interrupted for it.
    pub(super) is_sated: bool,
    /// What it weighs.
    pub(super) share_millis: u64,
    /// What it may use at most.
    pub(super) cap_millis: Option<u64>,
    /// How fast it may go where only its own pauses can hold it back from others' parts.
    pub(super) part: f64,
}

/// Where a cell has been put.
#[derive(Debug, Default)]
pub(super) struct Place {
    group: Option<Group>,
    threads: Vec<ThreadId>,
    weight: Option<u64>,
    cap: Option<u64>,
    /// Whether the group holds the cap.
    has_quota: bool,
    class: Class,
    complained: bool,
    /// Whether a cap was ever held by the group: else it was never held back.
    was_capped: bool,
    /// What the group said last of how long it was held back, and what has come together of that.
    said: Duration,
    throttled: Duration,
}

impl Place {
    /// Of a cell that begins; a group is made where there are groups.
    pub(super) fn new(means: &mut Means, tenant: &str) -> Self {
        let mut place = Self::default();
        place.settle(means, tenant);
        place
    }

    /// Makes the group, where there are groups and this cell has none yet.
    pub(super) fn settle(&mut self, means: &mut Means, tenant: &str) {
        let Means::Weights(hierarchy) = means else { return };
        if self.group.is_none() {
            let made = hierarchy.cell(tenant);
            self.group = self.heard(made);
            if self.group.is_some() {
                // Its threads have yet to be put there.
                self.threads.clear();
            }
        }
    }

    /// Puts a thread where the cell is. Says whether it is there.
    pub(super) fn take(&mut self, thread: ThreadId) -> bool {
        if self.threads.contains(&thread) {
            return true;
        }
        let taken = self.group.as_ref().map(|group| group.take(thread));
        let is_taken = taken.is_none_or(|taken| self.heard(taken).is_some());
        if is_taken {
            self.threads.push(thread);
            // A thread begins in the normal class, and the others may be in another; one that has just ended is nobody's to move.
            let _moved = thread.change_class(self.class);
        }
        is_taken
    }

    /// Forgets threads that are none of the cell's any more.
    pub(super) fn keep(&mut self, threads: impl Fn(ThreadId) -> bool) {
        self.threads.retain(|thread| threads(*thread));
    }

    /// Does what is due. Where the cell holds itself back, each of its lanes does so for its part.
    pub(super) fn apply<'a>(
        &mut self,
        means: &Means,
        due: &Due,
        lanes: impl ExactSizeIterator<Item = &'a Pace>,
    ) {
        self.weigh(due);
        self.cap(due.cap_millis);
        let class = Self::class_due(means, due);
        if class != self.class && !self.threads.is_empty() {
            // A thread that has just ended is nobody's to move.
            let changed = self.threads.iter().filter(|thread| thread.change_class(class).is_ok()).count();
            if changed > 0 {
                self.class = class;
            }
        }
        let each = |whole: f64| whole / lanes.len().max(1) as f64;
        let cap = due.cap_millis.filter(|_| !self.has_quota).map(|millis| each(millis as f64 / 1e3));
        // Also a cell whose group could not be made: among the daemon's own threads nothing else would hold it back.
        let is_paced = !matches!(means, Means::Classes) && self.group.is_none() && due.band == Band::Over;
        let part = is_paced.then_some(each(due.part));
        let pace = cap.into_iter().chain(part).reduce(f64::min);
        lanes.for_each(|lane| lane.set(pace));
    }

    /// A cell that has its part interrupts nobody when it is woken: busy cells that interrupt each other for every packet
    /// spend the CPU on switching (decision 0030).
    fn class_due(means: &Means, due: &Due) -> Class {
        match (means, due.band) {
            (Means::Classes, Band::Over) => Class::Idle,
            (Means::Weights(_), _) if due.is_sated => Class::Batch,
            _ => Class::Normal,
        }
    }

    /// How long the kernel has held it back for its caps so far: also for one that was lifted since.
    pub(super) fn throttled(&mut self) -> Duration {
        if let Some(group) = self.group.as_ref().filter(|_| self.was_capped) {
            let said = group.throttled();
            self.throttled += said.saturating_sub(self.said);
            self.said = said;
        }
        self.throttled
    }

    /// Its group, to be removed when its threads have ended.
    pub(super) fn leave(self) -> Option<Group> {
        self.group
    }

    fn weigh(&mut self, due: &Due) {
        let weight = weight(due.share_millis, due.band);
        let Some(group) = self.group.as_ref().filter(|_| self.weight != Some(weight)) else { return };
        let weighed = group.weigh(weight);
        if self.heard(weighed).is_some() {
            self.weight = Some(weight);
        }
    }

    fn cap(&mut self, cap: Option<u64>) {
        let Some(group) = self.group.as_ref().filter(|_| self.cap != cap) else { return };
        let capped = group.cap(cap);
        let is_as_due = self.heard(capped).is_some();
        self.has_quota = is_as_due && cap.is_some();
        self.was_capped |= self.has_quota;
        if is_as_due {
            self.cap = cap;
        }
    }

    fn heard<T>(&mut self, result: Result<T, HierarchyError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                problem = hierarchy::report(&error),
                "a cell's control group is not as it should be"
            );
        }
        None
    }
}

/// What a cell weighs that stands there. Behind, it is a small part of what it weighs before: a cell within its part that
/// wakes is then served at once, whatever those behind are doing (measured: decision 0018).
pub(super) fn weight(share_millis: u64, band: Band) -> u64 {
    let within = (share_millis.saturating_mul(WITHIN) / 100).clamp(BEHIND, MOST);
    match band {
        Band::Within => within,
        Band::Over => within / BEHIND,
    }
}

/// What 100 m weigh.
const WITHIN: u64 = 8_192;
/// How many times less a cell weighs behind the others.
const BEHIND: u64 = 64;
/// What version 2 of control groups has room for.
pub(super) const MOST: u64 = 102_400;

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc, thread};

    use super::*;

    /// A thread's scheduling policy, by number: proc_pid_stat(5), field 41; the third follows the name.
    fn policy(thread: ThreadId) -> u32 {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_that_comes_later_is_in_the_class_of_those_that_are_there() {
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let stays: Vec<_> = (0..2)
                .map(|_| {
                    let (tell, (stop, stopped)) = (tell.clone(), mpsc::channel::<()>());
                    scope.spawn(move || {
                        tell.send(ThreadId::current()).unwrap();
                        let _ = stopped.recv();
                    });
                    stop
                })
                .collect();
            let (first, second) = (told.recv().unwrap(), told.recv().unwrap());
            let due =
                Due { band: Band::Over, is_sated: true, share_millis: 100, cap_millis: None, part: 0.1 };
            let mut place = Place::default();
            place.take(first);
            place.apply(&Means::Classes, &due, [&Pace::default()].into_iter());
            place.take(second);
            assert_eq!((policy(first), policy(second)), (libc::SCHED_IDLE as u32, libc::SCHED_IDLE as u32));
            drop(stays);
        });
    }

    #[test]
    fn weights_are_as_the_shares_in_each_band_and_the_least_before_is_more_than_most_behind() {
        let of = |millis| (weight(millis, Band::Within), weight(millis, Band::Over));
        assert_eq!(of(100), (8_192, 128));
        assert_eq!(of(500), (40_960, 640));
        assert_eq!(of(5_000), (102_400, 1_600));
        assert_eq!(of(1), (81, 1));
        assert_eq!(of(u64::MAX), (102_400, 1_600));
    }

    #[test]
    fn a_cap_is_the_cells_own_where_there_is_no_quota_and_a_pace_only_where_nothing_else_holds_it_back() {
        let pace = Pace::default();
        let due =
            Due { band: Band::Over, is_sated: true, share_millis: 100, cap_millis: Some(200), part: 0.1 };
        let mut place = Place::default();
        place.apply(&Means::Classes, &due, [&pace].into_iter());
        assert_eq!(pace.part(), Some(0.2));
        place.apply(&Means::Governor, &due, [&pace].into_iter());
        assert_eq!(pace.part(), Some(0.1));
        let other = Pace::default();
        place.apply(&Means::Governor, &due, [&pace, &other].into_iter());
        assert_eq!((pace.part(), other.part()), (Some(0.05), Some(0.05)), "two lanes have a half each");
        place.apply(
            &Means::Governor,
            &Due { band: Band::Within, cap_millis: None, ..due },
            [&pace].into_iter(),
        );
        assert_eq!(pace.part(), None);
    }
}
