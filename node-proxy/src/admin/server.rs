//! The daemon's end of the admin socket.
//!
//! Bounded connections and heads. It must never answer a peer that is neither root nor the daemon's own user; on a tenant's own
//! socket, its owner besides, of that tenant alone.

use std::{
    convert::Infallible,
    io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::Subject;
use crate::{
    explain::Ask,
    sys::private::{Private, Taken, is_trusted},
};

type Body = BoxBody<Bytes, Infallible>;

/// The admin socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another daemon answers on it.
    #[error("a daemon is already running on {path}; give this one another --instance or --admin-socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is in the way.
    #[error("{path} is there and is not a socket; move it away or give another --admin-socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// This user may not make it.
    #[error(
        "this user may not make the admin socket {path}: run as root, or give another with --admin-socket"
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// The system said no.
    #[error("the admin socket {path} cannot be made; give another with --admin-socket")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The bound admin socket. The file goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    door: Private,
    audience: Audience,
}

/// Whom a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Those who may see everything: root and the daemon's own user.
    Administrators,
    /// They, and the owner of a tenant, who are shown that tenant alone.
    Owner {
        /// The tenant, by its name.
        tenant: String,
        /// The owner.
        uid: u32,
    },
}

impl Audience {
    /// Whether a peer of this user may ask.
    fn includes(&self, peer: u32, own: u32) -> bool {
        is_trusted(peer, own) || matches!(self, Self::Owner { uid, .. } if *uid == peer)
    }

    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Administrators => None,
            Self::Owner { tenant, .. } => Some(tenant),
        }
    }
}

impl Server {
    /// Makes the socket, taking the place of one that nobody answers on any more.
    pub fn bind(path: &Path) -> Result<Self, AdminError> {
        let door = Private::bind(path).map_err(|taken| match taken {
            Taken::InUse => AdminError::InUse { path: path.to_owned() },
            Taken::NotASocket => AdminError::NotASocket { path: path.to_owned() },
            Taken::System(source) => refusal(path, source),
        })?;
        Ok(Self { door, audience: Audience::Administrators })
    }

    /// As [`Server::bind`], for one tenant's owner, in a directory that is there.
    pub fn bind_for(path: &Path, tenant: &str, uid: u32) -> Result<Self, AdminError> {
        let mut server = Self::bind(path)?;
        // Who owns it is a convenience: whoever connects is asked for credentials, whatever the file says.
        chown(path, Some(uid), None).map_err(|source| refusal(path, source))?;
        server.audience = Audience::Owner { tenant: tenant.to_owned(), uid };
        Ok(server)
    }

