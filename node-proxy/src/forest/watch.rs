//! What of the forest is news for a tenant's owner: seen from outside, at every look of the supervisor.
//!
//! It decides nothing, and must never ask a cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use config::{
    model::Budget,
    name::{PodName, TenantId},
};
use tokio::time::Instant;

use super::{bounds::Bound, keeper::CHANGES_CLASS};
use crate::{
    telemetry::Reason,
    tenancy::{
        Events, Ledger,
        events::{Kind, News},
    },
};

/// How long after a budget has bitten its owner is not told again of the same; what comes meanwhile is told then, as a number.
const WINDOW: Duration = Duration::from_secs(60);

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    started: bool,
    cells: BTreeMap<TenantId, Seen>,
    waiting: BTreeSet<PodName>,
}

#[derive(Debug, Default)]
struct Seen {
    restarts: u64,
    failed: bool,
    refused: BTreeMap<Reason, Bite>,
    throttled: Bite,
    left_out: u64,
}

/// How far a figure was told that only grows.
#[derive(Debug, Default, Clone, Copy)]
struct Bite {
    told: u64,
    silent_until: Option<Instant>,
}

impl Bite {
    /// What is to be told of it now: how much it has grown.
    fn look(&mut self, now: u64, at: Instant) -> Option<u64> {
        let more = now.saturating_sub(self.told);
        if more == 0 || self.silent_until.is_some_and(|until| at < until) {
            return None;
        }
        *self = Self { told: now, silent_until: Some(at + WINDOW) };
        Some(more)
    }
}

/// One cell, as it is now.
#[derive(Debug)]
pub(super) struct CellNow<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) ledger: &'a Arc<Ledger>,
    /// Whether it is between two lives.
    pub(super) failed: bool,
    /// Why it failed last.
    pub(super) why: &'a str,
    pub(super) restarts: u64,
    /// What its tenant may use.
    pub(super) budget: &'a Budget,
    /// Connections that the node lets it have, each way.
    pub(super) share: usize,
}

/// One workload that is not served.
#[derive(Debug)]
pub(super) struct WaitingNow<'a> {
    pub(super) pod: &'a PodName,
    pub(super) tenant: &'a TenantId,
    pub(super) problem: &'a str,
}

impl Watch {
    /// Tells what is new.
    pub(super) fn look<'a>(
        &mut self,
        cells: impl Iterator<Item = CellNow<'a>>,
        waiting: impl Iterator<Item = WaitingNow<'a>>,
        events: &Events,
        now: (Instant, SystemTime),
    ) {
        let mut here = BTreeSet::new();
        for cell in cells {
            let is_new = !self.cells.contains_key(cell.tenant);
            if is_new && !self.started {
                events.tell(cell.tenant, News::new(Kind::Node, STARTED), now.1);
            }
            let seen = self.cells.entry(cell.tenant.clone()).or_default();
            seen.news(&cell, now.0).into_iter().for_each(|news| events.tell(cell.tenant, news, now.1));
            here.insert(cell.tenant.clone());
        }
        // Whoever comes later was not here when the daemon began.
        self.started |= !here.is_empty();
        self.cells.retain(|tenant, _| here.contains(tenant));
        let mut still = BTreeSet::new();
        for WaitingNow { pod, tenant, problem } in waiting {
            if !self.waiting.contains(pod) {
                let what = format!("{pod} is not served: {problem}");
                events.tell(tenant, News::new(Kind::Workload, what), now.1);
            }
            still.insert(pod.clone());
        }
        self.waiting = still;
    }
}

const STARTED: &str =
    "the daemon of this node was started: connections that it carried before, if it ran, have ended";

