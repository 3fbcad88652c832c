//! The plugin against a gate and an API server of the tests' own: real sockets, real TLS.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer, version::TLS13};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    control::gate::protocol::{self, Answer, Ask, Verdict},
    identity::provider,
};

/// A node with a plugin on it.
struct Node {
    directory: TempDir,
    /// What the API server has, by path.
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    seconds: u64,
    uid: bool,
}

impl Node {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), objects: Arc::default(), seconds: 1, uid: true }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A gate that gives these answers, one to each who asks, and the last ever after; what it was asked.
    fn gate(&self, answers: &[Verdict]) -> Arc<Mutex<Vec<Ask>>> {
        let (asked, listener) =
            (Arc::<Mutex<Vec<Ask>>>::default(), UnixListener::bind(self.at("gate.sock")).unwrap());
        let (log, answers) = (Arc::clone(&asked), answers.to_vec());
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request: protocol::Request = protocol::receive(&mut stream).await.unwrap();
                log.lock().unwrap().push(request.ask);
                let answer = answers.get(turn).or(answers.last()).unwrap().clone();
                protocol::send(&mut stream, &Answer::new(answer)).await.unwrap();
            }
        });
        asked
    }

    /// An API server with this namespace's and this pod's labels.
    async fn api(&self, namespace: Value, pod: Value) {
        let object = |uid: &str, labels: Value| {
            // As the webhook writes it.
            let own =
                labels.get("sidecar").map(|_| json!([{"name": "canopy-sidecar", "restartPolicy": "Always"}]));
            json!({"metadata": {"uid": uid, "labels": labels}, "spec": {"initContainers": own}})
        };
        self.objects.lock().unwrap().insert("/api/v1/namespaces/shop".to_owned(), object("n", namespace));
        self.objects.lock().unwrap().insert("/api/v1/namespaces/shop/pods/cart".to_owned(), object("u", pod));
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.at("canopy-cni-ca.crt"), certificate.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let kubeconfig = json!({
            "clusters": [{"cluster": {"server": server, "certificate-authority": "canopy-cni-ca.crt"}}],
            "users": [{"user": {"token": "abc"}}],
        });
        std::fs::write(self.at("kubeconfig"), kubeconfig.to_string()).unwrap();
        let (acceptor, objects) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&self.objects));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, objects) = (acceptor.clone(), Arc::clone(&objects));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer_of(&request, &objects.lock().unwrap());
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    }

    async fn call(&self, command: &str) -> (ExitCode, Value, String) {
        let uid = if self.uid { "K8S_POD_UID=u" } else { "" };
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;{uid}");
        self.call_with(command, &arguments, "1.1.0").await
    }

    async fn call_with(&self, command: &str, arguments: &str, version: &str) -> (ExitCode, Value, String) {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_CONTAINERID" => Some("c".to_owned()),
            "CNI_NETNS" => Some("/run/netns/x".to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_ARGS" => Some(arguments.to_owned()),
            _ => None,
        };
        let input = json!({
            "cniVersion": version, "name": "podnet", "type": NAME, "gate": self.at("gate.sock"), "timeoutSeconds": self.seconds,
            "kubeconfig": self.at("kubeconfig"), "cache": self.at("namespaces.json"), "prevResult": previous(),
            "cni.dev/valid-attachments": [{"containerID": "d", "ifname": "eth0"}],
        });
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let code = plugin(variable, input.to_string().as_bytes(), (&mut out, &mut log)).await;
        let out = if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).unwrap() };
        (code, out, String::from_utf8(log).unwrap())
    }

    async fn starts(&self, what: &str) -> String {
        let (code, out, log) = self.call("ADD").await;
        assert_eq!((code, out), (ExitCode::SUCCESS, previous()), "{what}");
        log
    }

    async fn fails(&self, what: &str) -> String {
        let (code, out, _) = self.call("ADD").await;
        assert_eq!(
            (code, &out["code"], &out["cniVersion"]),
            (ExitCode::FAILURE, &json!(11), &json!("1.1.0")),
            "{what}"
        );
        out["msg"].as_str().unwrap().to_owned()
    }
}

fn previous() -> Value {
    json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/16"}], "interfaces": [{"name": "eth0", "new": 1.25}]})
}

fn answer_of(request: &Request<Incoming>, objects: &BTreeMap<String, Value>) -> Response<Full<Bytes>> {
    let body = |status, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    let is_ours = request.headers().get(header::AUTHORIZATION).is_some_and(|token| token == "Bearer abc");
    match objects.get(request.uri().path()) {
        _ if !is_ours => body(StatusCode::UNAUTHORIZED, String::new()),
        Some(object) => body(StatusCode::OK, object.to_string()),
        None => body(StatusCode::NOT_FOUND, String::new()),
    }
}

