//! Serves nodes: connections in, one by one, each with its streams.
//!
//! Everything is bounded: connections, streams, what a request may hold, and the time in which a node has to do its part. Nobody is
//! served who is not to read the mesh.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::stream;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;

use super::{
    super::protocol::{self, DELTA, LARGEST_MESSAGE},
    Certificates, Listen, ListenError, Streams,
    activity::{Activity, Counted, OpenStream, Watch},
    certify,
    listen::{Caller, Door},
    prove,
    session::Session,
    stream::Proof,
    tls::{Tls, TlsError},
};
use crate::{
    control::kubernetes::{Authority, Callers},
    identity::authority::istio::wire::CREATE,
};

/// Bound doors, and what is served behind them.
#[derive(Debug)]
pub struct Server {
    doors: Vec<Door>,
    tls: Option<Mutex<Tls>>,
    streams: Arc<Streams>,
    authority: Option<Arc<Authority>>,
    callers: Option<Arc<Callers>>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot be listened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who is at a connection's other end.
#[derive(Debug, Clone)]
struct Peer {
    /// For the log.
    name: Arc<str>,
    /// Whether it is root or the server's own user, on this machine, and so may say which node it is and shows no token. A certificate
    /// does not say it: it is a service account's, which is the same on all nodes.
    trusted: bool,
    /// When it has to prove anew that it may read.
    until: Option<Instant>,
    /// As a request for a certificate is told.
    from: certify::From,
}

impl Server {
    /// Binds all doors.
    pub async fn open(
        at: &[Listen],
        tls: Option<Certificates>,
        streams: Arc<Streams>,
    ) -> Result<Self, ServeError> {
        let tls = tls.map(Tls::open).transpose()?;
        let mut doors = Vec::new();
        for at in at {
            doors.push(Door::open(at, tls.is_some()).await?);
        }
        Ok(Self { doors, tls: tls.map(Mutex::new), streams, authority: None, callers: None })
    }

    /// Gives certificates, too.
    #[must_use]
    pub fn certifying(self, authority: Option<Arc<Authority>>) -> Self {
        Self { authority, ..self }
    }

    /// Tells the mesh over the network to nodes' daemons alone, each of which proves by its token which node it is on.
    #[must_use]
    pub fn knowing(self, callers: Option<Arc<Callers>>) -> Self {
        Self { callers, ..self }
    }

    /// Where nodes find it.
    pub fn addresses(&self) -> std::io::Result<Vec<Listen>> {
        self.doors.iter().map(Door::address).collect()
    }

    /// Serves until `stop` comes back, and then takes its leave: nobody is let in any more, every stream ends without an error when what
    /// was begun to be sent is, and within a second, not all at once. Who does not go by himself is cut off after ten seconds.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { doors, tls, streams, authority, callers } = self;
        let (leave, leaving) = watch::channel(false);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let desk = Arc::new(Desk { tls, streams, authority, callers, places, leaving });
        let mut all = JoinSet::new();
        for door in doors {
            all.spawn(Arc::clone(&desk).welcome(door));
        }
        let mut all_ended = pin!(async { while all.join_next().await.is_some() {} });
        tokio::select! {
            () = &mut all_ended => return,
            () = stop => {}
        }
        leave.send_replace(true);
        if timeout(GRACE, all_ended).await.is_err() {
            tracing::warn!(
                "nodes that did not end their connections are cut off; they come back by themselves"
            );
        }
    }
}

/// What all doors share.
#[derive(Debug)]
struct Desk {
    tls: Option<Mutex<Tls>>,
    streams: Arc<Streams>,
    authority: Option<Arc<Authority>>,
    callers: Option<Arc<Callers>>,
    places: Arc<Semaphore>,
    /// Changes when the server takes its leave.
    leaving: watch::Receiver<bool>,
}

