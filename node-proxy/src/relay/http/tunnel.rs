//! What is left of HTTP after a 101: opaque bytes both ways, relayed as every other opaque connection is.
//!
//! It must never look into them, and never lose those that came together with the heads.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};

use super::{Client, exchange::Exchange, plan::Target, session::Session};
use crate::{
    relay::tcp::{self, Ends, Meter},
    telemetry::Reason,
    upstream::pool::http1::Lease,
};

/// An upgraded connection to an endpoint, until the client's side is free.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) lease: Lease,
    /// Counts as load as long as the tunnel stands.
    pub(super) target: Target,
    pub(super) exchange: std::rc::Rc<Exchange>,
}

impl Tunnel {
    /// Relays until both sides have ended. `read` is what the client sent right after its request.
    pub(super) async fn run(self, session: &Session, client: Client, read: Bytes) {
        let Self { mut lease, target, exchange } = self;
        // Hyper ends at the upgrade; nothing is waited for.
        if let Err(error) = poll_fn(|context| lease.drive(context)).await {
            tracing::debug!(%error, "an endpoint broke off right after it had agreed to an upgrade");
            exchange.refused(Reason::UpstreamReset);
            return client.get_ref().reset();
        }
        exchange.becomes_opaque();
        let choice = lease.choice();
        let (upstream, from_upstream, shortcut) = lease.into_io();
        if let Some(shortcut) = shortcut {
            // As with every opaque connection, the live connection itself ends it.
            session.live.aimed(target.endpoint.address, target.endpoint.workload.as_ref());
            session.live.course.takes(choice);
            drop(session.live.receiver.set(shortcut.leave()));
        }
        let (unread, client) = client.into_parts();
        let ends = Ends { client, from_client: joined(read, unread), upstream, from_upstream };
        let meter = Meter { cell: &session.cell, live: &session.live };
        match tcp::relay(ends, meter, session.cell.limits.idle).await {
            Ok(()) => exchange.complete(),
            Err(error) => {
                tracing::debug!(%error, "an upgraded connection broke off");
                exchange.refused(error.reason());
            }
        }
    }
}

/// Mostly one of them is empty, and nothing is copied.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    if second.is_empty() {
        return first;
    }
    let mut both = BytesMut::from(first);
    both.extend_from_slice(&second);
    both.freeze()
}
