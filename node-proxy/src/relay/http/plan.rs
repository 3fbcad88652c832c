//! Where a request goes: its rule, and the endpoints that may answer it. Pure, but for the balancer's pick.
//!
//! It must never connect.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use config::model::{AppProtocol, Endpoint};
use http::request::Parts;

use super::{refusal::Refusal, session::Session};
use crate::{
    accept::Protocol,
    balance::Picked,
    policy::Permit,
    route::{self, Decision, Forward},
    snapshot::{Cluster, Destination},
    upstream::{connect::Peer, course::Course},
};

/// What is to be done with a request.
#[derive(Debug)]
pub(super) enum Plan<'a> {
    /// One of a Service's endpoints, by its rules.
    Routed(Forward<'a>),
    /// To the address that the client connected to.
    Original,
    /// Answered here.
    Decided(Decision<'a>),
}

/// Decides about a request.
pub(super) fn plan<'a>(permit: &'a Permit, parts: &Parts) -> Plan<'a> {
    let Destination::Service { routes, .. } = &permit.destination else { return Plan::Original };
    match route::decide(routes, parts, |bound| fastrand::u32(..bound)) {
        Decision::Forward(forward) => Plan::Routed(forward),
        other => Plan::Decided(other),
    }
}

/// The endpoint for one try. Counts as its load until dropped.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) protocol: Protocol,
    /// `None` for the original destination: there is nothing to balance.
    pub(super) picked: Option<Picked>,
}

impl Target {
    /// One of a cluster's endpoints, but none of those that were `tried`, where there are others.
    pub(super) fn of(session: &Session, cluster: &Cluster, tried: &[SocketAddr]) -> Result<Self, Refusal> {
        let balancer: &Rc<_> = &session.cell.balancer;
        let picked = balancer.pick(cluster, session.client(), tried).ok_or_else(|| cluster.emptiness())?;
        let endpoint = Arc::clone(&picked.endpoint);
        let protocol = protocol(session.protocol, endpoint.protocol, cluster.protocol);
        Ok(Self { endpoint, protocol, picked: Some(picked) })
    }

    /// The address that the client connected to.
    pub(super) fn original(session: &Session) -> Self {
        let endpoint = Arc::clone(&session.original);
        // Its port's protocol was the client's choice to obey or not: nothing is translated.
        Self { endpoint, protocol: session.protocol, picked: None }
    }

    /// Who is to be connected to, and where it is noted how.
    pub(super) fn peer<'a>(&'a self, course: &'a Course) -> Peer<'a> {
        Peer { address: self.endpoint.address, pod: self.endpoint.workload.as_ref(), course }
    }

    /// The endpoint broke off or did not answer.
    pub(super) fn failed(&self) {
        if let Some(picked) = &self.picked {
            picked.failed();
        }
    }
}

/// What is spoken with an endpoint: what its port declares, else HTTP/2 if the Service's port declares that, else
/// what the client speaks.
fn protocol(client: Protocol, endpoint: AppProtocol, service: AppProtocol) -> Protocol {
    match (endpoint, service) {
        (AppProtocol::Http1, _) => Protocol::Http1,
        (AppProtocol::Http2, _) | (AppProtocol::Undeclared, AppProtocol::Http2) => Protocol::Http2,
        _ => client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_called_http_takes_what_the_client_speaks() {
        use AppProtocol::{Http1, Http2, Undeclared};
        for (client, endpoint, service, expected) in [
            (Protocol::Http2, Undeclared, Http1, Protocol::Http2),
            (Protocol::Http2, Undeclared, Undeclared, Protocol::Http2),
            (Protocol::Http1, Undeclared, Undeclared, Protocol::Http1),
            (Protocol::Http1, Undeclared, Http2, Protocol::Http2),
            (Protocol::Http1, Http2, Http1, Protocol::Http2),
            (Protocol::Http2, Http1, Http2, Protocol::Http1),
        ] {
            assert_eq!(protocol(client, endpoint, service), expected, "{client:?} {endpoint:?} {service:?}");
        }
    }
}
