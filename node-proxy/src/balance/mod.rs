//! Stage 6: which endpoint: power of two choices over peak-EWMA latency, with passive ejection.
//!
//! State is per cell and per endpoint address, outlives snapshots, and is bounded by the endpoints in use. It must never
//! eject a whole cluster, and never be shared between tenants.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use config::model::Endpoint;

use crate::snapshot::Cluster;

/// The balancer of one cell.
#[derive(Debug, Default)]
pub struct Balancer {}

/// A chosen endpoint. Counts as load until dropped; say how it went with [`Picked::succeeded`] or
/// [`Picked::failed`], otherwise it counts as neither.
#[derive(Debug)]
pub struct Picked {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
}

impl Picked {
    /// The endpoint answered after `latency`.
    pub fn succeeded(&self, _latency: Duration) {}

    /// The endpoint did not answer, or broke off: counts towards ejection.
    pub fn failed(&self) {}

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

impl Balancer {
    /// Picks an endpoint of a cluster; `None` where none is ready. `except` was tried already.
    pub fn pick(self: &Rc<Self>, cluster: &Cluster, except: Option<SocketAddr>) -> Option<Picked> {
        let ready = cluster.endpoints.iter().filter(|endpoint| endpoint.ready);
        let endpoint =
            ready.clone().find(|endpoint| Some(endpoint.address) != except).or(ready.clone().next())?;
        Some(Picked { endpoint: Arc::clone(endpoint) })
    }

    /// Forgets endpoints that no cluster names any more; called when a snapshot was swapped.
    pub fn retain(&self, _known: impl Fn(SocketAddr) -> bool) {}
}
