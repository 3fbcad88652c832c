//! Against a control plane in this process, over a real socket.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use config::name::PodName;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer,
    server::WebPkiClientVerifier, version::TLS13,
};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Status;

use super::*;
use crate::control::discovery::{
    protocol::Request,
    testing::{Conversation, PATIENCE, Plane, QUIET, Socket, resource, response},
};

mod oversized;

/// A control plane, a client of it, and what the client hands over.
struct Setup {
    plane: Plane,
    client: Client,
    events: Receiver<Event>,
    directory: TempDir,
}

fn options(socket: &Path) -> Options {
    Options {
        server: Server::Unix(socket.to_owned()),
        tls: Arc::default(),
        token: None,
        introduction: Introduction {
            node: "node-1".to_owned(),
            addresses: vec!["10.0.0.7".parse().unwrap()],
            pod: PodName::new("mesh".try_into().unwrap(), "canopy".try_into().unwrap()),
            cluster: "east".to_owned(),
            domain: "cluster.local".try_into().unwrap(),
            network: String::new(),
        },
        on_demand: None,
        cache: None,
        trust_domain: "cluster.local".to_owned(),
    }
}

impl Setup {
    fn new(change: impl FnOnce(&mut Options, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let plane = Plane::start(Socket::Unix(&socket));
        let mut options = options(&socket);
        change(&mut options, directory.path());
        let (sender, events) = channel();
        Self { plane, client: Client::start(options, sender).unwrap(), events, directory }
    }

    /// The next batch, with whom to tell what became of it.
    fn batch(&self) -> (Batch, oneshot::Sender<Taken>) {
        match self.events.recv_timeout(PATIENCE).unwrap() {
            Event::Batch(batch, Some(taken)) | Event::Stored(batch, taken) => (batch, taken),
            other => panic!("{other:?}"),
        }
    }

    /// Takes in the next batch whole.
    fn take(&self) -> Batch {
        let (batch, taken) = self.batch();
        taken.send(Taken::default()).unwrap();
        batch
    }

    fn status(&self) -> serde_json::Value {
        self.client.standing().to_json(SystemTime::now())
    }
}

fn of(requests: &[Request], kind: Kind) -> &Request {
    requests.iter().find(|request| request.type_url == kind.type_url()).unwrap()
}

fn versions(conversation: &Conversation, kind: Kind) -> BTreeMap<String, String> {
    of(&conversation.opened(), kind).initial_versions.clone().into_iter().collect()
}

#[test]
fn a_node_says_who_it_is_asks_for_all_and_answers_when_it_has_taken_in() {
    let setup = Setup::new(|options, directory| {
        fs::write(directory.join("token"), "secret\n").unwrap();
        options.token = Some(directory.join("token"));
    });
    let stream = setup.plane.accept();
    assert_eq!(stream.metadata.get("clusterid").unwrap(), "east");
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer secret");
    let opened = stream.opened();
    assert_eq!(opened[0].node.as_ref().unwrap().id, "ztunnel~10.0.0.7~canopy.mesh~mesh.svc.cluster.local");
    stream.say(response(Kind::Route, "n1", &[resource("a", &[], "1")], &[]));
    stream.say(response(Kind::Route, "n2", &[resource("b", &[], "1")], &["a"]));
    let (batch, taken) = setup.batch();
    assert_eq!(batch.set, [resource("a", &[], "1")]);
    assert!(stream.is_quiet(), "it is not answered before it is taken in");
    assert!(setup.events.recv_timeout(QUIET).is_err(), "nor is a second one in hand");
    taken.send(Taken::default()).unwrap();
    let answer = stream.asked();
    assert_eq!((answer.nonce.as_str(), answer.error), ("n1", None));
    assert_eq!(setup.take().removed, ["a"]);
    assert_eq!(stream.asked().nonce, "n2");
    let said = setup.status();
    assert_eq!((&said["connected"], &said["types"][0]["acked"]), (&true.into(), &2.into()), "{said}");
}

#[test]
fn what_is_not_taken_in_is_refused_by_name() {
    let setup = Setup::new(|_, _| {});
    let stream = setup.plane.accept();
    stream.opened();
    stream.say(response(Kind::Route, "n1", &[resource("a", &[], "1"), resource("b", &[], "1")], &[]));
    let (batch, taken) = setup.batch();
    let rejection = Rejection {
        kind: batch.kind,
        name: "b".to_owned(),
        reason: config::finding::Reason::Malformed,
        message: "is no JSON".to_owned(),
    };
    taken.send(Taken { rejections: vec![rejection], is_complete: false }).unwrap();
    let error = stream.asked().error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (3, "b: is no JSON"));
    assert_eq!(setup.status()["types"][0]["nacked"], 1);
}

