//! Who gets which certificate: the daemon's own client against the server, whose API server is a small one.

use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::json;

use super::{
    super::{
        KubernetesSource,
        callers::STRANGER_BURST,
        kinds,
        testing::{Cluster, Faults, objects::Token},
    },
    *,
};
use crate::{
    control::discovery::server::{Certificates, Listen, Server, Streams},
    identity::{
        authority::{CertificateAuthority, Request, Wanted, embedded::held, istio, report},
        certificate::Certificate,
        leaf,
        trust::{Revocations, Roots, Trust},
        verify::{Usage, verify},
    },
};

mod reading;

const PODS: &str = "/api/v1/pods";
const SECRET: &str = "/api/v1/namespaces/canopy-system/secrets/canopy-ca";
const ROOTS: &str = "/api/v1/namespaces/canopy-system/configmaps/canopy-root";
const DAEMON: &str = "system:serviceaccount:canopy-system:canopy-node";
const LONG: Duration = Duration::from_secs(20);

/// A control plane that gives certificates, its cluster, and the files of a daemon on node `a`.
struct Setup {
    cluster: Cluster,
    authority: Arc<Authority>,
    standing: Arc<Standing>,
    address: SocketAddr,
    files: tempfile::TempDir,
    _source: KubernetesSource,
}

fn options() -> Options {
    Options {
        trust_domain: TrustDomain::default(),
        believed: Believed {
            audience: "istio-ca".to_owned(),
            accounts: vec!["canopy-system/canopy-node".parse().unwrap()],
        },
        lifetime: Duration::from_secs(86_400),
        cluster_domain: "cluster.local".to_owned(),
        publishes: true,
        webhook: false,
        clock: Arc::new(DefaultTimeProvider),
    }
}

fn pod(name: &str, node: &str, phase: &str) -> serde_json::Value {
    json!({
        "metadata": { "name": format!("{name}-1"), "namespace": "shop", "uid": format!("uid-{name}") },
        "spec": { "nodeName": node, "serviceAccountName": name, "containers": [{ "name": "c" }] },
        "status": { "phase": phase },
    })
}

/// A token of a daemon on node `a`.
fn daemon() -> Token {
    let extra = vec![("pod-name", "canopy-node-x"), ("pod-uid", "u"), ("node-name", "a")];
    Token { audience: "istio-ca", user: DAEMON, extra }
}