impl Desk {
    async fn welcome(self: Arc<Self>, door: Door) {
        // Ends with this.
        let mut connections = JoinSet::new();
        let mut leaving = self.leaving.clone();
        loop {
            while connections.try_join_next().is_some() {}
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, door.accept().await)
            };
            let (Ok(place), accepted) = (tokio::select! {
                next = next => next,
                _ = leaving.wait_for(|leaving| *leaving) => break,
            }) else {
                return;
            };
            match accepted {
                Ok(Some(caller)) => {
                    let desk = Arc::clone(&self);
                    connections.spawn(async move {
                        desk.serve(caller).await;
                        drop(place);
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a node's connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(door);
        while connections.join_next().await.is_some() {}
    }

    async fn serve(&self, caller: Caller) {
        match caller {
            Caller::Unix(stream) => {
                let from = certify::From { address: None, secure: true };
                self.carry(stream, Peer { name: Arc::from("unix"), trusted: true, until: None, from }).await;
            }
            Caller::Tcp { stream, from, secure } => {
                let name = Arc::from(from.to_string());
                let address = Some(from.ip());
                if !secure {
                    let from = certify::From { address, secure: false };
                    return self.carry(stream, Peer { name, trusted: false, until: None, from }).await;
                }
                let Some((acceptor, until)) = self.acceptor() else {
                    return tracing::info!(peer = %name, "a node was turned away: there is no certificate yet");
                };
                let from = certify::From { address, secure: true };
                match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.carry(stream, Peer { name, trusted: false, until, from }).await,
                    Ok(Err(error)) => tracing::info!(peer = %name, %error, "a node's handshake failed"),
                    Err(_) => tracing::info!(peer = %name, "a node's handshake was not finished in time"),
                }
            }
        }
    }

    fn acceptor(&self) -> Option<(TlsAcceptor, Option<Instant>)> {
        let mut tls = self.tls.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        // Not all at once, where many began at once.
        let is_proven = tls.demands_certificates() || self.callers.is_some();
        let until = is_proven.then(|| Instant::now() + AGE.mul_f64(1.0 - fastrand::f64() / 4.0));
        Some((tls.acceptor()?, until))
    }

    async fn carry(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let activity = Arc::<Activity>::default();
        let (end, ends) = watch::channel(false);
        let service = {
            let (streams, activity, peer) = (Arc::clone(&self.streams), Arc::clone(&activity), peer.clone());
            let (authority, callers) = (self.authority.clone(), self.callers.clone());
            service_fn(move |request: Request<Incoming>| {
                let (streams, activity, peer) = (Arc::clone(&streams), Arc::clone(&activity), peer.clone());
                let callers = callers.clone();
                let authority = authority.clone().filter(|_| request.uri().path() == CREATE);
                let ends = ends.clone();
                async move {
                    match authority {
                        Some(authority) => certify::answer(request, authority, activity, peer.from).await,
                        // Before anybody is asked about a token.
                        None if request.uri().path() != DELTA => {
                            Ok(Status::unimplemented(format!("here is {DELTA} alone")).into_http())
                        }
                        None => match proof(&request, callers.as_deref(), &activity, &peer).await {
                            Ok(proof) => answer(request, streams, (activity, ends), (peer, proof)).await,
                            Err(status) => Ok(status.into_http()),
                        },
                    }
                }
            })
        };
        let mut watch = Watch::new(Arc::clone(&activity), Instant::now(), peer.until);
        let connection = http2().serve_connection(TokioIo::new(Counted { io, activity }), service);
        let mut connection = pin!(connection);
        let mut leave = pin!(leave(self.leaving.clone()));
        loop {
            tokio::select! {
                () = &mut leave, if !*end.borrow() => {
                    end.send_replace(true);
                    connection.as_mut().graceful_shutdown();
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %peer.name, %error, "a node's connection ended");
                    }
                    return;
                }
                () = sleep(LOOK) => {
                    if let Some(verdict) = watch.look(Instant::now()) {
                        tracing::info!(peer = %peer.name, why = ?verdict, "a node's connection is ended");
                        return;
                    }
                }
            }
        }
    }
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES);
    builder
}

/// What who asks has proven, before anything is told.
async fn proof(
    request: &Request<Incoming>,
    callers: Option<&Callers>,
    activity: &Arc<Activity>,
    peer: &Peer,
) -> Result<Proof, Status> {
    match callers {
        _ if peer.trusted => Ok(Proof::Trusted),
        None => Ok(Proof::Nothing),
        Some(callers) => {
            // Its connection is not idle meanwhile.
            let _open = OpenStream::new(Arc::clone(activity));
            prove::reader(callers, request.headers(), peer.from, &peer.name).await
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    streams: Arc<Streams>,
    (activity, ends): (Arc<Activity>, watch::Receiver<bool>),
    (peer, proof): (Peer, Proof),
) -> Result<Response<Body>, Infallible> {
    let session = tower::service_fn(move |requests: tonic::Request<Streaming<protocol::Request>>| {
        let place = streams.open(proof.clone(), peer.name.to_string());
        let (activity, ends) = (Arc::clone(&activity), ends.clone());
        async move {
            let place =
                place.ok_or_else(|| Status::resource_exhausted("as many streams are open as may be"))?;
            let session = Session::new(place, requests.into_inner(), activity, ends);
            Ok(tonic::Response::new(stream::unfold(session, |mut session| async move {
                Some((session.next().await?, session))
            })))
        }
    });
    let mut grpc = Grpc::new(ProstCodec::<protocol::Response, protocol::Request>::default())
        .max_decoding_message_size(LARGEST_REQUEST)
        .max_encoding_message_size(LARGEST_MESSAGE);
    Ok(grpc.streaming(session, request).await)
}

/// Comes back when a connection is to end, since the server takes its leave: not all at once, since who is told comes back at once.
async fn leave(mut leaving: watch::Receiver<bool>) {
    if leaving.wait_for(|leaving| *leaving).await.is_ok() {
        sleep(SPREAD.mul_f64(fastrand::f64())).await;
    }
}

/// Connections at a time.
const CONNECTIONS: usize = 8192;
/// Streams of a connection; a node needs one.
const STREAMS: u32 = 4;
/// Bytes of a request's head.
const HEAD_BYTES: u32 = 16 << 10;
/// Bytes of a request. The first of a stream says what the node has, at some 100 bytes each: 150,000 resources.
const LARGEST_REQUEST: usize = 16 << 20;
/// How long a handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long who has shown a certificate or a token is believed: it may be withdrawn.
const AGE: Duration = Duration::from_secs(3600);
/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often a node is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);
/// In which time all are told to go, and how long it may take until they have gone: well below the time that Kubernetes gives.
const SPREAD: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
