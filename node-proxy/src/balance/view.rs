//! A cluster as the balancer sees it: its ready endpoints side by side with their state, so that a pick looks nothing up.
//!
//! Made once per cluster and snapshot. Must never outlive the endpoints that its key stands for: it holds them.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use config::model::Endpoint;
use tokio::time::Instant;

use super::state::State;
use crate::snapshot::{Cluster, Endpoints};

/// Draws before the endpoints are tried one by one: with half of them in order, 1 in 256 picks comes that far.
const DRAWS: u32 = 8;

/// What may be picked: what is ready, or what callers of this node are left with, of one address family where that has any.
pub fn ready(cluster: &Cluster, v4: bool) -> impl Iterator<Item = &Arc<Endpoint>> {
    let fits = move |endpoint: &&Arc<Endpoint>| cluster.takes(endpoint) && endpoint.address.is_ipv4() == v4;
    let candidates = cluster.candidates();
    let any = candidates.iter().any(|endpoint| fits(&endpoint));
    candidates.iter().filter(move |endpoint| if any { fits(endpoint) } else { cluster.takes(endpoint) })
}

/// The ready endpoints of a cluster, for clients of one address family.
#[derive(Debug)]
pub(super) struct View {
    ready: Vec<(Arc<Endpoint>, Rc<State>)>,
    /// Keeps the key unique.
    _endpoints: Endpoints,
}

impl View {
    /// Gathers what is ready.
    pub(super) fn new(cluster: &Cluster, v4: bool, mut state: impl FnMut(SocketAddr) -> Rc<State>) -> Self {
        let ready = ready(cluster, v4);
        let ready = ready.map(|endpoint| (Arc::clone(endpoint), state(endpoint.address))).collect();
        Self { ready, _endpoints: cluster.candidates().clone() }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<Endpoint>, &Rc<State>)> {
        self.ready.iter().map(|(endpoint, state)| (endpoint, state))
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// One of them.
    pub(super) fn get(&self, position: usize) -> Option<(&Arc<Endpoint>, &Rc<State>)> {
        self.ready.get(position).map(|(endpoint, state)| (endpoint, state))
    }

    /// Draws one that is allowed, other than `taken`; `None` where there is none.
    pub(super) fn draw(
        &self,
        rng: &mut fastrand::Rng,
        taken: Option<usize>,
        allowed: impl Fn((&Endpoint, &State), &mut fastrand::Rng) -> bool,
    ) -> Option<usize> {
        let count = self.ready.len();
        let fits = |position: usize, rng: &mut fastrand::Rng| {
            let (endpoint, state) = self.ready.get(position)?;
            (Some(position) != taken && allowed((endpoint, state), rng)).then_some(position)
        };
        for _ in 0..DRAWS {
            let drawn = fits(rng.usize(..count), rng);
            if drawn.is_some() {
                return drawn;
            }
        }
        let start = rng.usize(..count);
        (start..count).chain(0..start).find_map(|position| fits(position, rng))
    }

    /// Draws two that are allowed, and takes the one that costs less; `None` where there is none.
    pub(super) fn draw_two(
        &self,
        rng: &mut fastrand::Rng,
        now: Instant,
        allowed: impl Fn((&Endpoint, &State), &mut fastrand::Rng) -> bool,
    ) -> Option<usize> {
        let first = self.draw(rng, None, &allowed)?;
        let second = self.draw(rng, Some(first), &allowed);
        Some(second.map_or(first, |second| self.cheaper(first, second, now)))
    }

    /// The one of two that costs less.
    fn cheaper(&self, first: usize, second: usize, now: Instant) -> usize {
        match (self.ready.get(first), self.ready.get(second)) {
            (Some((_, one)), Some((_, other))) if !one.is_no_costlier_than(other, now) => second,
            _ => first,
        }
    }
}
