//! Who reads the mesh over the network: a node's own client against the server, by the tokens that the authority's callers show, too.

use std::sync::mpsc;

use config::{
    model::Mesh,
    name::{NodeName, PodName},
};

use super::*;
use crate::control::{
    discovery::client::{self, Client, Event, Introduction, Tls},
    kubernetes::{Presents, Refusal},
};

/// A server that demands tokens, over TLS and on a Unix socket.
struct Plane {
    setup: Setup,
    address: SocketAddr,
    socket: PathBuf,
}

impl Plane {
    async fn new() -> Self {
        let setup = Setup::new().await;
        let site =
            config::discovery::Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
        let streams = Arc::new(Streams::new(site));
        streams.stock(&Arc::new(Mesh { version: 1, ..Mesh::default() }));
        let socket = setup.file("control.sock");
        let at = [Listen::Tcp("127.0.0.1:0".parse().unwrap()), Listen::Unix(socket.clone())];
        let own = Some(Certificates::Own(Arc::clone(&setup.authority)));
        let server = Server::open(&at, own, streams).await.unwrap();
        let Listen::Tcp(address) = server.addresses().unwrap()[0] else { panic!() };
        tokio::spawn(server.knowing(Some(setup.authority.callers())).serve(std::future::pending()));
        Self { setup, address, socket }
    }

    /// What a node of this name reads with this token, or why it does not.
    async fn read(&self, server: client::Server, node: &str, token: Option<&str>) -> Result<(), String> {
        let file = self.setup.file("shown");
        token.inspect(|token| std::fs::write(&file, token).unwrap());
        let (events, heard) = mpsc::channel();
        let name = Some("canopy-control.canopy-system.svc".to_owned());
        let options = client::Options {
            server,
            tls: Arc::new(Tls { root: self.setup.file("ca.crt"), name, certificate: None }),
            token: token.map(|_| file),
            introduction: Introduction {
                node: node.to_owned(),
                addresses: Vec::new(),
                pod: PodName::new("canopy-system".try_into().unwrap(), "canopy-node-x".try_into().unwrap()),
                cluster: "Kubernetes".to_owned(),
                domain: "cluster.local".try_into().unwrap(),
                network: String::new(),
            },
            on_demand: None,
            cache: None,
            trust_domain: "cluster.local".to_owned(),
        };
        let client = Client::start(options, events).unwrap();
        let end = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < end, "neither an answer nor a refusal");
            if let Ok(Event::Batch(..)) = heard.try_recv() {
                return Ok(());
            }
            let status = client.standing().to_json(std::time::SystemTime::now());
            if let Some(error) = status["error"].as_str() {
                return Err(error.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn over_tls(&self, node: &str, token: Option<&str>) -> Result<(), String> {
        let server = client::Server::Tls(self.address.to_string().parse().unwrap());
        self.read(server, node, token).await
    }
}

#[tokio::test]
async fn the_mesh_is_told_to_a_nodes_daemon_by_its_token_and_to_nobody_else() {
    let plane = Plane::new().await;
    assert_eq!(plane.over_tls("a", Some("daemon-on-a")).await, Ok(()));
    let cluster = &plane.setup.cluster;
    cluster.token("a-workloads", Token { user: "system:serviceaccount:shop:cart", ..daemon() });
    cluster.token("for-the-api-server", Token { audience: "api", ..daemon() });
    cluster.token("of-no-pod", Token { extra: Vec::new(), ..daemon() });
    for (token, why) in [
        (None, "there is no bearer token"),
        (Some("made-up"), "does not take the token"),
        (Some("for-the-api-server"), "does not take the token"),
        (Some("a-workloads"), "no node's daemon"),
        (Some("of-no-pod"), "no pod whose node is known"),
    ] {
        let refused = plane.over_tls("a", token).await.unwrap_err();
        assert!(refused.contains(why), "{token:?}: {refused}");
    }
    cluster.expire("daemon-on-a");
    assert!(plane.over_tls("a", Some("daemon-on-a")).await.is_err(), "its pod is gone");
}

#[tokio::test]
async fn the_mesh_is_told_to_a_pod_with_a_sidecar_and_to_none_that_only_says_so() {
    let plane = Plane::new().await;
    let pod = |name: &str, labels: serde_json::Value| {
        json!({ "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": labels },
            "spec": { "nodeName": "a", "serviceAccountName": "cart",
                "initContainers": [{ "name": "canopy-sidecar", "restartPolicy": "Always" }] } })
    };
    let user = "system:serviceaccount:shop:cart";
    for (name, uid, labels) in
        [("own", "uid-own", json!({ "canopy.mesh/mode": "sidecar" })), ("faked", "uid-faked", json!({}))]
    {
        plane.setup.cluster.put(PODS, pod(name, labels));
        plane.setup.until(|setup| setup.authority.residents.node_of("shop", name, uid).is_some()).await;
        let extra = vec![("pod-name", name), ("pod-uid", uid)];
        plane.setup.cluster.token(name, Token { user, extra, ..daemon() });
    }
    assert_eq!(plane.over_tls("a", Some("own")).await, Ok(()));
    let refused = plane.over_tls("a", Some("faked")).await.unwrap_err();
    assert!(refused.contains("no sidecar"), "{refused}");
    let callers = plane.setup.authority.callers();
    let shown = |token| Presents { token: Some(token), from: Some([10, 0, 0, 9].into()), secure: true };
    assert_eq!(callers.node(shown("own")).await, Ok(None), "as no node");
    assert_eq!(callers.node(shown("daemon-on-a")).await, Ok(Some(NodeName::try_from("a").unwrap())));
}

#[tokio::test]
async fn a_node_asks_as_itself_alone() {
    let plane = Plane::new().await;
    let refused = plane.over_tls("b", Some("daemon-on-a")).await.unwrap_err();
    assert!(refused.contains("another node"), "{refused}");
}

#[tokio::test]
async fn who_shows_a_good_token_of_no_daemon_is_listened_to_less() {
    let plane = Plane::new().await;
    let user = "system:serviceaccount:shop:cart";
    plane.setup.cluster.token("a-workloads", Token { user, ..daemon() });
    let callers = plane.setup.authority.callers();
    let shown = Presents { token: Some("a-workloads"), from: Some([10, 0, 0, 9].into()), secure: true };
    let mut refusals = Vec::new();
    for _ in 0..=STRANGER_BURST {
        refusals.push(callers.node(shown).await.unwrap_err());
    }
    assert_eq!(refusals.first(), Some(&Refusal::Account));
    assert_eq!(refusals.last(), Some(&Refusal::Rate));
}

#[tokio::test]
async fn on_the_unix_socket_root_needs_no_token() {
    let plane = Plane::new().await;
    assert_eq!(plane.read(client::Server::Unix(plane.socket.clone()), "b", None).await, Ok(()));
}

/// Tokens that nobody has made, one after the other.
fn made_up() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("made-up-{number}"))
}

