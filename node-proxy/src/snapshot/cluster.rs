//! The endpoints of a Service port, and which of them callers of this node go to.
//!
//! Immutable, as all of a snapshot. How an endpoint fares is the balancer's to know.

use std::{ops::Deref, sync::Arc, time::Duration};

use config::{
    model::{AppProtocol, Endpoint},
    name::ServiceName,
};

use crate::telemetry::Reason;

/// The endpoints of one Service port.
#[derive(Debug)]
pub struct Cluster {
    /// The Service.
    pub service: ServiceName,
    /// The Service's port.
    pub port: u16,
    /// What the Service port speaks; an endpoint may say otherwise.
    pub protocol: AppProtocol,
    /// Ready and not ready ones.
    pub endpoints: Endpoints,
    /// The proxy that has to be gone through to get there, if one has.
    pub waypoint: Option<Arc<str>>,
    /// Those that callers of this node go to; `None` where these are all that are ready.
    pub narrowed: Option<Narrowed>,
    /// Whether a client stays with its endpoint.
    pub affinity: Option<Affinity>,
}

/// The endpoints of a cluster that callers of this node go to.
#[derive(Debug, Clone)]
pub struct Narrowed {
    /// These, none but these, ready or not.
    pub to: Endpoints,
    /// Why these.
    pub by: Narrowing,
}

/// Why callers of a node go to some of a cluster's endpoints: a closed set, for `canopy explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrowing {
    /// The Service is for callers on the endpoint's own node (`internalTrafficPolicy: Local`).
    Reach,
    /// All say for which nodes they are, and some are for this.
    NodeHints,
    /// All say for which zones they are, and some are for this node's.
    ZoneHints,
    /// None is ready: these end, and still serve.
    Draining,
}

/// A client's next connection goes to the endpoint of its last (`sessionAffinity: ClientIP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    /// The Service's port, as a number: the same wherever it is compiled.
    pub key: u64,
    /// For how long after the last.
    pub lasts: Duration,
}

impl Cluster {
    /// A cluster whose endpoints are for everybody, ready ones first.
    pub fn new(service: ServiceName, port: u16, protocol: AppProtocol, endpoints: Endpoints) -> Self {
        Self { service, port, protocol, endpoints, waypoint: None, narrowed: None, affinity: None }
    }

    /// Why nobody of it can be picked, where nobody can.
    pub fn emptiness(&self) -> Reason {
        if self.waypoint.is_some() {
            return Reason::Waypoint;
        }
        let is_of_node = self.narrowed.as_ref().is_some_and(|narrowed| narrowed.by == Narrowing::Reach);
        // Where no node has any, it is not for this one to have.
        let elsewhere = self.endpoints.iter().any(|endpoint| endpoint.ready || endpoint.draining);
        if is_of_node && elsewhere { Reason::NoLocalEndpoint } else { Reason::NoEndpoint }
    }

    /// Where those are that may be picked, among others that may not.
    pub fn candidates(&self) -> &Endpoints {
        self.narrowed.as_ref().map_or(&self.endpoints, |narrowed| &narrowed.to)
    }

    /// Whether one of the candidates may be picked.
    pub fn takes(&self, endpoint: &Endpoint) -> bool {
        self.narrowed.is_some() || endpoint.ready
    }
}

/// The endpoints of a cluster, immutable. Clones share it; [`Endpoints::key`] tells two of them apart.
#[derive(Debug, Clone)]
pub struct Endpoints(Arc<[Arc<Endpoint>]>);

impl Endpoints {
    /// Unique among all that are alive: whoever holds a clone may use it as a key.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl From<Vec<Arc<Endpoint>>> for Endpoints {
    fn from(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self(Arc::from(endpoints))
    }
}

impl Deref for Endpoints {
    type Target = [Arc<Endpoint>];
    fn deref(&self) -> &[Arc<Endpoint>] {
        &self.0
    }
}
