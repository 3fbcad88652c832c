//! Certificates from Istio's certificate service, which istiod serves: a key made in the cell, a signing request in the name of
//! the workload, asked for by the node ("impersonation").
//!
//! One thread of this source asks for all cells: it sees signing requests and certificates, never a key. It must not ask more
//! than [`AT_ONCE`] at a time, and never for what nobody waits for any more.

use std::{fmt, io, path::PathBuf, str::FromStr, sync::Arc, thread, time::Duration};

use config::identity::Identity;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use http::uri::Authority;
use rustls::{pki_types::CertificateDer, time_provider::TimeProvider};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::LocalSet,
};

use self::asker::Asker;
use super::{
    AuthorityError, Certificate, CertificateAuthority, CertificateSource, Issued, OnBehalf, Request, Wanted,
};
use crate::identity::trust::Roots;

mod asker;
mod chain;
mod connection;
mod kept;
pub(crate) mod wire;

#[cfg(feature = "testing")]
pub mod answers;

#[cfg(test)]
mod tests;

/// Requests that are under way at a time, in the whole daemon.
pub const AT_ONCE: usize = 8;
/// Requests that may wait. A cell whose request finds no room tries again.
const WAITING: usize = 1024;
/// Enough for gRPC, TLS and to parse certificates.
const STACK_BYTES: usize = 1024 * 1024;

/// What this source is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The certificate service.
    pub address: Address,
    /// The name its certificate has to have; `None` is the host of its address.
    pub server_name: Option<String>,
    /// The roots that its certificate has to lead to, PEM. Read again with every connection.
    pub root: PathBuf,
    /// The service account token to ask with. Read again with every request.
    pub token: PathBuf,
    /// Which cluster this is, as the service knows it.
    pub cluster: String,
    /// The validity to ask for.
    pub lifetime: Duration,
    /// The time.
    pub clock: Arc<dyn TimeProvider>,
}

/// `HOST:PORT`, as of a certificate service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Authority, u16);

/// Why a text is not the address of a certificate service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT, as in istiod.istio-system.svc:15012")]
pub struct AddressError(String);

impl Address {
    pub(crate) fn host(&self) -> &str {
        self.0.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.1
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        let authority: Authority = text.parse().map_err(|_| error())?;
        let port = authority.port_u16().filter(|port| *port > 0).ok_or_else(error)?;
        if authority.host().is_empty() || text.contains('@') {
            return Err(error());
        }
        Ok(Self(authority, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Istio's certificate service. Ends with its last clone.
#[derive(Debug, Clone)]
pub struct Istio {
    orders: mpsc::Sender<Order>,
    roots: watch::Receiver<Option<Arc<Roots>>>,
}

/// What the asking thread is told.
#[derive(Debug)]
struct Order {
    identity: Identity,
    request: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<CertificateDer<'static>>, AuthorityError>>,
}

impl Istio {
    /// Starts the asking thread. A service that is not there yet is tried again by whoever wants a certificate.
    pub fn start(options: Options) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(WAITING);
        let (sender, roots) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("authority".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            LocalSet::new().block_on(&runtime, Asker::new(options, sender).run(inbox));
        })?;
        Ok(Self { orders, roots })
    }

    /// Whether all is there to ask with; says what was found. Asks for no certificate.
    pub async fn probe(options: &Options) -> Result<String, AuthorityError> {
        asker::bearer(options)?;
        connection::dial(options).await?;
        Ok(format!(
            "{} speaks TLS with a certificate that {} vouches for",
            options.address,
            options.root.display()
        ))
    }
}

impl CertificateAuthority for Istio {
    fn name(&self) -> &'static str {
        "istio"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(Source { identity: wanted.identity.clone(), orders: self.orders.clone() })
    }

    /// Those that came with the newest certificate: `None` until the first one.
    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.clone()
    }

    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        Some(Arc::new(self.clone()))
    }
}

impl OnBehalf for Istio {
    fn issue(
        &self,
        identity: &Identity,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Issued, AuthorityError>> {
        let (orders, identity) = (self.orders.clone(), identity.clone());
        Box::pin(async move { Ok(Issued::Chain(sign(&orders, &identity, request).await?)) })
    }

    fn newer(&self, _: &Identity) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// One identity's, in its cell.
struct Source {
    identity: Identity,
    orders: mpsc::Sender<Order>,
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            let request = Request::new(&self.identity)?;
            let chain = sign(&self.orders, &self.identity, request.der().to_vec()).await?;
            Ok(request.fulfil(chain)?)
        })
    }
}

/// Has a request signed.
async fn sign(
    orders: &mpsc::Sender<Order>,
    identity: &Identity,
    request: Vec<u8>,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let (answer, chain) = oneshot::channel();
    orders.try_send(Order { identity: identity.clone(), request, answer }).map_err(|error| {
        AuthorityError::Unavailable(match error {
            mpsc::error::TrySendError::Full(_) => "too many requests wait".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "its thread has ended".to_owned(),
        })
    })?;
    chain.await.map_err(|_| AuthorityError::Unavailable("its thread has ended".to_owned()))?
}
