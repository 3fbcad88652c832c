//! One tunnel, from this side: made as the caller's pod, driven by a task of its own, shared by streams.
//!
//! The task ends when the tunnel has: closed by the peer, silent, or let go of by the pool with no stream left. A tunnel must never
//! be cut because its certificate was renewed, or because the pool has no use for it any more.

use std::{
    cell::{Cell as Slot, RefCell},
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use ebpf_redirect::Side;
use futures_util::FutureExt;
use h2::client;
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::Callee;
use crate::{
    cell::Cell,
    hbone::{
        self, DENIED, ReadAhead, Streams, Tunnel, Wire,
        keepalive::{Keepalive, Pulse},
        settings,
    },
    identity::{
        credentials::{Peer, Session, Standing},
        failure,
        verify::Usage,
    },
    policy::Permit,
    stream::Told,
    telemetry::Reason,
    tenancy::meter,
    upstream::{UpstreamError, connect},
};

/// A tunnel.
pub(super) struct Connection {
    /// Where the peer's tunnels end.
    address: SocketAddr,
    send: RefCell<client::SendRequest<Bytes>>,
    wire: Wire,
    streams: Rc<Streams>,
    facts: Rc<Facts>,
    unused_since: Slot<Instant>,
}

/// What the driver knows.
#[derive(Debug, Default)]
struct Facts {
    /// Streams that the peer allows.
    allowed: Slot<usize>,
    ended: Slot<bool>,
}

impl Connection {
    /// Connects as the caller's pod, from inside its namespace, and shakes hands with the callee's proxy.
    pub(super) async fn open(
        cell: &Cell,
        permit: &Permit,
        callee: Callee<'_>,
    ) -> Result<Rc<Self>, UpstreamError> {
        let address = SocketAddr::new(callee.target.ip(), hbone::PORT);
        let own = &permit.tree.workload.identity;
        let place = cell.tunnels.place(cell, address.ip()).ok_or(UpstreamError::TunnelLimit { address })?;
        let since = cell.credentials.trust_version();
        let allowed = std::slice::from_ref(&callee.workload.identity);
        let config = cell.credentials.client(own, allowed).await;
        let config =
            config.map_err(|source| UpstreamError::Credentials { address, source: Rc::new(source) })?;
        let (socket, taken) = connect::dial(cell, &permit.tree, None, address).await?;
        let patience = cell.limits.handshake;
        let deadline = Instant::now() + patience;
        let slow = |_elapsed| UpstreamError::Handshake { address, reason: Reason::HandshakeTimeout };
        // The name is not sent, and not what the peer is checked for: that is its SPIFFE ID.
        let name = ServerName::IpAddress(address.ip().into());
        let shaking = TlsConnector::from(config).connect(name, ReadAhead::new(socket));
        let tls = timeout_at(deadline, shaking).await.map_err(slow)?;
        let tls = tls.map_err(|error| failed(address, &error))?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let session = cell.credentials.establish(&Peer { own, chain, usage: Usage::Server, since });
        let session =
            session.map_err(|error| UpstreamError::Handshake { address, reason: error.reason() })?;
        cell.ledger.handshake(Side::Outbound);
        let wire = Wire::new(tls.into(), Some(taken));
        let http = settings::client().handshake(wire.clone());
        let http = timeout_at(deadline, hbone::sending(&wire, http)).await.map_err(slow)?;
        let (send, driver) = http.map_err(|_error| broken(address, &wire))?;
        let connection = Self {
            address,
            send: RefCell::new(send),
            wire: wire.clone(),
            streams: Rc::new(Streams::with(callee.workload.identity.clone())),
            facts: Rc::default(),
            unused_since: Slot::new(Instant::now()),
        };
        connection.facts.allowed.set(settings::MOST_STREAMS);
        let (streams, facts) = (Rc::clone(&connection.streams), Rc::clone(&connection.facts));
        let keepalive = cell.limits.tunnel_keepalive;
        let driving = drive(driver, Driven { wire, streams, facts, session, keepalive });
        meter::spawn(driving.map(move |()| drop(place)));
        Ok(Rc::new(connection))
    }

    /// Opens a stream and waits for the peer's answer.
    pub(super) async fn connect(&self, cell: &Cell, request: Request<()>) -> Result<Tunnel, UpstreamError> {
        let address = self.address;
        // Counted at once: others ask for room while this one waits.
        let open = self.streams.open();
        let sent = self.send.borrow_mut().send_request(request, false);
        let (response, send) = sent.map_err(|_error| broken(address, &self.wire))?;
        // The peer has a connection to make itself, for which it may take as long as we.
        let patience = 2 * cell.limits.connect;
        let answer = timeout(patience, response).await;
        let answer = answer.map_err(|_elapsed| UpstreamError::Timeout { address, after: patience })?;
        let answer = answer.map_err(|error| {
            tracing::debug!(%error, %address, "a tunnel's peer did not answer a CONNECT");
            broken(address, &self.wire)
        })?;
        self.unused_since.set(Instant::now());
        match answer.status() {
            StatusCode::OK => Ok(Tunnel::opened(send, answer.into_body(), open)),
            status => Err(UpstreamError::Refusal { address, status }),
        }
    }

    /// Whether one more stream can be opened now.
    pub(super) fn has_room(&self) -> bool {
        !self.is_ending() && self.streams.count() < self.facts.allowed.get().min(settings::MOST_STREAMS)
    }

    /// Whether it has ended, or the peer has said that it takes no more streams.
    pub(super) fn is_ending(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let mut refuses = || matches!(self.send.borrow_mut().poll_ready(&mut nobody), Poll::Ready(Err(_)));
        if !self.streams.is_ending() && (self.facts.ended.get() || refuses()) {
            self.streams.end();
        }
        self.streams.is_ending()
    }

    /// Whether it has no stream.
    pub(super) fn is_unused(&self) -> bool {
        self.streams.count() == 0
    }

    /// Whether it may be used again: it is open, and has had a stream not too long ago.
    pub(super) fn is_worth_keeping(&self, unused: Duration) -> bool {
        if self.streams.count() > 0 {
            self.unused_since.set(Instant::now());
        }
        !self.is_ending() && self.unused_since.get().elapsed() < unused
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// What the driver has in its hands besides HTTP/2.
struct Driven {
    wire: Wire,
    streams: Rc<Streams>,
    facts: Rc<Facts>,
    session: Session,
    keepalive: Duration,
}

async fn drive(mut http: client::Connection<Wire, Bytes>, driven: Driven) {
    let Driven { wire, streams, facts, session, keepalive } = driven;
    let mut keepalive = Keepalive::new(http.ping_pong(), keepalive);
    let ended = poll_fn(|cx| {
        while let Poll::Ready(standing) = session.poll_changed(cx) {
            match standing {
                Standing::Stands => {}
                Standing::Outdated => streams.end(),
                Standing::Fallen(error) => return Poll::Ready(cut(&streams, error.reason())),
            }
        }
        streams.poll_lingering(cx);
        if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
            // GOAWAY, if it has one to say.
            let _sent = wire.poll_send(cx);
            if let Err(error) = &ended
                && error.is_remote()
                && error.reason() == Some(DENIED)
            {
                streams.cut(Reason::PeerDenied);
            }
            return Poll::Ready(ended.map_err(io::Error::other));
        }
        facts.allowed.set(http.max_concurrent_send_streams());
        if let Poll::Ready(Err(error)) = streams.outflow().note(wire.poll_send(cx)) {
            return Poll::Ready(Err(error));
        }
        wire.rest_without(&streams);
        while let Poll::Ready(pulse) = keepalive.poll(cx) {
            match pulse {
                Pulse::Dead => return Poll::Ready(cut(&streams, Reason::PeerSilent)),
                Pulse::Alive => {
                    streams.age();
                    wire.rest();
                }
            }
        }
        Poll::Pending
    })
    .await;
    facts.ended.set(true);
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel ended");
    }
}

fn cut(streams: &Streams, reason: Reason) -> io::Result<()> {
    streams.cut(reason);
    Err(Told(reason).into())
}

fn failed(address: SocketAddr, error: &io::Error) -> UpstreamError {
    let reason = failure::reason_of_io(error).unwrap_or(Reason::TlsFailed);
    tracing::debug!(%error, %address, %reason, "a tunnel's handshake failed");
    UpstreamError::Handshake { address, reason }
}

/// TLS 1.3 tells the client only after its own handshake is done that its certificate was refused.
fn broken(address: SocketAddr, wire: &Wire) -> UpstreamError {
    match wire.failure() {
        Some(error) => UpstreamError::Handshake { address, reason: failure::reason(&error) },
        None => UpstreamError::Tunnel { address },
    }
}