impl Seen {
    fn news(&mut self, cell: &CellNow<'_>, at: Instant) -> Vec<News> {
        let mut news = Vec::new();
        let failed = std::mem::replace(&mut self.failed, cell.failed);
        let again = cell.restarts > std::mem::replace(&mut self.restarts, cell.restarts);
        let of_connections = match cell.why {
            CHANGES_CLASS => "its connections have some seconds to end",
            _ => "its connections have ended",
        };
        if cell.failed && !failed {
            news.push(News::new(Kind::Cell, format!("your cell {}: {of_connections}", cell.why)));
        } else if again && !failed {
            // Between two looks.
            let what = format!("your cell {} and was started again: {of_connections}", cell.why);
            news.push(News::new(Kind::Cell, what));
        } else if again {
            news.push(News::new(Kind::Cell, "your cell was started again"));
        }
        for reason in Reason::ALL.iter().copied() {
            let Some(bound) = Bound::of(reason, cell.budget, cell.share) else { continue };
            let count = cell.ledger.refusals(reason);
            if let Some(more) = self.refused.entry(reason).or_default().look(count, at) {
                let what = format!("{} {more}: {reason}", bound.deed());
                let refused = Some((reason.as_str().to_owned(), more));
                news.push(News { refused, ..News::new(bound.kind(), what) });
            }
        }
        let throttled = cell.ledger.throttled_nanos.load(Relaxed);
        if let Some(more) = self.throttled.look(throttled, at) {
            let what = format!("your CPU budget held your cell back for {:?}", Duration::from_nanos(more));
            news.push(News::new(Kind::Budget, what));
        }
        let left_out = cell.ledger.left_out.load(Relaxed);
        if left_out > std::mem::replace(&mut self.left_out, left_out) {
            let what =
                format!("your budget has no room for {left_out} of your objects: they are not in force");
            news.push(News::new(Kind::Budget, what));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use config::name::{Name, Namespace};

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::Tenant(Name::try_from(name).unwrap())
    }

    struct Set {
        watch: Watch,
        events: Events,
        ledger: Arc<Ledger>,
        at: Instant,
        told: u64,
    }

    impl Set {
        fn new() -> Self {
            let (events, ledger) = (Events::default(), Arc::default());
            Self { watch: Watch::default(), events, ledger, at: Instant::now(), told: 0 }
        }

        /// What shop is told at a look `seconds` after the one before.
        fn look(&mut self, seconds: u64, (failed, restarts): (bool, u64)) -> Vec<String> {
            let (shop, nobody) = (tenant("shop"), iter::empty::<WaitingNow<'_>>());
            let budget = &Budget::default();
            let (ledger, why, share) = (&self.ledger, "panicked", 100);
            let cell = CellNow { tenant: &shop, ledger, failed, why, restarts, budget, share };
            self.at += Duration::from_secs(seconds);
            let now = (self.at, SystemTime::now());
            self.watch.look(iter::once(cell), nobody, &self.events, now);
            let news = self.events.after(self.told, Some("shop"));
            self.told = news.last().map_or(self.told, |last| last.number);
            news.into_iter().map(|event| format!("{} {}", event.kind.as_str(), event.what)).collect()
        }
    }

    #[test]
    fn who_is_there_when_the_daemon_begins_is_told_and_who_comes_later_is_not() {
        let mut set = Set::new();
        assert_eq!(set.look(0, (false, 0)), [format!("node {STARTED}")]);
        assert!(set.look(1, (false, 0)).is_empty());
        let bank = tenant("bank");
        let (ledger, budget) = (&set.ledger, &Budget::default());
        let cell = CellNow { tenant: &bank, ledger, failed: false, why: "", restarts: 0, budget, share: 100 };
        let now = (set.at, SystemTime::now());
        set.watch.look(iter::once(cell), iter::empty(), &set.events, now);
        assert!(set.events.after(0, Some("bank")).is_empty());
    }

    #[test]
    fn a_cell_that_fails_is_told_of_once_and_so_is_its_return() {
        let mut set = Set::new();
        set.look(0, (false, 0));
        assert_eq!(set.look(1, (true, 0)), ["cell your cell panicked: its connections have ended"]);
        assert!(set.look(1, (true, 0)).is_empty());
        assert_eq!(set.look(1, (false, 1)), ["cell your cell was started again"]);
        let both = "cell your cell panicked and was started again: its connections have ended";
        assert_eq!(set.look(1, (false, 2)), [both], "between two looks");
        assert!(set.look(1, (false, 2)).is_empty());
    }

    #[test]
    fn of_a_cell_that_changes_its_class_it_is_not_said_that_connections_have_ended() {
        let mut seen = Seen::default();
        let (tenant, ledger, budget) = (&tenant("shop"), &Arc::default(), &Budget::default());
        let cell =
            CellNow { tenant, ledger, failed: true, why: CHANGES_CLASS, restarts: 0, budget, share: 100 };
        let news = seen.news(&cell, Instant::now());
        assert_eq!(
            news[0].what,
            "your cell changes its isolation class: its connections have some seconds to end"
        );
    }

    #[test]
    fn a_budget_that_bites_is_told_of_at_once_and_then_once_in_a_window() {
        let mut set = Set::new();
        set.look(0, (false, 0));
        set.ledger.refused(Reason::RequestRate);
        set.ledger.refused(Reason::NoRoute);
        assert_eq!(set.look(1, (false, 0)), ["budget your budget refused 1: request_rate"]);
        for _ in 0..5 {
            set.ledger.refused(Reason::RequestRate);
            assert!(set.look(10, (false, 0)).is_empty());
        }
        assert_eq!(set.look(10, (false, 0)), ["budget your budget refused 5: request_rate"]);
        assert!(set.look(100, (false, 0)).is_empty());
        set.ledger.throttled_nanos.store(1_500_000_000, Relaxed);
        assert_eq!(set.look(1, (false, 0)), ["budget your CPU budget held your cell back for 1.5s"]);
    }

    #[test]
    fn a_pod_that_is_not_served_is_told_of_once_for_as_long_as_it_waits() {
        let mut set = Set::new();
        let shop = tenant("shop");
        let pod = PodName::new(Namespace::try_from("shop").unwrap(), Name::try_from("cart").unwrap());
        let mut look = |is_waiting: bool| {
            let waiting = WaitingNow { pod: &pod, tenant: &shop, problem: "it is gone" };
            let waiting = is_waiting.then_some(waiting).into_iter();
            let now = (set.at, SystemTime::now());
            set.watch.look(iter::empty(), waiting, &set.events, now);
            set.events.after(0, Some("shop")).len()
        };
        assert_eq!([look(true), look(true), look(false), look(true)], [1, 1, 1, 2]);
        assert_eq!(set.events.after(0, None)[0].what, "shop/cart is not served: it is gone");
    }

    #[test]
    fn what_the_node_bounds_is_told_as_the_nodes_and_what_was_shed_as_ended() {
        let mut set = Set::new();
        set.look(0, (false, 0));
        set.ledger.refused(Reason::TunnelLimit);
        set.ledger.refused(Reason::MemoryShed);
        let told = set.look(1, (false, 0));
        let node =
            "node this node's bound on what each tenant may have, not your budget, refused 1: tunnel_limit";
        assert_eq!(told, [node, "budget your budget ended 1: memory_shed"]);
    }
}