    /// Answers with what `subject` says, until dropped.
    pub async fn serve(self, subject: Arc<dyn Subject>) {
        let most = if self.audience == Audience::Administrators { CONNECTIONS } else { OWNERS_CONNECTIONS };
        let places = Arc::new(Semaphore::new(most));
        let audience = Arc::new(self.audience.clone());
        // Ends with this: who may not ask any more is cut.
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.door.accept_if(|peer, own| audience.includes(peer, own)).await {
                Ok(Some(stream)) => {
                    let (subject, audience) = (Arc::clone(&subject), Arc::clone(&audience));
                    connections.spawn(async move {
                        serve_connection(stream, subject, audience).await;
                        drop(place);
                    });
                }
                Ok(None) => tracing::warn!("a stranger's connection to the admin socket was refused"),
                Err(error) => {
                    tracing::warn!(%error, "the admin socket did not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn refusal(path: &Path, source: io::Error) -> AdminError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => AdminError::NotAllowed { path },
        _ => AdminError::Bind { path, source },
    }
}

async fn serve_connection(stream: UnixStream, subject: Arc<dyn Subject>, audience: Arc<Audience>) {
    let service = service_fn(move |request| {
        let (subject, audience) = (Arc::clone(&subject), Arc::clone(&audience));
        async move {
            Ok::<_, Infallible>(match audience.tenant() {
                None => answer(&*subject, &request).await,
                Some(tenant) => {
                    // The thread that answers is everybody's.
                    tokio::time::sleep(OWNERS_PAUSE).await;
                    answer_owner(&*subject, &request, tenant)
                }
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is its own affair; a trace ends that way.
    let _ = connection.await;
}

async fn answer(subject: &dyn Subject, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET: nothing can be changed here\n".to_owned());
    }
    match request.uri().path() {
        "/tree" => json(&subject.tree().await),
        "/costs" => json(&subject.costs(None)),
        "/events" => json(&subject.events(number(request, "after="), None)),
        "/showback" => json(&subject.showback(number(request, "since="), None)),
        "/status" => json(&subject.status()),
        "/objects" => json(&subject.objects(None)),
        "/explain" => match Ask::from_query(request.uri().query().unwrap_or_default()) {
            Ok(ask) => match subject.explain(ask).await {
                Ok(explanation) => json(&explanation),
                Err(why) => text(StatusCode::NOT_FOUND, why),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
        },
        "/configuration" => match subject.configuration() {
            Ok(bytes) => Response::new(Full::new(Bytes::from(bytes)).boxed()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/trace" => match subject.trace(pod_of(request.uri().query())) {
            Ok(lines) => Response::new(lines_body(lines)),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /tree, /costs, /events, /showback, /status, /objects, /explain?from=NAMESPACE/POD&to=HOST:PORT, /configuration and \
             /trace?pod=NAMESPACE/NAME\n"
                .to_owned(),
        ),
    }
}

/// What an owner may see: its own tenant's figures and events.
fn answer_owner(subject: &dyn Subject, request: &Request<Incoming>, tenant: &str) -> Response<Body> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET: nothing can be changed here\n".to_owned());
    }
    match request.uri().path() {
        "/costs" => json(&subject.costs(Some(tenant))),
        "/events" => json(&subject.events(number(request, "after="), Some(tenant))),
        "/showback" => json(&subject.showback(number(request, "since="), Some(tenant))),
        "/objects" => json(&subject.objects(Some(tenant))),
        _ => {
            let may = "an owner may ask for /costs, /events, /showback and /objects\n";
            text(StatusCode::FORBIDDEN, may.to_owned())
        }
    }
}

/// A number that the query names; 0 where it does not.
fn number(request: &Request<Incoming>, name: &str) -> u64 {
    let pairs = request.uri().query().into_iter().flat_map(|query| query.split('&'));
    pairs.filter_map(|pair| pair.strip_prefix(name)?.parse().ok()).next().unwrap_or_default()
}

fn pod_of(query: Option<&str>) -> Option<String> {
    query?.split('&').find_map(|pair| pair.strip_prefix("pod=")).map(str::to_owned)
}

fn lines_body(lines: mpsc::Receiver<Bytes>) -> Body {
    let frames = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), lines))
    });
    StreamBody::new(frames).boxed()
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => Response::new(Full::new(Bytes::from(body)).boxed()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response
}

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Those of one tenant's owner.
const OWNERS_CONNECTIONS: usize = 4;
/// How long an owner's question waits: ten a second are enough on each.
const OWNERS_PAUSE: Duration = Duration::from_millis(100);
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_socket_is_for_its_owner_besides_and_for_nobody_else() {
        let owner = Audience::Owner { tenant: "shop".to_owned(), uid: 1234 };
        let asks = |peer| owner.includes(peer, 1000);
        assert_eq!([0, 1000, 1234, 1235].map(asks), [true, true, true, false]);
        let administers = |peer, own| Audience::Administrators.includes(peer, own);
        assert!(administers(0, 1000) && administers(1000, 1000));
        assert!(!administers(1234, 1000) && !administers(1001, 0));
    }

    #[test]
    fn pod_is_taken_from_the_query() {
        assert_eq!(pod_of(Some("a=b&pod=shop/cart")), Some("shop/cart".to_owned()));
        assert_eq!(pod_of(Some("podium=x")), None);
        assert_eq!(pod_of(None), None);
    }
}
