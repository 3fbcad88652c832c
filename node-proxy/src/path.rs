//! The life of a connection: capture → accept → identity → policy → route → balance → upstream → relay, in that
//! order, each stage called from here; of HTTP, `relay::http` calls route, balance and upstream, for each request.
//!
//! Here, too, a connection's panic ends, and its one line of the access log is written. Nothing here may hold up another
//! connection of the cell.

use std::{
    future::{poll_fn, ready},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use config::name::PodName;
use ebpf_redirect::{Origin, Side};
use futures_util::{FutureExt, future::LocalBoxFuture};

use crate::{
    accept::{self, Accepted, Protocol, Rewind},
    balance::Picked,
    capture::{self, Arrival, Captured},
    cell::{Cell, Live, LiveGuard},
    hbone,
    identity::{self, Identified},
    policy::{self, Denied, Permit},
    relay::{
        http,
        probe::{self, Asked},
        tcp::{self, Ends, Meter},
    },
    snapshot::{Cluster, Destination, Snapshot},
    stream::{ResetOnDrop, Stream},
    telemetry::Reason,
    tenancy::{ConnectionGuard, Payer},
    upstream::{
        UpstreamError,
        connect::{Connected, Peer},
    },
};

pub use self::{handoff::handoff_loop, listener::accept_loop};

mod handoff;
mod listener;
mod report;
mod revoke;
mod tunnel;

/// Endpoints tried for one opaque connection, as long as none was sent a byte. More would only keep a client waiting:
/// the balancer has ejected what fails often.
const TRIES: usize = 3;

/// Carries one connection from its capture to its end.
pub async fn carry(cell: Rc<Cell>, captured: Captured) {
    let _open = ConnectionGuard::open(&cell.ledger);
    let origin = match capture::origin(&*cell.redirect, &captured) {
        Ok(origin) => origin,
        Err(error) => {
            tracing::debug!(%error, client = %captured.accept_addr, "a connection was refused");
            return refuse(&cell, captured, error.reason());
        }
    };
    let live = enter(&cell, &captured, origin);
    let mut work = pin!(AssertUnwindSafe(stages(&cell, captured, live.share())).catch_unwind());
    let end = poll_fn(|cx| match live.poll_closed(cx) {
        Poll::Ready(reason) => Poll::Ready(Ok(End::Because(reason))),
        Poll::Pending => work.as_mut().poll(cx),
    })
    .await;
    let end = end.unwrap_or_else(|_panic| {
        cell.panicked();
        End::Because(Reason::Panic)
    });
    report::ended(&cell, &live, end);
}

/// Makes it one of the live connections, with what its delivery says of it. Not a part of [`carry`], whose future would have room
/// for all of it until its end.
fn enter(cell: &Cell, captured: &Captured, origin: Origin) -> LiveGuard {
    let source = source(cell, captured, origin.client);
    let socket = captured.stream.socket().map(|socket| cell.sockets.register(socket, captured.tree.id));
    let live = Live::new(Rc::clone(&captured.tree), captured.side, origin, source);
    if let Arrival::Delivered(delivered) = &captured.arrival {
        if let Some(from) = &delivered.unseen_from {
            drop(live.unseen_from.set(Arc::clone(from)));
        }
        if let Some(said) = &delivered.said {
            drop(live.said.set(Rc::clone(said)));
        }
        live.course.follows(delivered.trace);
    }
    cell.live.enter(live, socket)
}

/// The pod that calls, as far as it is known.
fn source(cell: &Cell, captured: &Captured, client: SocketAddr) -> Option<PodName> {
    match (captured.side, &captured.arrival) {
        (Side::Outbound, _) => Some(captured.tree.workload.pod.clone()),
        (Side::Inbound, Arrival::Delivered(delivered)) => delivered.pod.clone(),
        (Side::Inbound, Arrival::Socket) => cell.snapshot().pod_at(client).cloned(),
    }
}

/// Puts a new snapshot in place, and ends at once every connection that it does not permit any more, also where nothing
/// is sent on it.
pub fn swap(cell: &Cell, snapshot: Arc<Snapshot>) {
    cell.swap(Arc::clone(&snapshot));
    revoke::reconsider(cell, &snapshot);
}

/// Ends a connection before its first stage, as a failure.
pub fn refuse(cell: &Cell, captured: Captured, reason: Reason) {
    let payer = cell.payers.of(captured.tree.id);
    let _turn = payer.as_ref().map(Payer::turn);
    report::refused(cell, &captured, reason);
    captured.stream.refuse(reason);
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both ends have finished.
    Whole,
    /// It was refused or broken off.
    Because(Reason),
    /// Its requests were reported one by one, or there was none.
    Told,
}

async fn stages(cell: &Rc<Cell>, captured: Captured, live: Rc<Live>) -> End {
    if is_tunnel(&captured, &live) {
        return Box::pin(tunnel::serve(cell, captured, &live)).await;
    }
    let accepted = match accept::accept(cell, captured, &live).await {
        Ok(accepted) => accepted,
        Err(error) => return error.reason().map_or(End::Told, End::Because),
    };
    let Admitted { permit, captured, protocol, prefix } = match admit(cell, accepted, &live) {
        Ok(admitted) => admitted,
        Err(turned_away) => return turned_away.await,
    };
    match protocol {
        Protocol::Http1 | Protocol::Http2 => {
            let client = Rewind::new(prefix, captured.stream);
            // Boxed, so that an opaque connection does not pay for the larger future.
            Box::pin(http::serve(Rc::clone(cell), permit, live, client, protocol)).await;
            End::Told
        }
        Protocol::Tcp | Protocol::Hbone => {
            opaque(cell, permit, Opening { client: captured.stream, prefix }, &live).await
        }
    }
}

/// Whether other connections are to come in this one.
fn is_tunnel(captured: &Captured, live: &Live) -> bool {
    let is_socket = matches!(captured.arrival, Arrival::Socket);
    is_socket && captured.side == Side::Inbound && live.origin.destination.port() == hbone::PORT
}

/// A connection that policy lets on.
struct Admitted {
    permit: Permit,
    captured: Captured,
    protocol: Protocol,
    prefix: bytes::Bytes,
}

/// Identity and policy, which wait for nothing; or what is left to be done with a connection that they refuse, boxed, so
/// that those that are let on do not pay for it.
fn admit<'a>(
    cell: &'a Rc<Cell>,
    accepted: Accepted,
    live: &'a Live,
) -> Result<Admitted, LocalBoxFuture<'a, End>> {
    live.protocol.set(Some(accepted.protocol));
    drop(live.destination.set(accepted.destination.clone()));
    let identified = identity::identify(accepted, live.source.clone());
    drop(live.caller.set(Arc::clone(&identified.caller)));
    if cell.tenure.is_over() {
        let reason = Reason::CellRestarted;
        identified.accepted.captured.stream.refuse(reason);
        return Err(Box::pin(ready(End::Because(reason))));
    }
    match policy::decide(&cell.snapshot(), &identified) {
        Ok(permit) => {
            let Accepted { captured, protocol, prefix, .. } = identified.accepted;
            Ok(Admitted { permit, captured, protocol, prefix })
        }
        Err(denied) => Err(Box::pin(turned_away(cell, identified, denied, live))),
    }
}

