//! The receiving end of a tunnel: TLS with the pod's own certificate, then HTTP/2, of which each CONNECT is a connection.
//!
//! Who speaks is proven by the certificate, before any byte of HTTP/2 is read. What is accepted here goes through the same stages
//! as every other connection; a tunnel itself decides nothing.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use config::identity::Identity;
use ebpf_redirect::Side;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    cell::{Cell, Handshake, Limits, Live, PushedOut},
    hbone::{
        DENIED, ReadAhead, Streams, Wire,
        keepalive::{Keepalive, Pulse},
        settings,
    },
    identity::{
        self,
        credentials::{CredentialError, Peer, Session, Standing},
        failure,
        verify::{PeerError, Usage},
    },
    stream::farewell::{Farewell, Patience, Signs},
    sys::socket::reset,
    telemetry::Reason,
};

pub use self::request::{ConnectRequest, Here, RequestError, read};

mod request;

/// How much longer than clients keep an unused tunnel one is kept here before it is asked to go.
const IDLE: u32 = 2;

/// Why a tunnel was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is nothing to speak with.
    #[error("there is no certificate to accept a tunnel with")]
    Credentials(#[from] CredentialError),
    /// Nothing came before all was to end. Nothing to report: who dials a tunnel speaks first.
    #[error("nothing came, and connections are to end")]
    Unused,
    /// The handshake took too long.
    #[error("the handshake was not finished within {0:?}")]
    Slow(Duration),
    /// Nothing came, and others need its place.
    #[error("too many handshakes are under way")]
    Crowded(#[from] PushedOut),
    /// TLS failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] std::io::Error),
    /// TLS is established with nobody in particular.
    #[error("the peer's certificate names no workload")]
    Nobody,
    /// Trust has changed since the handshake began.
    #[error("the peer was believed, and is not any more")]
    Fallen(#[source] PeerError),
    /// What is spoken over TLS is not HTTP/2.
    #[error("the peer does not speak HTTP/2 over TLS")]
    Http(#[source] h2::Error),
}

impl AcceptError {
    /// The reason in log and metrics; `None` where there is nothing to report.
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Unused => return None,
            Self::Credentials(error) => error.reason(),
            Self::Slow(_) => Reason::HandshakeTimeout,
            Self::Crowded(_) => Reason::HandshakeLimit,
            Self::Tls(error) => failure::reason_of_io(error).unwrap_or(Reason::TlsFailed),
            Self::Nobody => Reason::CertificateMissing,
            Self::Fallen(error) => error.reason(),
            Self::Http(_) => Reason::ProtocolError,
        })
    }
}

/// An accepted tunnel.
#[derive(Debug)]
pub struct Connection {
    http: h2::server::Connection<Wire, Bytes>,
    wire: Wire,
    keepalive: Keepalive,
    session: Session,
    idle: Idle,
    /// How long its peer is waited for once it is to end.
    patience: Patience,
    /// Of a tunnel that is to end.
    farewell: Option<Farewell>,
    /// Its streams.
    pub streams: Rc<Streams>,
    /// Who opened it, proven.
    pub peer: Identity,
}

/// How long it has had no stream.
#[derive(Debug)]
struct Idle {
    since: Instant,
    most: Duration,
}

/// Why a tunnel ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum BrokenError {
    /// HTTP/2 says so.
    #[error("HTTP/2 broke off")]
    Http(#[source] h2::Error),
    /// Its peer is not believed any more.
    #[error("the peer was believed, and is not any more")]
    Fallen(#[source] PeerError),
    /// Its peer does not answer.
    #[error("the peer did not answer a question whether it is there")]
    Silent,
}

impl BrokenError {
    /// The reason in log and metrics, where it is for this end to say.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Http(_) => None,
            Self::Fallen(error) => Some(error.reason()),
            Self::Silent => Some(Reason::PeerSilent),
        }
    }
}

/// A request for a stream.
pub type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// Shakes hands as `own`, within the cell's deadline. Boxed: what holds a tunnel would have room for it several times over.
///
/// Where the connection is to end meanwhile, a peer that has said nothing has as long as a silent one from when it was accepted, since
/// its first word may be on its way, and one that has begun as long from then on: it has asked for nothing yet, and finds another
/// endpoint.
pub async fn accept(
    cell: &Cell,
    socket: TcpStream,
    (own, live): (&Identity, &Live),
    mut handshake: Handshake,
) -> Result<Box<Connection>, AcceptError> {
    let Limits { handshake: patience, farewell, .. } = cell.limits;
    let deadline = Instant::now() + patience;
    let silent = || live.is_finishing().then(|| live.since + farewell);
    match within(deadline, silent, handshake.speaks(&socket)).await {
        Some(spoken) => spoken.inspect_err(|_| reset(&socket))?,
        None if live.is_finishing() => return Err(AcceptError::Unused),
        None => return Err(AcceptError::Slow(patience)),
    }
    let begun = || live.is_finishing().then(|| Instant::now() + farewell);
    let slow = || AcceptError::Slow(if live.is_finishing() { farewell } else { patience });
    within(deadline, begun, shake(cell, socket, own)).await.ok_or_else(slow)?
}