impl Setup {
    async fn new() -> Self {
        let cluster = Cluster::start(&[]);
        cluster.put(PODS, pod("cart", "a", "Running"));
        cluster.put(PODS, pod("web", "b", "Running"));
        cluster.put(PODS, pod("job", "a", "Succeeded"));
        cluster.token("daemon-on-a", daemon());
        let watched = super::super::Options {
            access: cluster.access(),
            watched: kinds::cluster(),
            reading: config::store::Options::default(),
            capture: None,
        };
        let source = tokio::task::spawn_blocking(|| KubernetesSource::start(watched).unwrap()).await.unwrap();
        let (residents, standing) = (source.residents(), source.standing());
        let told = Arc::clone(&standing);
        let authority = Authority::open(options(), &cluster.access(), residents, told).await.unwrap();
        tokio::spawn(Arc::clone(&authority).keep());
        let site =
            config::discovery::Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
        let at = [Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        let own = Some(Certificates::Own(Arc::clone(&authority)));
        let server = Server::open(&at, own, Arc::new(Streams::new(site))).await.unwrap();
        let Listen::Tcp(address) = server.addresses().unwrap()[0] else { panic!() };
        tokio::spawn(server.certifying(Some(Arc::clone(&authority))).serve(std::future::pending()));
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("token"), "daemon-on-a").unwrap();
        let setup = Self { cluster, authority, standing, address, files, _source: source };
        setup.until(|setup| setup.authority.is_ready() && setup.standing.is_complete()).await;
        setup.until(|setup| setup.cluster.single(ROOTS)["data"]["ca.crt"].is_string()).await;
        setup.trust_what_is_published();
        setup
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !is_so(self) {
            assert!(Instant::now() < end, "it never is");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As the kubelet does it with a ConfigMap.
    fn trust_what_is_published(&self) {
        let map = self.cluster.single(ROOTS);
        std::fs::write(self.file("ca.crt"), map["data"]["ca.crt"].as_str().unwrap()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn client(&self) -> istio::Istio {
        istio::Istio::start(istio::Options {
            address: self.address.to_string().parse().unwrap(),
            server_name: Some("canopy-control.canopy-system.svc".to_owned()),
            root: self.file("ca.crt"),
            token: self.file("token"),
            cluster: "Kubernetes".to_owned(),
            lifetime: Duration::from_secs(3600),
            clock: Arc::new(DefaultTimeProvider),
        })
        .unwrap()
    }

    /// What the daemon gets, by the token that lies in its file.
    async fn obtain(&self, account: &str) -> Result<Certificate, String> {
        let mut source = self.client().source(&Wanted::of(identity(account)));
        source.obtain().await.map_err(|error| report(&error))
    }

    /// With another token.
    async fn with_token(&self, token: Token) -> String {
        self.cluster.token("another", token);
        std::fs::write(self.file("token"), "another").unwrap();
        self.obtain("cart").await.unwrap_err()
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.authority.figures.refused(refusal)
    }
}

fn identity(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

/// A signing request in this name.
fn csr(account: &str) -> String {
    let request = Request::new(&identity(account)).unwrap();
    pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", request.der()))
}

fn asked<'a>(impersonated: Option<&'a str>, request: &'a str) -> Asked<'a> {
    Asked { token: Some("daemon-on-a"), impersonated, request, lifetime: 3600, from: None, secure: true }
}

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// The leaf of an answer.
fn leaf_of(answer: &[String]) -> leaf::Leaf {
    leaf::read(pem::parse(&answer[0]).unwrap().contents()).unwrap()
}

#[tokio::test]
async fn a_daemon_gets_the_identity_of_a_pod_of_its_node_over_tls_of_the_same_root() {
    let setup = Setup::new().await;
    let client = setup.client();
    let certificate = client.source(&Wanted::of(identity("cart"))).obtain().await.unwrap();
    assert_eq!((certificate.identity(), certificate.chain().len()), (&identity("cart"), 2));
    let roots = client.roots().borrow().clone().unwrap();
    let published = Roots::from_pem(&std::fs::read(setup.file("ca.crt")).unwrap()).unwrap();
    assert_eq!(*roots, published);
    assert_eq!(setup.authority.figures.signed(), 1);
    // Nobody is told the key, and nobody is given the server's name.
    assert!(setup.cluster.asked("/apis/authentication.k8s.io/v1/tokenreviews", "").len() == 1);
    assert!(leaf::read(&setup.authority.presented().unwrap().chain[0]).is_err(), "the server is no workload");
}

#[tokio::test]
async fn no_identity_is_signed_for_a_node_that_has_no_such_pod() {
    let setup = Setup::new().await;
    for account in ["web", "job", "nobody"] {
        let error = setup.obtain(account).await.unwrap_err();
        assert!(error.contains("no pod of this identity"), "{account}: {error}");
    }
    assert_eq!(setup.refused(Refusal::Pod), 3);
    // A pod that ends takes its identity along, one that comes within a moment is waited for.
    setup.cluster.put(PODS, pod("cart", "a", "Failed"));
    setup.until(|setup| !setup.authority.residents.has(&place(&identity("cart"), "a"))).await;
    assert!(setup.obtain("cart").await.unwrap_err().contains("no pod of this identity"));
    let late = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        setup.cluster.put(PODS, pod("late", "a", "Pending"));
    };
    let (obtained, ()) = tokio::join!(setup.obtain("late"), late);
    assert_eq!(obtained.unwrap().identity(), &identity("late"));
}

#[tokio::test]
async fn a_token_that_is_not_a_daemons_own_for_this_audience_gets_nothing() {
    let setup = Setup::new().await;
    let error = setup.with_token(Token { audience: "vault", ..daemon() }).await;
    assert!(error.contains("another audience"), "{error}");
    let error = setup.with_token(Token { user: "system:serviceaccount:shop:cart", ..daemon() }).await;
    assert!(error.contains("--authority-accounts"), "{error}");
    let error = setup.with_token(Token { user: "system:node:a", ..daemon() }).await;
    assert!(error.contains("--authority-accounts"), "{error}");
    let error = setup.with_token(Token { extra: vec![], ..daemon() }).await;
    assert!(error.contains("no pod whose node is known"), "{error}");
    std::fs::write(setup.file("token"), "made-up").unwrap();
    assert!(setup.obtain("cart").await.unwrap_err().contains("does not take the token"));
    std::fs::write(setup.file("token"), "daemon-on-a").unwrap();
    setup.obtain("cart").await.unwrap();
    setup.cluster.expire("daemon-on-a");
    assert!(setup.obtain("cart").await.unwrap_err().contains("it has expired"));
    let counted = [Refusal::Token, Refusal::Account, Refusal::Node].map(|refusal| setup.refused(refusal));
    assert_eq!(counted, [3, 2, 1]);
}

#[tokio::test]
async fn where_the_token_says_no_node_its_pod_does_and_both_have_to_agree() {
    let setup = Setup::new().await;
    let mut own = pod("canopy-node", "a", "Running");
    (own["metadata"]["namespace"], own["metadata"]["name"]) =
        (json!("canopy-system"), json!("canopy-node-x"));
    setup.cluster.put(PODS, own);
    let uid = "uid-canopy-node";
    setup
        .until(|setup| setup.authority.residents.node_of("canopy-system", "canopy-node-x", uid).is_some())
        .await;
    let extra = vec![("pod-name", "canopy-node-x"), ("pod-uid", uid)];
    setup.cluster.token("daemon-on-a", Token { extra: extra.clone(), ..daemon() });
    assert_eq!(setup.obtain("cart").await.unwrap().identity(), &identity("cart"));
    let other = vec![("pod-name", "canopy-node-x"), ("pod-uid", "of-another-time")];
    assert!(
        setup.with_token(Token { extra: other, ..daemon() }).await.contains("no pod whose node is known")
    );
    let lies = [extra, vec![("node-name", "b")]].concat();
    assert!(setup.with_token(Token { extra: lies, ..daemon() }).await.contains("no pod whose node is known"));
}

#[tokio::test]
async fn of_a_signing_request_the_key_counts_and_not_its_names() {
    let setup = Setup::new().await;
    let answer = setup.authority.create(asked(Some(CART), &csr("web"))).await.unwrap();
    assert_eq!(leaf_of(&answer).identity, identity("cart"));
    let validity = leaf_of(&answer).validity;
    let lasts = validity.not_after.as_secs() - UnixTime::now().as_secs();
    assert!((3500..=3600).contains(&lasts), "{lasts}");
    let request = csr("cart");
    let long = Asked { lifetime: i64::MAX, ..asked(Some(CART), &request) };
    let lasts = leaf_of(&setup.authority.create(long).await.unwrap()).validity.not_after.as_secs();
    assert!(lasts <= UnixTime::now().as_secs() + 86_400, "no longer than it may live");
}

#[tokio::test]
async fn what_is_no_signing_request_or_no_identity_of_ours_is_refused() {
    let setup = Setup::new().await;
    let good = csr("cart");
    let mut broken = pem::parse(&good).unwrap().into_contents();
    *broken.last_mut().unwrap() ^= 1;
    let broken = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", broken));
    let large = format!("{good}{}", " ".repeat(held::MOST_REQUEST));
    let named = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    for request in ["", "-----BEGIN", &broken, &large, &named] {
        let refused = setup.authority.create(asked(Some(CART), request)).await;
        assert_eq!(refused.unwrap_err(), Refusal::Request, "{request}");
    }
    for whose in ["", "spiffe://cluster.local/ns/shop", "spiffe://other.domain/ns/shop/sa/cart"] {
        let refused = setup.authority.create(asked(Some(whose), &good)).await;
        assert_eq!(refused.unwrap_err(), Refusal::Identity, "{whose}");
    }
    let clear = Asked { secure: false, ..asked(Some(CART), &good) };
    assert_eq!(setup.authority.create(clear).await.unwrap_err(), Refusal::InTheClear);
    let nobody = Asked { token: None, ..asked(Some(CART), &good) };
    assert_eq!(setup.authority.create(nobody).await.unwrap_err(), Refusal::TokenMissing);
}

#[tokio::test]
async fn a_workload_that_asks_itself_gets_its_own_identity_and_no_other() {
    let setup = Setup::new().await;
    let extra = vec![("pod-name", "cart-1"), ("pod-uid", "uid-cart")];
    let user = "system:serviceaccount:shop:cart";
    setup.cluster.token("cart", Token { audience: "istio-ca", user, extra });
    let request = csr("web");
    let own = Asked { token: Some("cart"), ..asked(None, &request) };
    assert_eq!(leaf_of(&setup.authority.create(own).await.unwrap()).identity, identity("cart"));
    let other = Asked { token: Some("cart"), ..asked(Some(CART), &request) };
    assert_eq!(setup.authority.create(other).await.unwrap_err(), Refusal::Account);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_refusal_and_the_next_try_succeeds() {
    let setup = Setup::new().await;
    setup.cluster.fail(Faults { status: Some(503), ..Faults::default() });
    let error = setup.obtain("cart").await.unwrap_err();
    assert!(error.contains("the authority does not answer") && error.contains("ask again later"), "{error}");
    assert_eq!(setup.refused(Refusal::ApiServer), 1);
    setup.cluster.fail(Faults::default());
    setup.obtain("cart").await.unwrap();
}

#[tokio::test]
async fn who_asks_too_often_waits_and_is_nobody_elses_burden() {
    let setup = Setup::new().await;
    let request = csr("cart");
    let from = |last| Some(IpAddr::from([192, 0, 2, last]));
    let stranger = |last| Asked { token: Some("made-up"), from: from(last), ..asked(Some(CART), &request) };
    let mut words = Vec::new();
    for _ in 0..=STRANGER_BURST {
        words.push(setup.authority.create(stranger(1)).await.unwrap_err());
    }
    assert_eq!((words[0], *words.last().unwrap()), (Refusal::Token, Refusal::Rate));
    assert_eq!(setup.authority.create(stranger(2)).await.unwrap_err(), Refusal::Token);
    *lock(&setup.authority.nodes) = Buckets::new(2, LONG);
    let daemon = || setup.authority.create(asked(Some(CART), &request));
    assert!(daemon().await.is_ok() && daemon().await.is_ok());
    assert_eq!(daemon().await.unwrap_err(), Refusal::Rate);
}

#[tokio::test]
async fn two_control_planes_sign_with_one_root_and_an_intermediate_each() {
    let setup = Setup::new().await;
    let (residents, standing) = (Arc::clone(&setup.authority.residents), Arc::clone(&setup.standing));
    let other = Authority::open(options(), &setup.cluster.access(), residents, standing).await.unwrap();
    other.look().await.unwrap();
    let request = csr("cart");
    let one = setup.authority.create(asked(Some(CART), &request)).await.unwrap();
    let two = other.create(asked(Some(CART), &request)).await.unwrap();
    assert_eq!((one.len(), one.last()), (3, two.last()));
    assert_ne!(one[1], two[1], "the intermediates");
    assert_eq!(setup.cluster.single(SECRET)["metadata"]["resourceVersion"], "1", "it is made once");
}

#[tokio::test]
async fn while_the_root_changes_both_are_trusted_and_told_and_the_one_in_root_pem_signs() {
    let setup = Setup::new().await;
    let first = setup.cluster.single(SECRET)["data"]["root.pem"].clone();
    let next = held::new_root(&TrustDomain::default(), UnixTime::now()).unwrap();
    let next = json!(STANDARD.encode(next.as_bytes()));
    setup.cluster.edit(SECRET, json!({ "data": { "root.pem": first, "next.pem": next } }));
    setup.authority.look().await.unwrap();
    let published = setup.cluster.single(ROOTS)["data"]["ca.crt"].as_str().unwrap().to_owned();
    let both = Roots::from_pem(published.as_bytes()).unwrap();
    assert_eq!(both.certificates().len(), 2);
    let before = setup.obtain("cart").await.unwrap();
    setup.cluster.edit(SECRET, json!({ "data": { "root.pem": next, "previous.pem": first } }));
    setup.authority.look().await.unwrap();
    // The daemon that read the roots while there were two takes the new one's certificate, and its server.
    std::fs::write(setup.file("ca.crt"), &published).unwrap();
    let after = setup.obtain("cart").await.unwrap();
    let alone = |index: usize| Trust {
        trust_domain: TrustDomain::default(),
        roots: Arc::new(Roots::new([both.certificates()[index].clone()]).unwrap()),
        revocations: Arc::<Revocations>::default(),
    };
    let leads = |certificate: &Certificate, index| {
        verify(certificate.chain(), &alone(index), Usage::Client, UnixTime::now()).is_ok()
    };
    assert_eq!((leads(&before, 0), leads(&before, 1)), (true, false));
    assert_eq!((leads(&after, 0), leads(&after, 1)), (false, true));
}

#[tokio::test]
async fn a_secret_that_is_of_no_use_takes_the_place_of_none_that_was() {
    let setup = Setup::new().await;
    let good = setup.cluster.single(SECRET)["data"]["root.pem"].clone();
    let foreign = held::new_root(&"other.domain".try_into().unwrap(), UnixTime::now()).unwrap();
    for (data, why) in [
        (json!({}), "root.pem is not there"),
        (json!({ "root.pem": "%" }), "is not base64"),
        (json!({ "root.pem": STANDARD.encode("text") }), "no certificate"),
        (json!({ "root.pem": STANDARD.encode(foreign.as_bytes()) }), "other.domain"),
        (json!({ "root.pem": good, "next.pem": STANDARD.encode("text") }), "next.pem cannot be trusted"),
    ] {
        setup.cluster.edit(SECRET, json!({ "data": data }));
        let error = report(&setup.authority.look().await.unwrap_err());
        assert!(error.contains(why), "{error}");
    }
    setup.obtain("cart").await.unwrap();
}