/// Refuses a connection, unless it asks what the pod declared that its node may ask.
async fn turned_away(cell: &Rc<Cell>, identified: Identified, denied: Denied, live: &Live) -> End {
    let probe = policy::probe::permit(&cell.snapshot(), &identified, &denied);
    let Accepted { captured, protocol, prefix, .. } = identified.accepted;
    match probe {
        Some(probe) => {
            let client = Rewind::new(prefix, captured.stream);
            if probe::serve(cell, probe, client, protocol, live).await == Asked::Answered {
                return End::Whole;
            }
        }
        None => captured.stream.refuse(denied.reason()),
    }
    live.denied(&denied);
    End::Because(denied.reason())
}

/// The client's end of an opaque connection, and what was read from it.
struct Opening {
    client: Stream,
    prefix: bytes::Bytes,
}

async fn opaque(cell: &Cell, permit: Permit, mut opening: Opening, live: &Live) -> End {
    let unanswered = ResetOnDrop::new(&opening.client);
    let reached = reach(cell, &permit, live).await;
    unanswered.disarm();
    let (mut connected, _load) = match reached {
        Ok(reached) => reached,
        Err(reason) => {
            opening.client.refuse(reason);
            return End::Because(reason);
        }
    };
    // The live connection itself ends it, with a reset at both ends.
    if let Some(shortcut) = connected.shortcut.take() {
        drop(live.receiver.set(shortcut.leave()));
    }
    if let Err(error) = opening.client.accept() {
        tracing::debug!(%error, client = %live.origin.client, "a client left before its connection was made");
        connected.stream.reset();
        return End::Because(Reason::ClientClosed);
    }
    live.connected_after.set(Some(connected.took));
    let ends = Ends {
        client: opening.client,
        from_client: opening.prefix,
        upstream: connected.stream,
        from_upstream: bytes::Bytes::new(),
    };
    match tcp::relay(ends, Meter { cell, live }, cell.limits.idle).await {
        Ok(()) => End::Whole,
        Err(error) => {
            tracing::debug!(%error, client = %live.origin.client, "a connection broke off");
            End::Because(error.reason())
        }
    }
}