#[test]
fn after_the_end_of_a_stream_a_new_one_goes_on_from_what_is_known() {
    let setup = Setup::new(|_, _| {});
    let first = setup.plane.accept();
    first.opened();
    first.say(response(Kind::Route, "n1", &[resource("a", &[], "1")], &[]));
    setup.take();
    first.asked();
    let began = Instant::now();
    drop(first);
    let second = setup.plane.accept();
    assert!(began.elapsed() < Duration::from_secs(1), "a stream that ends well is had anew at once");
    assert_eq!(versions(&second, Kind::Route), BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    second.fail(Status::permission_denied("go away"));
    let third = setup.plane.accept();
    third.opened();
    drop((second, third));
    // It has brought nothing, so what comes next comes after pauses.
    let fourth = setup.plane.accept();
    fourth.opened();
    let status = setup.status();
    assert!(status["connected"] == true || status["error"] != serde_json::Value::Null, "{status}");
}

#[test]
fn a_stream_that_ends_while_something_is_taken_in_loses_nothing() {
    let setup = Setup::new(|_, _| {});
    let first = setup.plane.accept();
    first.opened();
    first.say(response(Kind::Route, "n1", &[resource("a", &[], "1")], &[]));
    let (_, taken) = setup.batch();
    drop(first);
    taken.send(Taken::default()).unwrap();
    let second = setup.plane.accept();
    assert_eq!(versions(&second, Kind::Route), BTreeMap::from([("a".to_owned(), "1".to_owned())]));
}

#[test]
fn a_control_plane_that_ends_every_stream_is_not_asked_in_a_circle() {
    let setup = Setup::new(|_, _| {});
    let began = Instant::now();
    for number in 0..7 {
        let stream = setup.plane.accept();
        // Also one that says something first.
        if number % 2 == 1 {
            stream.say(response(Kind::Tenant, "n", &[], &[]));
            setup.take();
        }
    }
    // 10, 20, 40, 80, 160 and 320 ms, each up to a fifth shorter.
    assert!(began.elapsed() > Duration::from_millis(450), "{:?}", began.elapsed());
}

#[test]
fn a_control_plane_that_is_not_there_is_waited_for_and_said_to_be_away() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let (sender, _events) = channel();
    let client = Client::start(options(&socket), sender).unwrap();
    let error = || client.standing().to_json(SystemTime::now())["error"].as_str().map(str::to_owned);
    let began = Instant::now();
    while error().is_none() {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(error().unwrap().contains("No such file"), "{:?}", error());
    let plane = Plane::start(Socket::Unix(&socket));
    plane.accept().opened();
}

#[test]
fn a_token_that_cannot_be_read_is_said_and_read_again() {
    let setup = Setup::new(|options, directory| options.token = Some(directory.join("token")));
    let began = Instant::now();
    while !setup.status()["error"].as_str().is_some_and(|error| error.contains("--discovery-token")) {
        assert!(began.elapsed() < PATIENCE, "{}", setup.status());
        thread::sleep(Duration::from_millis(5));
    }
    fs::write(setup.directory.path().join("token"), "late").unwrap();
    assert_eq!(setup.plane.accept().metadata.get("authorization").unwrap(), "Bearer late");
}

#[test]
fn dropping_the_client_ends_its_stream() {
    let setup = Setup::new(|_, _| {});
    let stream = setup.plane.accept();
    stream.opened();
    let Setup { plane, client, events, .. } = setup;
    drop(client);
    assert!(matches!(events.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected)));
    assert!(plane.is_quiet());
}

