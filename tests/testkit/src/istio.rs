//! Istio's certificate service, as istiod serves it to the proxy of a node: by gRPC over TLS, to who shows the token of a node
//! account, for the workloads on that node. The system's openssl signs (`pki`), and tonic serves: nothing of Canopy is in it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use self::generated::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use crate::{
    KitError, Netns, block_on,
    pki::{Authority, Leaf},
};

/// The name in its certificate.
pub const NAME: &str = "istiod.istio-system.svc";

/// The service on a thread of this process, its sockets in a namespace. Dropping it ends it.
#[derive(Debug)]
pub struct Istiod {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), KitError>>>,
}

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose token it showed.
    pub token: String,
    /// Of which cluster it said to be.
    pub cluster: String,
    /// For whom it asked, where it did so in another's name.
    pub identity: Option<String>,
    /// For how many seconds.
    pub seconds: i64,
    /// The number of the certificate that it got.
    pub serial: Option<String>,
}

#[derive(Debug)]
struct State {
    authority: Authority,
    /// Tokens of node accounts, each with a workload on its node.
    trusted: Mutex<BTreeSet<(String, String)>>,
    asked: Mutex<Vec<Asked>>,
}

impl Istiod {
    /// Starts it in `netns`; it listens when this returns, and trusts nobody yet.
    ///
    /// # Errors
    /// The address cannot be bound, or there is no openssl.
    pub fn start(netns: &Netns, at: SocketAddr) -> Result<Self, KitError> {
        let failed = move |source| KitError::Start { what: format!("a certificate service at {at}"), source };
        let authority = Authority::new()?;
        let leaf = Leaf { hosts: &[NAME], usages: "serverAuth", ..Leaf::default() };
        let own = authority.issue_odd(("istio-system", "istiod"), &leaf)?;
        let tls = tls(&own).map_err(failed)?;
        let listener = netns.run(|| TcpListener::bind(at))?.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let state = Arc::new(State { authority, trusted: Mutex::default(), asked: Mutex::default() });
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Service(Arc::clone(&state));
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::select! {
                ended = accept(listener, tls, service) => ended,
                _ = stopped => Ok(()),
            }
        };
        let thread = netns.spawn(move || block_on(serve).map_err(failed))?;
        let thread = std::thread::spawn(move || thread.join().unwrap_or(Ok(Ok(())))?);
        Ok(Self { state, stop: Some(stop), thread: Some(thread) })
    }

    /// The roots of all that it issues, and of its own certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.state.authority.path().join("root.crt")
    }

    /// Whoever shows this token may ask for this workload from now on.
    pub fn trust(&self, token: &str, identity: &str) {
        let mut trusted = self.state.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.insert((token.to_owned(), identity.to_owned()));
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Istiod {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its failure, if any, was its clients' to see.
            let _ = thread.join();
        }
    }
}

/// TLS 1.3 with the certificate in a folder.
fn tls(own: &Path) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(own.join("tls.crt")).map_err(io::Error::other)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(own.join("tls.key")).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).map_err(io::Error::other)?;
    let config = config.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Ends only by being dropped, or when the listener fails.
async fn accept(listener: tokio::net::TcpListener, tls: TlsAcceptor, service: Service) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            // Who does not come to terms with it has been told why.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = TowerToHyperService::new(IstioCertificateServiceServer::new(service));
            let connection = http2::Builder::new(TokioExecutor::new());
            let _ended = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(&self, request: Request<Wanted>) -> Result<Response<Issued>, Status> {
        let authorization = said(request.metadata(), "authorization");
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default().to_owned();
        let cluster = said(request.metadata(), "clusterid");
        let Wanted { csr, validity_duration: seconds, metadata } = request.into_inner();
        let mut fields = metadata.unwrap_or_default().fields;
        let identity = fields.remove(IMPERSONATED).and_then(|value| value.string_value);
        let mut asked = Asked { token, cluster, identity, seconds, serial: None };
        let answer = self.0.issue(&csr, &mut asked);
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        answer.map(Response::new)
    }
}

impl State {
    /// As istiod: who is not trusted for the workload gets nothing, whatever is in the request.
    fn issue(&self, csr: &str, asked: &mut Asked) -> Result<Issued, Status> {
        let refused = || Status::unauthenticated("request impersonation authentication failure");
        let identity = asked.identity.clone().ok_or_else(refused)?;
        let wanted = (asked.token.clone(), identity);
        if !self.trusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&wanted) {
            return Err(refused());
        }
        let failed = |error: KitError| Status::internal(error.to_string());
        let signed = self.authority.sign(csr, &wanted.1).map_err(failed)?;
        asked.serial = Some(signed.serial);
        let roots = std::fs::read_to_string(self.authority.path().join("root.crt"));
        let roots = roots.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Issued { cert_chain: vec![signed.pem, roots] })
    }
}

fn said(metadata: &MetadataMap, name: &str) -> String {
    metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The key by which a node's proxy says for whom it asks.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// `IstioCertificateRequest` (istio/api, `security/v1alpha1/ca.proto`; the tags are the field numbers there).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wanted {
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(int64, tag = "3")]
    validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Issued {
    #[prost(string, repeated, tag = "1")]
    cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
struct Struct {
    #[prost(map = "string, message", tag = "1")]
    fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, of which only texts matter here.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Value {
    #[prost(string, optional, tag = "3")]
    string_value: Option<String>,
}

mod generated {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        unused_qualifications,
        rust_2018_idioms,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "written by tonic-build"
    )]
    include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.IstioCertificateService.rs"));
}