/// Connects to who the destination is: an endpoint of a Service, or the very address that was dialled.
async fn reach(cell: &Cell, permit: &Permit, live: &Live) -> Result<(Connected, Option<Picked>), Reason> {
    let pod = match &permit.destination {
        Destination::Service { entry, .. } => return any_of(cell, permit, &entry.cluster, live).await,
        Destination::Workload { entry, .. } => Some(&entry.workload.pod),
        Destination::Outside => None,
    };
    match one(cell, permit, (permit.origin.destination, pod), live).await {
        Ok(connected) => Ok((connected, None)),
        Err(error) => Err(error.reason()),
    }
}

async fn any_of(
    cell: &Cell,
    permit: &Permit,
    cluster: &Cluster,
    live: &Live,
) -> Result<(Connected, Option<Picked>), Reason> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut last = cluster.emptiness();
    while tried.len() < TRIES {
        let client = permit.origin.client.ip();
        let Some(picked) = cell.balancer.pick(cluster, client, &tried) else { break };
        let address = picked.address();
        if tried.contains(&address) {
            break;
        }
        tried.push(address);
        let endpoint = Arc::clone(&picked.endpoint);
        match one(cell, permit, (address, endpoint.workload.as_ref()), live).await {
            Ok(connected) => {
                picked.succeeded(connected.took);
                return Ok((connected, Some(picked)));
            }
            Err(error) if error.is_denial() => return Err(error.reason()),
            Err(error) => {
                if error.blames_endpoint() {
                    picked.failed();
                }
                last = error.reason();
            }
        }
    }
    Err(last)
}

async fn one(
    cell: &Cell,
    permit: &Permit,
    (address, pod): (SocketAddr, Option<&PodName>),
    live: &Live,
) -> Result<Connected, UpstreamError> {
    live.aimed(address, pod);
    let connected = cell.connect.connect(cell, permit, Peer { address, pod, course: &live.course }).await;
    match &connected {
        Ok(connected) => {
            if let Some(proven) = connected.stream.tunnel().and_then(|tunnel| tunnel.peer()) {
                drop(live.proven.set(proven));
            }
        }
        Err(error) => {
            if let UpstreamError::Denied(denied) = error {
                live.denied(denied);
            }
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::debug!(%error, cause, client = %live.origin.client, "an endpoint could not be reached");
        }
    }
    connected
}

#[cfg(test)]
mod tests;
