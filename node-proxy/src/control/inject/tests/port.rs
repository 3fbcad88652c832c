//! The webhook's port as the API server finds it: over TLS, with a review as it is sent; and what becomes of who stalls, or says too much.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::serve::{BODY, BODY_BYTES, HANDSHAKE, MOST},
    *,
};
use crate::{
    control::discovery::server::{Certificates, Tls, TlsFiles},
    identity::provider,
};

/// A webhook that is served until this is dropped.
struct Port {
    address: SocketAddr,
    connector: TlsConnector,
    served: tokio::task::JoinHandle<()>,
    _files: TempDir,
}

impl Port {
    async fn new(roots: Option<&'static str>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([NAME_OF_SERVICE.to_owned()]).unwrap().self_signed(&key).unwrap();
        let (own, its_key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        std::fs::write(&own, certificate.pem()).unwrap();
        std::fs::write(&its_key, key.serialize_pem()).unwrap();
        let tls =
            Tls::open(Certificates::Files(TlsFiles { certificate: own, key: its_key, client_roots: None }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let roots = move || roots.map(str::to_owned);
        let webhook = Webhook::with(listener, tls.unwrap(), Box::new(roots), terms());
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.der().clone()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(trusted).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Self { address, connector, served: tokio::spawn(webhook.serve()), _files: files }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.connector.connect(ServerName::try_from(NAME_OF_SERVICE).unwrap(), stream).await.unwrap()
    }

    /// What is answered to a body, as status and text.
    async fn ask(&self, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect().await;
        stream.write_all(head(path, body.len()).as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.served.abort();
    }
}

fn head(path: &str, bytes: usize) -> String {
    format!(
        "POST {path}?timeout=5s HTTP/1.1\r\nHost: {NAME_OF_SERVICE}:15017\r\nUser-Agent: kube-apiserver-admission\r\n\
         Content-Length: {bytes}\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\n\r\n"
    )
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> (u16, String) {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read =
            timeout(Duration::from_secs(60), stream.read(&mut buffer)).await.expect("an answer").unwrap();
        all.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "no answer: {text}");
            continue;
        };
        let length = head.to_lowercase().split_once("content-length: ").unwrap().1.to_owned();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        if body.len() >= length {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
        }
        assert!(read > 0, "cut short: {text}");
    }
}

#[tokio::test]
async fn the_api_servers_review_of_a_deployments_pod_is_answered_with_a_patch_and_its_connection_kept() {
    let port = Port::new(Some(PEM)).await;
    let mut stream = port.connect().await;
    for _ in 0..2 {
        stream.write_all(head("/inject", REVIEW.len()).as_bytes()).await.unwrap();
        stream.write_all(REVIEW.as_bytes()).await.unwrap();
        let (status, body) = answer(&mut stream).await;
        let said: Value = serde_json::from_str(&body).unwrap();
        let response = &said["response"];
        assert_eq!(
            (status, &said["kind"], &response["allowed"]),
            (200, &"AdmissionReview".into(), &true.into())
        );
        assert_eq!(response["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
        let patch: Vec<Value> =
            serde_json::from_slice(&STANDARD.decode(response["patch"].as_str().unwrap()).unwrap()).unwrap();
        let review: Value = serde_json::from_str(REVIEW).unwrap();
        let after = applied(&review["request"]["object"], &patch);
        assert_eq!(names(&after, "initContainers"), ["canopy-sidecar"]);
        assert_eq!(after["metadata"]["annotations"]["sidecar.canopy.mesh/roots"], PEM);
    }
}

#[tokio::test]
async fn what_is_no_review_is_refused_in_words_that_say_what_it_lacks() {
    let port = Port::new(Some(PEM)).await;
    for (path, body, status, why) in [
        ("/", "{}", 404, "POST /inject"),
        ("/inject", "", 400, "AdmissionReview"),
        ("/inject", "{\"request\": {\"uid\": 7}}", 400, "invalid type: integer"),
        ("/inject", "{\"request\": {\"uid\": \"u\"}}", 400, "missing field `kind`"),
    ] {
        let (told, text) = port.ask(path, body).await;
        assert!(told == status && text.contains(why), "{path} {body}: {told} {text}");
    }
    let mut stream = port.connect().await;
    stream.write_all(head("/inject", BODY_BYTES + 1).as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 413, "before any of it has come");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_shake_hands_ends_in_time() {
    let port = Port::new(Some(PEM)).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(port.address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    let passed = begun.elapsed();
    assert!(passed >= HANDSHAKE && passed < HANDSHAKE * 2, "{passed:?}");
}

/// In real time: while the clock stands still, it would be put on as soon as nobody had anything to do.
#[tokio::test]
async fn a_question_that_does_not_come_is_answered_so_in_time() {
    let port = Port::new(Some(PEM)).await;
    let mut stream = port.connect().await;
    let begun = Instant::now();
    stream.write_all(head("/inject", 100).as_bytes()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 408);
    let passed = begun.elapsed();
    assert!(passed >= BODY && passed < BODY * 2, "{passed:?}");
}

#[tokio::test]
async fn who_opens_many_connections_loses_its_first_and_keeps_nobody_out() {
    let port = Port::new(Some(PEM)).await;
    let mut all = Vec::new();
    for _ in 0..MOST.connections_of_one {
        all.push(TcpStream::connect(port.address).await.unwrap());
    }
    let (status, _) = port.ask("/inject", REVIEW).await;
    assert_eq!(status, 200);
    let closed =
        timeout(Duration::from_secs(2), all[0].read(&mut [0])).await.expect("closed before its deadline");
    assert_eq!(closed.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_address_that_asks_more_at_a_time_than_one_may_is_told_to_come_again() {
    let port = Port::new(Some(PEM)).await;
    let whole = MOST.bytes_of_one / BODY_BYTES;
    let mut held = Vec::new();
    for _ in 0..whole {
        let mut stream = port.connect().await;
        stream.write_all(head("/inject", BODY_BYTES).as_bytes()).await.unwrap();
        // All but the end.
        stream.write_all(&vec![b' '; BODY_BYTES - 1]).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    let mut told = (0, String::new());
    for _ in 0..100 {
        told = port.ask("/inject", REVIEW).await;
        if told.0 == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(told.0 == 503 && told.1.contains("again"), "{told:?}");
    drop(held);
    for _ in 0..100 {
        told = port.ask("/inject", REVIEW).await;
        if told.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what was held is not given back: {told:?}");
}

#[tokio::test]
async fn before_there_are_roots_a_pod_is_refused_and_told_to_be_made_again() {
    let port = Port::new(None).await;
    let (status, body) = port.ask("/inject", REVIEW).await;
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &said["response"]["status"]["code"]), (200, &503.into()));
}

const NAME_OF_SERVICE: &str = "canopy-control.canopy-system.svc";
/// As a kube-apiserver of 1.34 asks about a pod that a ReplicaSet's controller makes.
const REVIEW: &str = include_str!("review.json");
