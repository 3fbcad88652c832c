//! What tenants' owners are told: that a cell failed, that a budget bit, that a workload is not served, that the node was at fault.
//!
//! A few of the last of each tenant. No cell ever takes the lock here: whoever tells has seen it from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use config::name::TenantId;
use serde::{Deserialize, Serialize};

/// Events that are kept of each tenant.
pub const KEPT: usize = 64;
/// Tenants of which events are kept, those that have left the node among them. Of more, those of whom nothing was told for longest go.
const TENANTS: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up with every event of this daemon.
    pub number: u64,
    /// When, in seconds since the epoch.
    pub at: f64,
    /// Whose: a Tenant's name, or `ns/NAMESPACE`.
    pub tenant: String,
    /// What it is about.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// Of a bound: the reason of what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a bound: how many were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// An answer to who asks for events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When the daemon began to count events, in nanoseconds since the epoch: another daemon's numbers are others.
    pub counted_since: u64,
    /// Those that were asked for, in order.
    pub events: Vec<Event>,
}

/// What an event is about, and so whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The tenant's own cell failed.
    Cell,
    /// The tenant's budget refused something, or ended it.
    Budget,
    /// A workload of the tenant is not served.
    Workload,
    /// The tenant's configuration: an object of it is not accepted, or is again.
    Configuration,
    /// The node's doing: it was started, of which every tenant on it is told, or a bound of its own refused something.
    Node,
}

impl Kind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cell => "cell",
            Self::Budget => "budget",
            Self::Workload => "workload",
            Self::Configuration => "configuration",
            Self::Node => "node",
        }
    }
}

/// The events of all tenants. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    since: SystemTime,
    told: u64,
    by_tenant: BTreeMap<String, VecDeque<Event>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { since: SystemTime::now(), told: 0, by_tenant: BTreeMap::new() }
    }
}

/// What is told; who and when is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What it is about.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// Of a bound: which reason, and how often.
    pub refused: Option<(String, u64)>,
}

impl News {
    /// News in words alone.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), refused: None }
    }
}

impl Events {
    /// Tells a tenant.
    pub fn tell(&self, tenant: &TenantId, news: News, at: SystemTime) {
        let News { kind, what, refused } = news;
        let tenant = tenant.to_string();
        tracing::info!(tenant, kind = kind.as_str(), what, "a tenant's owner is told");
        let mut kept = self.kept();
        kept.told += 1;
        let (reason, count) = refused.unzip();
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = Event { number: kept.told, at, tenant: tenant.clone(), kind, what, reason, count };
        let ring = kept.by_tenant.entry(tenant).or_default();
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(event);
        if kept.by_tenant.len() > TENANTS {
            let last = |ring: &VecDeque<Event>| ring.back().map_or(0, |event| event.number);
            let oldest =
                kept.by_tenant.iter().min_by_key(|(_, ring)| last(ring)).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| kept.by_tenant.remove(&oldest));
        }
    }

    /// Those after a number, in order; of one tenant or of all.
    pub fn after(&self, number: u64, tenant: Option<&str>) -> Vec<Event> {
        let kept = self.kept();
        let of = |(name, ring): (&String, &VecDeque<Event>)| {
            let is_wanted = tenant.is_none_or(|tenant| tenant == name);
            ring.iter().filter(move |event| is_wanted && event.number > number).cloned().collect::<Vec<_>>()
        };
        let mut events: Vec<Event> = kept.by_tenant.iter().flat_map(of).collect();
        drop(kept);
        events.sort_by_key(|event| event.number);
        events
    }

    /// The same, with since when they are counted.
    pub fn told(&self, number: u64, tenant: Option<&str>) -> Told {
        let since = self.kept().since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let counted_since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Told { counted_since, events: self.after(number, tenant) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use config::name::Name;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::Tenant(Name::try_from(name).unwrap())
    }

    fn tell(events: &Events, name: &str, what: &str) {
        events.tell(&tenant(name), News::new(Kind::Cell, what), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_tenant_is_told_what_is_its_own_and_nothing_of_anybody_else() {
        let events = Events::default();
        tell(&events, "shop", "one");
        tell(&events, "bank", "two");
        tell(&events, "shop", "three");
        let words = |number, tenant| {
            events.after(number, tenant).into_iter().map(|event| event.what).collect::<Vec<_>>()
        };
        assert_eq!(words(0, Some("shop")), ["one", "three"]);
        assert_eq!(words(0, None), ["one", "two", "three"]);
        assert_eq!(words(1, Some("shop")), ["three"]);
        assert!(words(3, None).is_empty() && words(0, Some("nobody")).is_empty());
    }

    #[test]
    fn only_the_last_of_each_tenant_are_kept_and_only_of_so_many_tenants() {
        let events = Events::default();
        tell(&events, "bank", "early");
        (0..KEPT + 3).for_each(|number| tell(&events, "shop", &number.to_string()));
        let shop = events.after(0, Some("shop"));
        assert_eq!((shop.len(), shop[0].what.as_str()), (KEPT, "3"));
        assert_eq!(events.after(0, Some("bank")).len(), 1, "another's news push nothing out");
        (0..TENANTS - 1).for_each(|number| tell(&events, &format!("tenant-{number}"), "x"));
        assert!(events.after(0, Some("bank")).is_empty(), "nothing was told it for longest");
        assert_eq!(events.after(0, Some("shop")).len(), KEPT);
    }
}
