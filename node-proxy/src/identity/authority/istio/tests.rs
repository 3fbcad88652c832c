//! Against a certificate service in this process: real TLS on a real port, with the answers that a test asks for.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use config::identity::Identity;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateSigningRequestDer, PrivatePkcs8KeyDer, UnixTime},
    time_provider::DefaultTimeProvider,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Response, Status, metadata::MetadataMap, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{AT_ONCE, Istio, Options, wire};
use crate::identity::{
    authority::{AuthorityError, Certificate, CertificateAuthority, Wanted, report},
    tls,
};

/// What the service does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Sign,
    SignFor(&'static str),
    SignExpired,
    SignWithoutRoot,
    SignWithTwoRoots,
    SignWithAnotherRoot,
    /// By another authority, whose root alone is in the answer.
    SignByTheNext,
    Refuse,
    Wait(Duration),
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, csr: &str, uri: &str, until: u64) -> String {
        let der = pem::parse(csr).unwrap();
        assert_eq!(der.tag(), "CERTIFICATE REQUEST");
        let request = CertificateSigningRequestDer::from(der.contents());
        let request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        params.signed_by(&request.public_key, &self.issuer).unwrap().pem()
    }
}

/// The service.
struct Service {
    authority: Authority,
    does: Mutex<Does>,
    /// What the last request said of itself.
    metadata: Mutex<MetadataMap>,
    request: Mutex<wire::Request>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Service {
    async fn create(
        &self,
        request: tonic::Request<wire::Request>,
    ) -> Result<Response<wire::Response>, Status> {
        *self.metadata.lock().unwrap() = request.metadata().clone();
        let request = request.into_inner();
        *self.request.lock().unwrap() = request.clone();
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let does = *self.does.lock().unwrap();
        if let Does::Wait(pause) = does {
            tokio::time::sleep(pause).await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        let fields = request.metadata.unwrap().fields;
        let asked = fields["ImpersonatedIdentity"].string_value.clone().unwrap();
        let roots = || self.authority.pem.clone();
        let sign = |uri: &str, until| self.authority.leaf(&request.csr, uri, until);
        let cert_chain = match does {
            Does::Refuse => {
                return Err(Status::unauthenticated("request impersonation authentication failure"));
            }
            Does::Sign | Does::Wait(_) => vec![sign(&asked, later()), roots()],
            Does::SignFor(other) => vec![sign(other, later()), roots()],
            Does::SignExpired => vec![sign(&asked, later() - 7200), roots()],
            Does::SignWithoutRoot => vec![sign(&asked, later())],
            Does::SignWithTwoRoots => vec![sign(&asked, later()), roots() + &Authority::new("next").pem],
            Does::SignByTheNext => {
                let next = Authority::new("next");
                vec![next.leaf(&request.csr, &asked, later()), next.pem]
            }
            Does::SignWithAnotherRoot => vec![sign(&asked, later()), Authority::new("other").pem],
        };
        Ok(Response::new(wire::Response { cert_chain }))
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority.issuer).unwrap().der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(tls::provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config =
            config.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (this, acceptor) = (Arc::clone(&self), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = hyper::service::service_fn(move |request: http::Request<_>| {
                    let this = Arc::clone(&this);
                    async move {
                        assert_eq!(request.uri().path(), wire::CREATE);
                        let create = service_fn(move |request| {
                            let this = Arc::clone(&this);
                            async move { this.create(request).await }
                        });
                        let mut grpc = Grpc::new(ProstCodec::default());
                        Ok::<_, std::convert::Infallible>(grpc.unary(create, request).await)
                    }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                // A client that goes ends it.
                let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }
}

/// Service and client, and the client's files.
struct Setup {
    service: Arc<Service>,
    options: Options,
    directory: TempDir,
}

impl Setup {
    async fn new(does: Does) -> Self {
        let service = Arc::new(Service {
            authority: Authority::new("mesh"),
            does: Mutex::new(does),
            metadata: Mutex::default(),
            request: Mutex::default(),
            now: AtomicUsize::default(),
            most: AtomicUsize::default(),
        });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(Arc::clone(&service).accept(listener));
        let directory = tempfile::tempdir().unwrap();
        let (root, token) = (directory.path().join("root.pem"), directory.path().join("token"));
        fs::write(&root, &service.authority.pem).unwrap();
        fs::write(&token, "first-token\n").unwrap();
        let options = Options {
            address: format!("127.0.0.1:{port}").parse().unwrap(),
            server_name: Some("localhost".to_owned()),
            root,
            token,
            cluster: "Kubernetes".to_owned(),
            lifetime: Duration::from_secs(86_400),
            clock: Arc::new(DefaultTimeProvider),
        };
        Self { service, options, directory }
    }

    fn client(&self) -> Istio {
        Istio::start(self.options.clone()).unwrap()
    }

    fn metadata(&self, name: &str) -> String {
        let metadata = self.service.metadata.lock().unwrap();
        metadata.get(name).unwrap().to_str().unwrap().to_owned()
    }
}

fn cart() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()
}

async fn obtain(client: &Istio) -> Result<Certificate, String> {
    client.source(&Wanted::of(cart())).obtain().await.map_err(|error: AuthorityError| report(&error))
}

fn later() -> u64 {
    UnixTime::now().as_secs() + 3600
}

#[tokio::test]
async fn node_asks_in_the_workloads_name_and_takes_chain_and_roots() {
    let setup = Setup::new(Does::Sign).await;
    let client = setup.client();
    assert!(client.roots().borrow().is_none());
    let certificate = obtain(&client).await.unwrap();
    assert_eq!((certificate.identity(), certificate.chain().len()), (&cart(), 1));
    assert_eq!(client.roots().borrow().as_ref().unwrap().certificates().len(), 1);
    assert_eq!(setup.metadata("authorization"), "Bearer first-token");
    assert_eq!(setup.metadata("clusterid"), "Kubernetes");
    assert_eq!(setup.service.request.lock().unwrap().validity_duration, 86_400);
}

#[tokio::test]
async fn token_is_read_again_with_every_request_and_its_absence_is_told() {
    let setup = Setup::new(Does::Sign).await;
    let client = setup.client();
    obtain(&client).await.unwrap();
    fs::write(&setup.options.token, "second-token").unwrap();
    obtain(&client).await.unwrap();
    assert_eq!(setup.metadata("authorization"), "Bearer second-token");
    fs::remove_file(&setup.options.token).unwrap();
    let error = obtain(&client).await.unwrap_err();
    assert!(error.contains("token: No such file") && error.contains("--istio-token"), "{error}");
    fs::write(&setup.options.token, "\n").unwrap();
    assert!(obtain(&client).await.unwrap_err().contains("it is empty"));
}

#[tokio::test]
async fn certificate_that_is_of_no_use_is_refused_and_its_roots_are_not_trusted() {
    for (does, why) in [
        (Does::SignFor("spiffe://cluster.local/ns/shop/sa/web"), "sa/web's, not spiffe"),
        (Does::SignFor("spiffe://other.domain/ns/shop/sa/cart"), "trust domain other.domain"),
        (Does::SignFor("spiffe://cluster.local/node"), "names no workload"),
        (Does::SignExpired, "has expired"),
        (Does::SignWithoutRoot, "the chain is empty"),
        (Does::SignWithAnotherRoot, "no authority that is trusted"),
    ] {
        let setup = Setup::new(does).await;
        let client = setup.client();
        let error = obtain(&client).await.unwrap_err();
        assert!(error.contains(why), "{does:?}: {error}");
        assert!(client.roots().borrow().is_none(), "{does:?}");
    }
}

#[tokio::test]
async fn bundle_of_several_roots_is_trusted_whole() {
    let setup = Setup::new(Does::SignWithTwoRoots).await;
    let client = setup.client();
    obtain(&client).await.unwrap();
    assert_eq!(client.roots().borrow().as_ref().unwrap().certificates().len(), 2);
}

#[tokio::test]
async fn while_the_root_changes_those_of_earlier_answers_are_trusted_too() {
    let setup = Setup::new(Does::Sign).await;
    let client = setup.client();
    obtain(&client).await.unwrap();
    let before = client.roots().borrow().clone().unwrap();
    *setup.service.does.lock().unwrap() = Does::SignByTheNext;
    obtain(&client).await.unwrap();
    let after = client.roots().borrow().clone().unwrap();
    assert_eq!(after.certificates().len(), 2);
    assert_eq!(after.certificates()[0], before.certificates()[0]);
}

#[tokio::test]
async fn refusal_says_who_may_ask_and_the_next_request_may_succeed() {
    let setup = Setup::new(Does::Refuse).await;
    let client = setup.client();
    let error = obtain(&client).await.unwrap_err();
    assert!(error.contains("impersonation authentication failure"), "{error}");
    assert!(error.contains("CA_TRUSTED_NODE_ACCOUNTS"), "{error}");
    *setup.service.does.lock().unwrap() = Does::Sign;
    obtain(&client).await.unwrap();
}

#[tokio::test]
async fn slow_service_is_asked_eight_things_at_a_time_and_what_nobody_waits_for_is_not_asked() {
    let setup = Setup::new(Does::Wait(Duration::from_millis(1200))).await;
    let client = setup.client();
    let one = || tokio::time::timeout(Duration::from_millis(3000), obtain(&client));
    let answers = futures_util::future::join_all((0..40).map(|_| one())).await;
    let answered = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    assert_eq!(setup.service.most.load(Ordering::SeqCst), AT_ONCE);
    assert!((AT_ONCE..=2 * AT_ONCE).contains(&answered), "{answered} within two rounds");
    // The queue of those that gave up is no burden to who comes next.
    *setup.service.does.lock().unwrap() = Does::Sign;
    tokio::time::timeout(Duration::from_secs(30), obtain(&client)).await.unwrap().unwrap();
}

#[tokio::test]
async fn service_that_cannot_prove_who_it_is_is_told_nothing() {
    let setup = Setup::new(Does::Sign).await;
    fs::write(setup.directory.path().join("root.pem"), Authority::new("stranger").pem).unwrap();
    let error = obtain(&setup.client()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = Istio::probe(&setup.options).await.unwrap_err();
    assert!(report(&error).contains("UnknownIssuer"), "{error}");
    fs::write(setup.directory.path().join("root.pem"), &setup.service.authority.pem).unwrap();
    Istio::probe(&setup.options).await.unwrap();
    let elsewhere = Options { server_name: Some("istiod.example".to_owned()), ..setup.options.clone() };
    assert!(report(&Istio::probe(&elsewhere).await.unwrap_err()).contains("not valid for name"));
    assert!(setup.service.metadata.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_root_file_and_a_service_that_is_away_are_told() {
    let setup = Setup::new(Does::Sign).await;
    let nowhere = Options { address: "127.0.0.1:1".parse().unwrap(), ..setup.options.clone() };
    let error = obtain(&Istio::start(nowhere).unwrap()).await.unwrap_err();
    assert!(error.contains("127.0.0.1:1") && error.contains("refused"), "{error}");
    fs::remove_file(&setup.options.root).unwrap();
    let error = obtain(&setup.client()).await.unwrap_err();
    assert!(error.contains("istio-ca-root-cert"), "{error}");
}