/// What `work` comes to; `None` where that takes longer than until `deadline`, or until what `sooner` says once it says something.
async fn within<W: Future>(
    deadline: Instant,
    sooner: impl Fn() -> Option<Instant>,
    work: W,
) -> Option<W::Output> {
    let (mut work, mut timer, mut is_sooner) = (pin!(work), pin!(sleep_until(deadline)), false);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if !is_sooner && let Some(sooner) = sooner() {
            is_sooner = true;
            timer.as_mut().reset(deadline.min(sooner));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

async fn shake(cell: &Cell, socket: TcpStream, own: &Identity) -> Result<Box<Connection>, AcceptError> {
    let since = cell.credentials.trust_version();
    let config = cell.credentials.server(own).await?;
    let socket = ReadAhead::new(socket);
    let tls = TlsAcceptor::from(config).accept(socket).await.map_err(AcceptError::Tls)?;
    let shown = tls.get_ref().1;
    let peer = identity::peer_identity(shown).ok_or(AcceptError::Nobody)?;
    let chain = shown.peer_certificates().unwrap_or_default();
    let session = cell.credentials.establish(&Peer { own, chain, usage: Usage::Client, since });
    let session = session.map_err(AcceptError::Fallen)?;
    cell.ledger.handshake(Side::Inbound);
    let wire = Wire::new(tls.into(), None);
    let http = settings::server().handshake(wire.clone());
    let mut http = crate::hbone::sending(&wire, http).await.map_err(AcceptError::Http)?;
    let keepalive = Keepalive::new(http.ping_pong(), cell.limits.tunnel_keepalive);
    Ok(Box::new(Connection {
        http,
        wire,
        keepalive,
        session,
        idle: Idle { since: Instant::now(), most: IDLE * cell.limits.tunnel_idle },
        patience: cell.limits.patience(),
        farewell: None,
        streams: Rc::default(),
        peer,
    }))
}

impl Connection {
    /// Takes no new streams, and says so; those there are go on.
    pub fn finish(&mut self) {
        if self.farewell.is_none() {
            self.http.graceful_shutdown();
            self.farewell = Some(Farewell::begin(self.patience, self.signs()));
        }
    }

    /// The next request. `None` when the tunnel has ended. Drives every stream's bytes, so it is to be polled until it does.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Asked, BrokenError>>> {
        while let Poll::Ready(standing) = self.session.poll_changed(cx) {
            match standing {
                Standing::Stands => {}
                Standing::Outdated => self.finish(),
                Standing::Fallen(error) => {
                    self.cut(error.reason(), cx);
                    return Poll::Ready(Some(Err(BrokenError::Fallen(error))));
                }
            }
        }
        self.streams.poll_lingering(cx);
        loop {
            if let Poll::Ready(next) = self.http.poll_accept(cx) {
                return Poll::Ready(next.map(|asked| asked.map_err(BrokenError::Http)));
            }
            if let Poll::Ready(Err(error)) = self.streams.outflow().note(self.wire.poll_send(cx)) {
                tracing::debug!(%error, "a tunnel's connection broke off");
                return Poll::Ready(None);
            }
            self.wire.rest_without(&self.streams);
            match self.keepalive.poll(cx) {
                Poll::Pending => return self.poll_farewell(cx).map(|()| None),
                Poll::Ready(Pulse::Dead) => {
                    self.streams.cut(Reason::PeerSilent);
                    return Poll::Ready(Some(Err(BrokenError::Silent)));
                }
                Poll::Ready(Pulse::Alive) => self.look(),
            }
        }
    }

    /// Ready when it is to end, and its peer, which may be gone, has not said that it has heard so. Nothing runs through it then.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let signs = self.signs();
        let Some(farewell) = &mut self.farewell else { return Poll::Pending };
        ready!(farewell.poll(signs, cx));
        tracing::debug!(peer = %self.peer, "a tunnel ends whose peer does not let go of it");
        self.depart(h2::Reason::NO_ERROR, cx);
        Poll::Ready(())
    }

    fn signs(&self) -> Signs {
        let busy = self.streams.count() > 0 || self.http.has_streams() || self.wire.is_unsent();
        Signs { busy, heard: self.wire.heard() }
    }

    /// Ends it and all its streams; the peer is told as much as HTTP/2 can say.
    fn cut(&mut self, reason: Reason, cx: &mut Context<'_>) {
        self.streams.cut(reason);
        self.depart(DENIED, cx);
    }

    /// Says that it ends now.
    fn depart(&mut self, reason: h2::Reason, cx: &mut Context<'_>) {
        self.http.abrupt_shutdown(reason);
        // As far as it goes at once: nothing is waited for.
        let _farewell = self.http.poll_closed(cx);
        let _sent = self.wire.poll_send(cx);
    }

    /// Once per period.
    fn look(&mut self) {
        self.streams.age();
        self.wire.rest();
        if self.streams.count() > 0 {
            self.idle.since = Instant::now();
        }
        if self.idle.since.elapsed() >= self.idle.most {
            self.finish();
        }
    }
}