fn why(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
async fn a_pod_that_the_daemon_has_enrolled_or_leaves_alone_starts_with_the_result_that_was_there() {
    for verdict in [Verdict::Enrolled, Verdict::Outside { why: why("off") }] {
        let node = Node::new();
        let asked = node.gate(std::slice::from_ref(&verdict));
        assert_eq!(node.starts("asked").await, "");
        let asked = asked.lock().unwrap();
        let [Ask::Add(attachment)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((attachment.uid.as_str(), attachment.container.as_str()), ("u", "c"));
        assert_eq!(
            (&attachment.netns, &attachment.addresses),
            (&"/run/netns/x".into(), &vec![[10, 1, 0, 5].into()])
        );
        assert!(attachment.patience_ms < 1000, "there is time for the answer");
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_enrolled_is_asked_for_until_there_is_no_more_time_and_fails_with_why() {
    let node = Node::new();
    let asked = node.gate(&[Verdict::Refused { why: why("no port is free") }]);
    assert!(node.fails("refused").await.contains("no port is free"));
    assert!(asked.lock().unwrap().len() > 1);
    let node = Node::new();
    node.gate(&[Verdict::Refused { why: why("not yet") }, Verdict::Enrolled]);
    node.starts("taken up while it waits").await;
}

#[tokio::test]
async fn while_the_daemon_is_away_the_labels_that_the_api_server_has_decide() {
    for (namespace, pod, expected) in [
        (json!({}), json!({}), "starts"),
        (json!({"canopy.mesh/mode": "off"}), json!({}), "starts"),
        (json!({"canopy.mesh/mode": "sidecar"}), json!({"sidecar": "yes"}), "starts"),
        (json!({"canopy.mesh/mode": "sidecar"}), json!({}), "fails"),
        (json!({"canopy.mesh/mode": "node"}), json!({"sidecar": "yes"}), "fails"),
        (json!({"canopy.mesh/mode": "node"}), json!({"canopy.mesh/mode": "off"}), "starts"),
        (json!({"canopy.mesh/mode": "node"}), json!({}), "fails"),
        (json!({}), json!({"canopy.mesh/mode": "node"}), "fails"),
        (json!({"canopy.mesh/mode": "node", "canopy.mesh/on-failure": "open"}), json!({}), "open"),
    ] {
        let node = Node::new();
        let what = format!("{namespace} {pod}");
        node.api(namespace, pod).await;
        let log = match expected {
            "fails" => {
                let message = node.fails(&what).await;
                assert!(message.contains("no daemon") && message.contains("on-failure: open"), "{message}");
                continue;
            }
            _ => node.starts(&what).await,
        };
        assert_eq!(log.contains("starts uncaptured"), expected == "open", "{what}: {log}");
    }
}

#[tokio::test]
async fn without_the_api_server_the_cache_decides_and_what_nobody_knows_waits_and_fails() {
    let node = Node::new();
    let cache = |namespaces: Value| {
        let text = json!({"version": 2, "namespaces": namespaces}).to_string();
        std::fs::write(node.at("namespaces.json"), text).unwrap();
    };
    let message = node.fails("nothing is known").await;
    assert!(message.contains("kubeconfig") && message.contains("namespaces.json"), "{message}");
    cache(json!({"other": {"mode": "off"}}));
    assert!(node.fails("not of this namespace").await.contains("does not have namespace shop"));
    cache(json!({"shop": {"mode": "off"}}));
    node.starts("known to be off").await;
    cache(json!({"shop": {"mode": "off", "kept": "yes"}}));
    node.fails("kept to the mesh, whatever its label says").await;
    cache(json!({"shop": {"mode": "node"}}));
    node.fails("known to be captured").await;
    cache(json!({"shop": {"mode": "node", "on_failure": "open"}}));
    assert!(node.starts("known to be open").await.contains("starts uncaptured"));
}

#[tokio::test]
async fn a_pod_of_nobody_is_not_held_up_by_a_daemon_that_has_not_heard_of_it() {
    let node = Node { seconds: 20, ..Node::new() };
    node.gate(&[Verdict::Unknown { why: why("behind") }]);
    node.api(json!({}), json!({})).await;
    let started = tokio::time::timeout(Duration::from_secs(4), node.starts("it is nobody's"));
    started.await.expect("at once");
}

#[tokio::test]
async fn a_label_takes_no_pod_out_of_a_tenant_that_is_kept_to_the_mesh_while_the_daemon_is_away() {
    let node = Node::new();
    node.api(json!({"canopy.mesh/mode": "node"}), json!({"canopy.mesh/mode": "off"})).await;
    let cached = json!({"version": 2, "namespaces": {"shop": {"mode": "node", "kept": "yes"}}});
    std::fs::write(node.at("namespaces.json"), cached.to_string()).unwrap();
    node.fails("it is kept").await;
}

#[tokio::test]
async fn a_server_that_the_roots_do_not_vouch_for_or_that_has_another_pod_is_not_believed() {
    let node = Node::new();
    node.api(json!({}), json!({})).await;
    node.objects.lock().unwrap().get_mut("/api/v1/namespaces/shop/pods/cart").unwrap()["metadata"]["uid"] =
        json!("v");
    assert!(node.fails("another pod").await.contains("another pod of that name"));
    let key = KeyPair::generate().unwrap();
    let other = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(node.at("canopy-cni-ca.crt"), other.pem()).unwrap();
    assert!(node.fails("a stranger").await.contains("cannot be reached"));
}

#[tokio::test]
async fn an_account_without_rights_is_said_to_be_so() {
    let node = Node::new();
    node.api(json!({}), json!({})).await;
    let text = std::fs::read_to_string(node.at("kubeconfig")).unwrap().replace("abc", "old");
    std::fs::write(node.at("kubeconfig"), text).unwrap();
    let message = node.fails("its token has ended").await;
    assert!(message.contains("401") && message.contains("--watch"), "{message}");
}

#[tokio::test]
async fn exempt_pods_and_what_is_no_pod_start_unasked() {
    let node = Node::new();
    for arguments in ["K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns;K8S_POD_UID=u", ""] {
        let (code, out, _) = node.call_with("ADD", arguments, "1.1.0").await;
        assert_eq!((code, out), (ExitCode::SUCCESS, previous()), "{arguments}");
    }
}

#[tokio::test]
async fn a_static_pod_is_its_mirror_although_the_api_server_calls_it_by_another_uid() {
    let node = Node::new();
    node.api(json!({"canopy.mesh/on-failure": "open", "canopy.mesh/mode": "node"}), json!({})).await;
    let path = "/api/v1/namespaces/shop/pods/cart";
    let said = json!({"kubernetes.io/config.mirror": "u", "kubernetes.io/config.hash": "u"});
    let mirror = json!({"metadata": {"uid": "v", "labels": {}, "annotations": said}});
    node.objects.lock().unwrap().insert(path.to_owned(), mirror);
    node.starts("a static pod").await;
}

#[tokio::test]
async fn a_uid_that_the_runtime_does_not_say_is_asked_for() {
    let node = Node { uid: false, ..Node::new() };
    let asked = node.gate(&[Verdict::Enrolled]);
    node.api(json!({"canopy.mesh/mode": "node"}), json!({})).await;
    node.starts("by the API server").await;
    let said = std::mem::take(&mut *asked.lock().unwrap());
    assert!(matches!(&said[..], [Ask::Add(attachment)] if attachment.uid == "u"), "{said:?}");
    let node = Node { uid: false, ..Node::new() };
    node.gate(&[Verdict::Enrolled]);
    assert!(node.fails("by nobody").await.contains("K8S_POD_UID"));
}

#[tokio::test]
async fn the_end_of_a_pod_is_told_and_never_held_up() {
    let node = Node::new();
    for command in ["DEL", "GC"] {
        let (code, out, log) = node.call(command).await;
        assert_eq!((code, out), (ExitCode::SUCCESS, Value::Null), "{command}");
        assert!(log.contains("no daemon answers"), "{log}");
    }
    let asked = node.gate(&[Verdict::Done]);
    node.call("DEL").await;
    node.call("GC").await;
    let expected = [Ask::Del { container: "c".to_owned() }, Ask::Gc { valid: vec!["d".to_owned()] }];
    assert_eq!(asked.lock().unwrap()[..], expected);
}

#[tokio::test]
async fn a_check_asks_once_and_a_status_asks_nobody() {
    let node = Node::new();
    assert_eq!(node.call("STATUS").await.0, ExitCode::SUCCESS, "others' pods can start without the daemon");
    let asked = node.gate(&[Verdict::Enrolled, Verdict::Refused { why: why("gone") }]);
    assert_eq!(node.call("CHECK").await, (ExitCode::SUCCESS, Value::Null, String::new()));
    let (code, out, _) = node.call("CHECK").await;
    assert!(code == ExitCode::FAILURE && out["msg"].as_str().unwrap().contains("gone"), "{out}");
    assert!(matches!(&asked.lock().unwrap()[..], [Ask::Check(_), Ask::Check(_)]));
}

#[tokio::test]
async fn operations_are_of_the_version_that_has_them() {
    let node = Node::new();
    node.gate(&[Verdict::Enrolled]);
    let pod = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u";
    for (command, version, code) in [
        ("ADD", "0.3.1", None),
        ("CHECK", "0.3.1", Some(1)),
        ("CHECK", "0.4.0", None),
        ("GC", "1.0.0", Some(1)),
        ("STATUS", "1.0.0", Some(1)),
        ("ADD", "0.2.0", Some(1)),
        ("ADD", "3.0.0", Some(1)),
    ] {
        let (exit, out, _) = node.call_with(command, pod, version).await;
        assert_eq!(exit == ExitCode::FAILURE, code.is_some(), "{command} {version}: {out}");
        assert_eq!(out["code"].as_u64(), code, "{command} {version}: {out}");
    }
}

#[test]
fn only_by_the_plugins_name_and_without_arguments_is_the_program_the_plugin() {
    let is_it = |arguments: &[&str]| is_called(&arguments.iter().map(Into::into).collect::<Vec<_>>());
    assert!(is_it(&["/opt/cni/bin/canopy-cni"]) && is_it(&["canopy-cni"]));
    assert!(!is_it(&["/opt/cni/bin/canopy-cni", "run"]) && !is_it(&["canopy"]) && !is_it(&[]));
}
