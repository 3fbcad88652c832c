//! Stage 6: which endpoint: power of two choices over peak-EWMA latency, with passive ejection.
//!
//! State is per cell and per endpoint address, outlives snapshots, and is bounded by the endpoints in use. It must never
//! eject a whole cluster, and never be shared between tenants.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use config::model::Endpoint;
use tokio::time::Instant;

pub use self::view::ready;
use self::{
    affinity::{Fit, Homes},
    health::Standing,
    state::State,
    view::View,
};
use crate::snapshot::{Affinity, Cluster};

mod affinity;
mod health;
mod latency;
mod state;
#[cfg(test)]
mod tests;
mod view;

/// The balancer of one cell.
#[derive(Debug, Default)]
pub struct Balancer {
    states: RefCell<HashMap<SocketAddr, Rc<State>>>,
    /// By `Endpoints::key`; each view holds its endpoints, so a key cannot come to mean others.
    views: RefCell<HashMap<(usize, bool), Rc<View>>>,
    /// Until when some endpoint is ejected or coming back slowly; before the first ejection `None`.
    unsettled: Cell<Option<Instant>>,
    rng: RefCell<fastrand::Rng>,
    /// Where clients went last, of Services that want them to go there again.
    homes: Homes,
}

/// A chosen endpoint. Counts as load until dropped; say how it went with [`Picked::succeeded`] or
/// [`Picked::failed`], otherwise it counts as neither, but as being at least as slow as it took to be given up.
#[derive(Debug)]
pub struct Picked {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    state: Rc<State>,
    balancer: Rc<Balancer>,
    at: Instant,
    /// Whether it was said how it went.
    told: Cell<bool>,
}

impl Picked {
    /// The endpoint answered after `latency`.
    pub fn succeeded(&self, latency: Duration) {
        self.told.set(true);
        let now = Instant::now();
        self.state.latency.observe(latency, now);
        self.state.health.succeeded(self.at, now);
    }

    /// The endpoint did not answer, or broke off: counts towards ejection.
    pub fn failed(&self) {
        self.told.set(true);
        if let Some(settled) = self.state.health.failed(Instant::now()) {
            let unsettled = &self.balancer.unsettled;
            unsettled.set(unsettled.get().max(Some(settled)));
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        // Without this, an endpoint that swallows requests until their callers give up would keep its full share.
        if !self.told.get() {
            let now = Instant::now();
            self.state.latency.observe_at_least(now.saturating_duration_since(self.at), now);
        }
        self.state.in_flight.set(self.state.in_flight.get().saturating_sub(1));
    }
}

impl Balancer {
    /// A balancer whose choices can be repeated.
    pub fn with_seed(seed: u64) -> Self {
        Self { rng: RefCell::new(fastrand::Rng::with_seed(seed)), ..Self::default() }
    }

    /// Picks an endpoint of a cluster for a client; `None` where none is ready. `tried` were tried already for the same request: they are
    /// picked again only where there is no other, and what is known to be in trouble only where nothing else is left.
    ///
    /// Endpoints of the client's address family alone, where there are any: a server can be shown its caller's
    /// address in that family only, and a pod with two addresses is one server, not two.
    pub fn pick(self: &Rc<Self>, cluster: &Cluster, client: IpAddr, tried: &[SocketAddr]) -> Option<Picked> {
        // Whoever has to be gone through is not gone around.
        if cluster.waypoint.is_some() {
            return None;
        }
        let view = self.view(cluster, client.is_ipv4());
        let position = match (view.len(), cluster.affinity) {
            (0, _) => return None,
            (_, Some(affinity)) => self.stay(affinity, client, &view, tried)?,
            (1, None) => 0,
            (_, None) => self.choose(&view, tried)?,
        };
        let (endpoint, state) = view.get(position)?;
        state.in_flight.set(state.in_flight.get().saturating_add(1));
        Some(Picked {
            endpoint: Arc::clone(endpoint),
            state: Rc::clone(state),
            balancer: Rc::clone(self),
            at: Instant::now(),
            told: Cell::new(false),
        })
    }

    /// Forgets endpoints that no cluster names any more; called when a snapshot was swapped.
    pub fn retain(&self, known: impl Fn(SocketAddr) -> bool) {
        // Views are made again, of the new snapshot's clusters, when they are first used.
        self.views.borrow_mut().clear();
        self.states.borrow_mut().retain(|address, _| known(*address));
        self.homes.retain(known);
    }

    /// The endpoint that a client went to last, or the one that is its by rank; another where that is out of order.
    fn stay(&self, affinity: Affinity, client: IpAddr, view: &View, tried: &[SocketAddr]) -> Option<usize> {
        let now = Instant::now();
        let watchful = self.unsettled.get().is_some_and(|until| now < until);
        let is_well = |state: &State| !watchful || state.health.standing(now) != Standing::Ejected;
        self.homes.choose((affinity, client), now, view, |endpoint, state| Fit {
            is_new: !tried.contains(&endpoint.address),
            is_well: is_well(state),
        })
    }

    fn view(&self, cluster: &Cluster, v4: bool) -> Rc<View> {
        let key = (cluster.candidates().key(), v4);
        if let Some(view) = self.views.borrow().get(&key) {
            return Rc::clone(view);
        }
        let mut states = self.states.borrow_mut();
        let view = Rc::new(View::new(cluster, v4, |address| Rc::clone(states.entry(address).or_default())));
        self.views.borrow_mut().insert(key, Rc::clone(&view));
        view
    }

    /// One of several: the cheaper of two that are drawn among those that may be used.
    fn choose(&self, view: &View, tried: &[SocketAddr]) -> Option<usize> {
        let now = Instant::now();
        let mut rng = self.rng.borrow_mut();
        let is_new = |endpoint: &Endpoint| !tried.contains(&endpoint.address);
        if !tried.is_empty() {
            // Among endpoints of which several do not answer, a further try is not to meet the next one of them.
            let is_well = |endpoint: &Endpoint, state: &State| is_new(endpoint) && state.health.is_well(now);
            let well = view.draw_two(&mut rng, now, |(endpoint, state), _| is_well(endpoint, state));
            if well.is_some() {
                return well;
            }
        }
        let watchful = self.unsettled.get().is_some_and(|until| now < until);
        let admits = |state: &State, rng: &mut fastrand::Rng| state.health.standing(now).admits(rng);
        view.draw_two(&mut rng, now, |(endpoint, state), rng| {
            is_new(endpoint) && (!watchful || admits(state, rng))
        })
        // Who comes back is left more than its share where all others are ejected; but for a few, which show when these are back.
        .or_else(|| {
            if tried.is_empty() && rng.f64() < PROBES {
                return None;
            }
            let is_out = |state: &State| state.health.standing(now) == Standing::Ejected;
            view.draw_two(&mut rng, now, |(endpoint, state), _| is_new(endpoint) && !is_out(state))
        })
        // What is ejected, and be it all of them, rather than what was tried just now, and that rather than nothing.
        .or_else(|| view.draw(&mut rng, None, |(endpoint, _), _| is_new(endpoint)))
        .or_else(|| view.draw(&mut rng, None, |_, _| true))
    }
}

impl Standing {
    /// Whether an endpoint takes this request; one that comes back takes a growing share.
    fn admits(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::Good => true,
            Self::Returning(share) => rng.f64() < share,
            Self::Ejected => false,
        }
    }
}

/// Of first tries, the part that goes to ejected endpoints where no other is in good standing.
const PROBES: f64 = 0.05;
