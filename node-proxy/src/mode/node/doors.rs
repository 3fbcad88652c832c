//! Where a node's daemon is spoken to, and which addresses are its node's: had at the start, or it does not start.
//!
//! Nothing of a predecessor's is touched here.

use std::{net::IpAddr, sync::Arc};

use super::{NodeOptions, RunError};
use crate::{
    admin,
    control::gate::Gate,
    mode::signals::Signals,
    sys::{addresses, gateways},
    telemetry::server,
};

/// Where the daemon is spoken to. All of it is had before anything of a predecessor's is touched.
pub(super) struct Doors {
    pub(super) admin: admin::server::Server,
    pub(super) gate: Option<Gate>,
    pub(super) metrics: server::Server,
    pub(super) signals: Signals,
}

impl Doors {
    pub(super) async fn open(options: &NodeOptions) -> Result<Self, RunError> {
        Ok(Self {
            admin: admin::server::Server::bind(&options.admin_socket)?,
            gate: options.gate.as_ref().map(Gate::open).transpose()?,
            metrics: server::Server::bind(options.metrics_addr).await?,
            signals: Signals::new().map_err(|source| RunError::System { what: "signals", source })?,
        })
    }
}

/// Those that were given, else those of the daemon's own network namespace, but for what names whoever looks. A sidecar's is its pod's, from
/// which the way out leads by the node: where the network is a bridge, the kubelet asks from that address and not from the node's own.
pub(super) fn node_addresses(options: &NodeOptions) -> Arc<[IpAddr]> {
    let given = &options.node_addresses;
    if options.sidecar.is_some() {
        let ways = gateways::default().unwrap_or_else(|error| {
            tracing::warn!(%error, "the pod's default routes are not known: only --node-ip says who the kubelet is");
            Vec::new()
        });
        return given.iter().map(IpAddr::to_canonical).chain(ways).collect();
    }
    if !given.is_empty() {
        return given.iter().map(IpAddr::to_canonical).collect();
    }
    let found = addresses::local().unwrap_or_else(|error| {
        tracing::warn!(%error, "the node's addresses are not known, so its probes are not: give them with --node-ip");
        Vec::new()
    });
    found.into_iter().filter(|address| !address.is_loopback()).collect()
}