#[test]
fn a_node_that_starts_has_what_was_said_last_from_its_cache() {
    let cached = |options: &mut Options, directory: &Path| options.cache = Some(directory.join("cache"));
    let setup = Setup::new(cached);
    assert!(matches!(setup.events.recv_timeout(PATIENCE), Ok(Event::Cached(false))));
    let stream = setup.plane.accept();
    stream.opened();
    stream.say(response(Kind::Route, "n1", &[resource("a", &[], "1"), resource("b", &[], "1")], &[]));
    let (_, taken) = setup.batch();
    taken.send(Taken { rejections: Vec::new(), is_complete: true }).unwrap();
    stream.asked();
    let Setup { plane, client, events, directory } = setup;
    drop((plane, client));
    // Until its thread has ended.
    assert!(events.recv_timeout(PATIENCE).is_err());
    let socket = directory.path().join("control.sock");
    let mut options = options(&socket);
    cached(&mut options, directory.path());
    let plane = Plane::start(Socket::Unix(&socket));
    let (sender, events) = channel();
    let setup = Setup { plane, client: Client::start(options, sender).unwrap(), events, directory };
    let (batch, taken) = setup.batch();
    assert_eq!(batch.set, [resource("a", &[], "1"), resource("b", &[], "1")]);
    let rejection = Rejection {
        kind: Kind::Route,
        name: "b".to_owned(),
        reason: config::finding::Reason::Malformed,
        message: "this version cannot read it".to_owned(),
    };
    taken.send(Taken { rejections: vec![rejection], is_complete: false }).unwrap();
    assert!(matches!(setup.events.recv_timeout(PATIENCE), Ok(Event::Cached(true))));
    let known = versions(&setup.plane.accept(), Kind::Route);
    // So that it is heard of whether the one that is refused now is still there.
    let expected = [("a", "1"), ("b", "")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(known, expected.into());
}

#[test]
fn addresses_are_asked_for_when_they_are_wanted_and_answered() {
    let setup = Setup::new(|options, _| options.on_demand = Some(9));
    let demand = setup.client.demand().unwrap();
    let stream = setup.plane.accept();
    let opened = stream.opened();
    assert_eq!(of(&opened, Kind::Address).unsubscribe, ["*"]);
    let address = "10.0.0.1".parse().unwrap();
    assert_eq!(demand.want(address), Answer::Asked);
    let asked = stream.asked();
    assert_eq!((asked.subscribe, asked.nonce), (vec!["/10.0.0.1".to_owned()], String::new()));
    stream.say(response(Kind::Address, "n1", &[resource("pod", &["/10.0.0.1", "/10.0.0.2"], "1")], &[]));
    let answers = setup.take().answers;
    assert_eq!(answers, [Answered { wanted: "/10.0.0.1".to_owned(), resource: Some("pod".to_owned()) }]);
    stream.asked();
    demand.want("10.0.0.2".parse().unwrap());
    assert_eq!(stream.asked().subscribe, ["/10.0.0.2"]);
    let Ok(Event::Batch(batch, None)) = setup.events.recv_timeout(PATIENCE) else { panic!() };
    assert_eq!(batch.answers[0].resource.as_deref(), Some("pod"), "what is here already is answered at once");
}

/// A root, and what it signs.
struct Root(Issuer<'static, KeyPair>, String);

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server that knows its clients by their certificates.
    fn server(&self, name: &str) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(pem::parse(&self.1).unwrap().into_contents().into()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build();
        let (certificate, key) = self.leaf(name);
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let builder = builder.with_client_cert_verifier(verifier.unwrap());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn by_tls_the_server_is_known_by_its_name_and_root_and_the_node_by_its_certificate() {
    let (directory, root) = (tempfile::tempdir().unwrap(), Root::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plane = Plane::start(Socket::Tls(listener, root.server("istiod.mesh").into()));
    let (certificate, key) = root.leaf("node");
    let at = directory.path();
    let tls = Tls {
        root: written(at, "root.pem", &root.1),
        name: Some("istiod.mesh".to_owned()),
        certificate: Some((
            written(at, "node.pem", &certificate.pem()),
            written(at, "node.key", &key.serialize_pem()),
        )),
    };
    let start = |tls: Tls| {
        let server = format!("https://127.0.0.1:{port}").parse().unwrap();
        let (sender, events) = channel();
        let options = Options { server, tls: Arc::new(tls), ..options(Path::new("/")) };
        (Client::start(options, sender).unwrap(), events)
    };
    let fails = |tls: Tls, why: &str| {
        let (client, _events) = start(tls);
        let began = Instant::now();
        let error = || client.standing().to_json(SystemTime::now())["error"].to_string();
        while !error().contains(why) {
            assert!(began.elapsed() < PATIENCE, "{why}: {}", error());
            thread::sleep(Duration::from_millis(5));
        }
    };
    fails(Tls { name: None, ..tls.clone() }, "not valid for name");
    fails(Tls { root: written(at, "other.pem", &Root::new().1), ..tls.clone() }, "invalid peer certificate");
    fails(Tls { root: at.join("missing.pem"), ..tls.clone() }, "--discovery-root");
    fails(
        Tls { certificate: Some((at.join("no.pem"), at.join("no.key"))), ..tls.clone() },
        "a chain and its key",
    );
    assert!(plane.is_quiet(), "nobody of these got through");
    let (_client, _events) = start(tls);
    plane.accept().opened();
}
