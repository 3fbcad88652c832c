//! Certificates from SPIRE: the Delegated Identity API of the agent on this node, over its admin socket.
//!
//! SPIRE makes the key, and the cell itself reads it: every identity has a connection of its own, made and driven by its
//! cell. What all cells share, the roots, comes to a thread of this source. Nothing here may ask for an identity that no workload
//! of the asking cell has: the agent believes what it is told.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use config::identity::TrustDomain;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::watch};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use self::source::Source;
use super::{
    AuthorityError, CertificateAuthority, CertificateSource, Wanted, grpc,
    retry::{Backoff, report},
};
use crate::identity::trust::Roots;

mod bundles;
mod source;
mod wire;

#[cfg(feature = "testing")]
pub mod answers;

#[cfg(test)]
mod tests;

/// What this source is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's `admin_socket_path`.
    pub socket: PathBuf,
    /// Whose identities are wanted.
    pub trust_domain: TrustDomain,
}

/// SPIRE. Ends with its last clone.
#[derive(Debug, Clone)]
pub struct Spire {
    socket: Arc<Path>,
    roots: watch::Receiver<Option<Arc<Roots>>>,
}

impl Spire {
    /// Starts the thread that follows the roots. An agent that is not there yet is waited for.
    pub fn start(options: Options) -> io::Result<Self> {
        let (sender, roots) = watch::channel(None);
        let socket: Arc<Path> = options.socket.as_path().into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("authority".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = follow(&options, &sender) => {}
                    () = sender.closed() => {}
                }
            });
        })?;
        Ok(Self { socket, roots })
    }

    /// Asks the agent once; says what it answered.
    pub async fn probe(options: &Options) -> Result<String, AuthorityError> {
        let known = watch::Sender::new(None);
        tokio::select! {
            error = bundles::follow(options, &known, || {}) => return Err(error),
            _ = async { known.subscribe().wait_for(Option::is_some).await.map(drop) } => {}
        }
        let roots = known.borrow().as_ref().map_or(0, |roots: &Arc<Roots>| roots.certificates().len());
        let (socket, domain) = (options.socket.display(), &options.trust_domain);
        Ok(format!("the agent at {socket} accepts this process as a delegate; roots of {domain}: {roots}"))
    }
}

/// Never without a try to come, never without a pause between two.
async fn follow(options: &Options, roots: &watch::Sender<Option<Arc<Roots>>>) {
    let mut pause = Backoff::default();
    loop {
        let error = bundles::follow(options, roots, || pause = Backoff::default()).await;
        let problem = report(&error);
        tracing::warn!(problem, "SPIRE's roots cannot be followed; trying again");
        tokio::time::sleep(pause.next(fastrand::f64())).await;
    }
}

impl CertificateAuthority for Spire {
    fn name(&self) -> &'static str {
        "spire"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(Source::new(Arc::clone(&self.socket), wanted.clone(), self.roots.clone()))
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.clone()
    }
}

/// A connection to the agent.
async fn connect(socket: &Path) -> Result<Channel, AuthorityError> {
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // Nobody looks at the name: a Unix socket has one server.
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    channel.map_err(|error| {
        let (problem, remedy) = match grpc::system_error(&error) {
            Some(io::ErrorKind::NotFound) => ("there is no socket", NO_SOCKET),
            Some(io::ErrorKind::ConnectionRefused) => ("nobody listens", NO_AGENT),
            Some(io::ErrorKind::PermissionDenied) => ("this user may not connect", NO_RIGHT),
            _ => return AuthorityError::Unavailable(report(&error)),
        };
        AuthorityError::Setup {
            problem: format!("{problem} at {}", socket.display()),
            remedy: remedy.to_owned(),
        }
    })
}

/// What the agent's status means.
fn refusal(status: &Status) -> AuthorityError {
    match status.code() {
        Code::PermissionDenied => AuthorityError::Setup {
            problem: format!("the agent does not take this process for a delegate ({})", status.message()),
            remedy: NO_DELEGATE.to_owned(),
        },
        Code::Unimplemented => AuthorityError::Setup {
            problem: "this socket does not serve the Delegated Identity API".to_owned(),
            remedy: WRONG_SOCKET.to_owned(),
        },
        Code::InvalidArgument => AuthorityError::Refused(status.message().to_owned()),
        _ => grpc::unavailable(status),
    }
}

const NO_SOCKET: &str =
    "is the SPIRE agent running, and is this the `admin_socket_path` of its configuration?";
const NO_AGENT: &str = "is the SPIRE agent running?";
const NO_RIGHT: &str = "run as root, or give this user the socket's directory";
const NO_DELEGATE: &str = "register an entry that fits this process (for example: selector unix:uid:0, parent: the agent), and list \
                           its SPIFFE ID in `authorized_delegates` of the agent's configuration";
const WRONG_SOCKET: &str = "name the agent's `admin_socket_path`, not the socket of the Workload API";

/// Enough for gRPC and to parse certificates.
const STACK_BYTES: usize = 512 * 1024;
