//! Which endpoint a client stays with, of Services that want that (`sessionAffinity: ClientIP`).
//!
//! A first choice is by rank, which every lane and every start of the daemon makes alike (rendezvous hashing); then the client is
//! held to it by a table, which a rank alone would not where endpoints come. Must never hold more than it may: whoever finds the
//! table full has the rank.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use config::model::Endpoint;
use tokio::time::Instant;

use super::{state::State, view::View};
use crate::snapshot::Affinity;

/// Clients of Services that are remembered: 64 Services of each of 256 pods, in about 1.5 MiB of the tenant's own arena.
pub(super) const MOST: usize = 16_384;

/// Where clients went last.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// By the Service's port and the client.
    last: RefCell<HashMap<(u64, IpAddr), Home>>,
    /// Before this nothing is forgotten for its age: it was looked at not long ago.
    looked: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Home {
    at: SocketAddr,
    until: Instant,
}

/// What is known of an endpoint at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// It was not tried for this request.
    pub(super) is_new: bool,
    /// It is not ejected.
    pub(super) is_well: bool,
}

impl Homes {
    /// The position of a client's endpoint, which it goes to the next time, too. Who cannot go where it was stays with who it
    /// goes to instead: what it had there is lost to it either way.
    pub(super) fn choose(
        &self,
        (affinity, client): (Affinity, IpAddr),
        now: Instant,
        view: &View,
        fit: impl Fn(&Endpoint, &State) -> Fit,
    ) -> Option<usize> {
        let key = (affinity.key, client.to_canonical());
        let fits = |endpoint: &Endpoint, state: &State| {
            let fit = fit(endpoint, state);
            fit.is_new && fit.is_well
        };
        let home = self.home(&key, now);
        let last =
            home.and_then(|at| view.all().position(|(one, state)| one.address == at && fits(one, state)));
        let chosen = last.or_else(|| {
            // The best of those that are well, else of those that are new, else of all.
            let order = |(one, state): (&Endpoint, &State)| {
                let fit = fit(one, state);
                (fit.is_new, fit.is_well, rank(&key, one.address))
            };
            let ranked = view.all().map(|(one, state)| order((one, state))).enumerate();
            ranked.max_by_key(|(_, order)| *order).map(|(position, _)| position)
        })?;
        let (endpoint, _) = view.get(chosen)?;
        self.note(key, Home { at: endpoint.address, until: now + affinity.lasts }, now);
        Some(chosen)
    }

    /// Forgets endpoints that are nobody's any more.
    pub(super) fn retain(&self, known: impl Fn(SocketAddr) -> bool) {
        self.last.borrow_mut().retain(|_, home| known(home.at));
    }

    /// How many clients are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.last.borrow().len()
    }

    fn home(&self, key: &(u64, IpAddr), now: Instant) -> Option<SocketAddr> {
        let last = self.last.borrow();
        last.get(key).filter(|home| now < home.until).map(|home| home.at)
    }

    fn note(&self, key: (u64, IpAddr), home: Home, now: Instant) {
        let mut last = self.last.borrow_mut();
        if last.len() >= MOST && !last.contains_key(&key) {
            // Not for every client that comes: each look is at all of them.
            if self.looked.get().is_some_and(|looked| now < looked + PAUSE) {
                return;
            }
            self.looked.set(Some(now));
            last.retain(|_, home| now < home.until);
            if last.len() >= MOST {
                return;
            }
        }
        last.insert(key, home);
    }
}

/// How long a full table is left as it is.
const PAUSE: Duration = Duration::from_secs(1);

/// How well an endpoint goes with a client. What comes or goes elsewhere in the cluster does not change it.
fn rank(key: &(u64, IpAddr), endpoint: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, endpoint).hash(&mut hasher);
    hasher.finish()
}