const AT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

async fn shown(callers: &Callers, token: &str) -> Result<Option<NodeName>, Refusal> {
    callers.node(Presents { token: Some(token), from: Some(AT), secure: true }).await
}

#[tokio::test]
async fn requests_at_a_time_cost_no_more_reviews_than_one_after_the_other() {
    let plane = Plane::new().await;
    let callers = plane.setup.authority.callers();
    let reviews = || plane.setup.cluster.asked("/apis/authentication.k8s.io/v1/tokenreviews", "").len();
    let tokens: Vec<String> = made_up().take(300).collect();
    let all = tokens.iter().map(|token| shown(&callers, token));
    let refusals = futures_util::future::join_all(all).await;
    let bound = usize::try_from(STRANGER_BURST).unwrap();
    let reviewed = refusals.iter().filter(|said| **said == Err(Refusal::Token)).count();
    assert!((1..=bound).contains(&reviewed) && reviews() == reviewed, "{reviewed} {}", reviews());
    let rest = refusals.iter().filter(|said| **said == Err(Refusal::Rate)).count();
    assert_eq!(reviewed + rest, 300, "{refusals:?}");
    // One token, however often it is shown at a time, is one after the other.
    let same = futures_util::future::join_all((0..300).map(|_| shown(&callers, "made-up"))).await;
    assert!(same.iter().all(Result::is_err));
    assert!(reviews() <= bound + 3, "{}", reviews());
}

#[tokio::test]
async fn a_daemon_that_was_known_is_not_locked_out_by_others_at_its_address() {
    let plane = Plane::new().await;
    let callers = plane.setup.authority.callers();
    let node = Some(NodeName::try_from("a").unwrap());
    // As many at a time as it likes, with none refused for it.
    let of_daemon = |_| shown(&callers, "daemon-on-a");
    let first = futures_util::future::join_all((0..100).map(of_daemon)).await;
    assert!(first.iter().all(|said| *said == Ok(node.clone())), "{first:?}");
    let user = "system:serviceaccount:shop:cart";
    plane.setup.cluster.token("a-workloads", Token { user, ..daemon() });
    for token in made_up().take(40) {
        let _refused = shown(&callers, &token).await;
    }
    assert_eq!(shown(&callers, "another").await, Err(Refusal::Rate));
    assert_eq!(shown(&callers, "a-workloads").await, Err(Refusal::Rate), "it is no daemon's");
    assert_eq!(shown(&callers, "daemon-on-a").await, Ok(node));
    // It is reviewed all the same, and when it is good no longer, it is like any other.
    plane.setup.cluster.expire("daemon-on-a");
    assert_eq!(shown(&callers, "daemon-on-a").await, Err(Refusal::Token));
    assert_eq!(shown(&callers, "daemon-on-a").await, Err(Refusal::Rate));
}

#[tokio::test]
async fn an_api_server_that_is_away_uses_up_nobodys_tries() {
    let plane = Plane::new().await;
    let callers = plane.setup.authority.callers();
    plane.setup.cluster.fail(Faults { status: Some(503), ..Faults::default() });
    for _ in 0..3 * STRANGER_BURST {
        assert_eq!(shown(&callers, "daemon-on-a").await, Err(Refusal::ApiServer));
    }
    plane.setup.cluster.fail(Faults::default());
    assert!(shown(&callers, "daemon-on-a").await.is_ok());
}

#[tokio::test]
async fn who_was_not_told_the_mesh_is_counted_by_the_reason() {
    let plane = Plane::new().await;
    let callers = plane.setup.authority.callers();
    for (token, count) in [("made-up", 2), ("", 1)] {
        for _ in 0..count {
            assert!(shown(&callers, token).await.is_err());
        }
    }
    assert!(shown(&callers, "daemon-on-a").await.is_ok());
    let mut registry = prometheus_client::registry::Registry::with_prefix("canopy");
    registry.register_collector(Box::new(crate::control::kubernetes::CallersScrape(callers)));
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    for (reason, count) in [("token", 2), ("token_missing", 1), ("rate", 0)] {
        let line = format!("canopy_control_readers_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(page.contains(&line), "{page}");
    }
}
