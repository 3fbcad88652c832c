//! The receiving end of a tunnel: TLS with the pod's own certificate, then HTTP/2, of which each CONNECT is a connection.
//!
//! Who speaks is proven by the certificate, before any byte of HTTP/2 is read. What is accepted here goes through the same stages
//! as every other connection; a tunnel itself decides nothing.

use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::identity::Identity;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    cell::Cell,
    hbone::{
        Streams, Wire,
        keepalive::{Keepalive, Pulse},
        settings,
    },
    identity::{self, credentials::CredentialError, failure},
    telemetry::Reason,
};

pub use self::request::{ConnectRequest, RequestError, read};

mod request;

/// Periods of the keepalive without a stream after which a tunnel is asked to go: ten minutes, twice what clients keep an
/// unused one for.
const IDLE_PERIODS: u32 = 60;

/// Why a tunnel was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is nothing to speak with.
    #[error("there is no certificate to accept a tunnel with")]
    Credentials(#[from] CredentialError),
    /// The handshake took too long.
    #[error("the handshake was not finished within {0:?}")]
    Slow(Duration),
    /// TLS failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] std::io::Error),
    /// TLS is established with nobody in particular.
    #[error("the peer's certificate names no workload")]
    Nobody,
    /// What is spoken over TLS is not HTTP/2.
    #[error("the peer does not speak HTTP/2 over TLS")]
    Http(#[source] h2::Error),
}

impl AcceptError {
    /// The reason in log and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Credentials(error) => error.reason(),
            Self::Slow(_) => Reason::HandshakeTimeout,
            Self::Tls(error) => failure::reason_of_io(error).unwrap_or(Reason::TlsFailed),
            Self::Nobody => Reason::CertificateMissing,
            Self::Http(_) => Reason::ProtocolError,
        }
    }
}

/// An accepted tunnel.
#[derive(Debug)]
pub struct Connection {
    http: h2::server::Connection<Wire, Bytes>,
    wire: Wire,
    keepalive: Keepalive,
    idle_periods: u32,
    is_finishing: bool,
    /// Its streams.
    pub streams: Rc<Streams>,
    /// Who opened it, proven.
    pub peer: Identity,
}

/// A request for a stream.
pub type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// Shakes hands as `own`, within the cell's deadline. Boxed: what holds a tunnel would have room for it several times over.
pub async fn accept(cell: &Cell, socket: TcpStream, own: &Identity) -> Result<Box<Connection>, AcceptError> {
    let patience = cell.limits.handshake;
    let deadline = Instant::now() + patience;
    let config = cell.credentials.server(own).await?;
    let tls = timeout_at(deadline, TlsAcceptor::from(config).accept(socket)).await;
    let tls = tls.map_err(|_elapsed| AcceptError::Slow(patience))?.map_err(AcceptError::Tls)?;
    let peer = identity::peer_identity(tls.get_ref().1).ok_or(AcceptError::Nobody)?;
    let wire = Wire::new(tls.into());
    let http = settings::server().handshake(wire.clone());
    let http = crate::hbone::sending(&wire, http);
    let http = timeout_at(deadline, http).await.map_err(|_elapsed| AcceptError::Slow(patience))?;
    let mut http = http.map_err(AcceptError::Http)?;
    let keepalive = Keepalive::new(http.ping_pong());
    Ok(Box::new(Connection {
        http,
        wire,
        keepalive,
        idle_periods: 0,
        is_finishing: false,
        streams: Rc::default(),
        peer,
    }))
}

impl Connection {
    /// Takes no new streams, and says so; those there are go on.
    pub fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_finishing, true) {
            self.http.graceful_shutdown();
        }
    }

    /// The next request. `None` when the tunnel has ended. Drives every stream's bytes, so it is to be polled until it does.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Asked, h2::Error>>> {
        self.streams.poll_lingering(cx);
        loop {
            let next = self.http.poll_accept(cx);
            if next.is_ready() {
                return next;
            }
            if let Poll::Ready(Err(error)) = self.wire.poll_send(cx) {
                tracing::debug!(%error, "a tunnel's connection broke off");
                return Poll::Ready(None);
            }
            self.wire.rest_without(&self.streams);
            match self.keepalive.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Pulse::Dead) => return Poll::Ready(None),
                Poll::Ready(Pulse::Alive) => self.look(),
            }
        }
    }

    /// Once per period.
    fn look(&mut self) {
        self.streams.age();
        self.idle_periods = if self.streams.count() == 0 { self.idle_periods + 1 } else { 0 };
        if self.idle_periods >= IDLE_PERIODS {
            self.finish();
        }
    }
}
