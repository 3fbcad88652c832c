//! Over real sockets, with a client of the tests' own.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use config::{
    discovery::{Kind, Site},
    store::{FileText, Options, Store},
};
use futures_util::stream;
use http::{Uri, uri::PathAndQuery};
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tonic::{
    client,
    transport::{Channel, Endpoint},
};

use super::{
    super::{
        super::protocol::{Request, Response},
        TlsFiles,
    },
    *,
};

mod ends;
mod tls;

/// A server on a Unix socket, or wherever it is told to be.
struct Plane {
    streams: Arc<Streams>,
    store: Store,
    files: BTreeMap<PathBuf, FileText>,
    at: Vec<Listen>,
    _directory: TempDir,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Plane {
    async fn start(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = Listen::Unix(directory.path().join("control.sock"));
        Self::start_at(directory, &[at], None, files).await
    }

    async fn start_at(
        directory: TempDir,
        at: &[Listen],
        tls: Option<TlsFiles>,
        files: &[(&str, &str)],
    ) -> Self {
        let site = Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
        let streams = Arc::new(Streams::new(site));
        let server = Server::open(at, tls.map(Certificates::Files), Arc::clone(&streams)).await.unwrap();
        let at = server.addresses().unwrap();
        let stop = Arc::<Notify>::default();
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(server.serve(async move { stopped.notified().await }));
        let store = Store::new(Options::default());
        let files_of = BTreeMap::new();
        let mut plane = Self { streams, store, files: files_of, at, _directory: directory, stop, task };
        for (name, text) in files {
            plane.files.insert(PathBuf::from(name), FileText::from(*text));
        }
        if !files.is_empty() {
            plane.stock();
        }
        plane
    }

    fn write(&mut self, name: &str, text: &str) {
        self.files.insert(PathBuf::from(name), FileText::from(text));
        self.stock();
    }

    fn stock(&mut self) {
        let outcome = self.store.apply(&self.files);
        assert_eq!(outcome.accepted, outcome.objects, "{:#?}", outcome.findings);
        self.streams.stock(&outcome.mesh);
    }

    async fn client(&self) -> Client {
        let Listen::Unix(path) = &self.at[0] else { panic!("{:?}", self.at) };
        Client::open(unix(path).await).await.unwrap()
    }

    /// Waits until so many streams are open.
    async fn streams_become(&self, count: u64) {
        timeout(SOON, async {
            while self.streams.figures().streams() != count {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("streams end");
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream's other end.
struct Client {
    says: mpsc::Sender<Request>,
    hears: Streaming<Response>,
}

impl Client {
    async fn open(channel: Channel) -> Result<Self, Status> {
        let (says, said) = mpsc::channel(16);
        let said = stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
        let mut grpc = client::Grpc::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Request, Response>::default();
        let answer =
            grpc.streaming(tonic::Request::new(said), PathAndQuery::from_static(DELTA), codec).await?;
        Ok(Self { says, hears: answer.into_inner() })
    }

    async fn ask(&self, kind: Kind, subscribe: &[&str]) {
        self.say(Request { subscribe: subscribe.iter().map(ToString::to_string).collect(), ..of(kind) })
            .await;
    }

    async fn say(&self, request: Request) {
        self.says.send(request).await.unwrap();
    }

    async fn hear(&mut self) -> Response {
        timeout(SOON, self.hears.message()).await.expect("a response").unwrap().expect("no end")
    }

    /// What a response brings and takes back; it is acknowledged.
    async fn hear_names(&mut self) -> Vec<String> {
        let response = self.hear().await;
        self.say(Request { type_url: response.type_url, nonce: response.nonce, ..Request::default() }).await;
        let brings = response.resources.into_iter().map(|resource| resource.name);
        brings.chain(response.removed.into_iter().map(|name| format!("-{name}"))).collect()
    }

    async fn end(&mut self) -> Status {
        self.end_within(30).await
    }

    async fn end_within(&mut self, seconds: u64) -> Status {
        let end = timeout(Duration::from_secs(seconds), self.hears.message()).await;
        end.expect("an end").expect_err("a status")
    }
}

fn of(kind: Kind) -> Request {
    Request { type_url: kind.type_url().to_owned(), ..Request::default() }
}

async fn unix(path: &Path) -> Channel {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let small = 65_535;
    let endpoint = Endpoint::from_static("http://control.test");
    let endpoint = endpoint.initial_stream_window_size(small).initial_connection_window_size(small);
    endpoint.connect_with_connector(connect).await.unwrap()
}

fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{is: {label}}}}}\n---\n")
}

const SHOP: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: c}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: cart}, ports: [{port: 80}]}
";
/// By then, what is to come has come, however busy the machine is.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_node_gets_what_there_is_and_then_what_changes() {
    let mut plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let mut node = plane.client().await;
    node.ask(Kind::Namespace, &[]).await;
    assert_eq!(node.hear_names().await, ["shop"]);
    plane.write("b", &namespace("bank", "one"));
    assert_eq!(node.hear_names().await, ["bank"]);
    plane.write("b", &namespace("bench", "one"));
    assert_eq!(node.hear_names().await, ["bench"]);
    assert_eq!(node.hear_names().await, ["-bank"]);
    let held = plane.streams.figures().of(Kind::Namespace);
    assert_eq!((held.resources, held.responses, held.nacks), (2, 4, 0));
    assert!(held.bytes > 100);
}

#[tokio::test]
async fn nothing_is_served_before_the_first_configuration_is_read() {
    let mut plane = Plane::start(&[]).await;
    let mut node = plane.client().await;
    node.ask(Kind::Namespace, &[]).await;
    let mut other = plane.client().await;
    other.say(Request { type_url: "strange".to_owned(), ..Request::default() }).await;
    plane.streams_become(2).await;
    let early = timeout(Duration::from_millis(200), node.hears.message()).await;
    assert!(early.is_err(), "an empty mesh takes away what a node has: {early:?}");
    plane.write("a", &namespace("shop", "one"));
    assert_eq!(node.hear_names().await, ["shop"]);
    assert_eq!(other.hear().await.type_url, "strange");
}

#[tokio::test]
async fn a_service_that_is_asked_for_by_its_address_comes_with_its_pods() {
    let plane = Plane::start(&[("shop", SHOP)]).await;
    let mut node = plane.client().await;
    let nothing =
        Request { subscribe: vec!["*".to_owned()], unsubscribe: vec!["*".to_owned()], ..of(Kind::Address) };
    node.say(nothing).await;
    assert_eq!(node.hear_names().await, [""; 0]);
    node.ask(Kind::Address, &["/10.96.0.1", "/192.0.2.1"]).await;
    let service = "shop/cart.shop.svc.cluster.local";
    assert_eq!(node.hear_names().await, ["c//Pod/shop/cart-1", service, "-/192.0.2.1"]);
}

#[tokio::test]
async fn a_node_that_comes_back_gets_what_it_has_not() {
    let mut plane = Plane::start(&[("a", &namespace("bank", "one")), ("b", &namespace("shop", "one"))]).await;
    let mut node = plane.client().await;
    node.ask(Kind::Namespace, &[]).await;
    let known = node.hear().await.resources.into_iter().map(|resource| (resource.name, resource.version));
    let initial_versions: HashMap<_, _> = known.collect();
    drop(node);
    plane.streams_become(0).await;
    plane.write("b", &namespace("shop", "two"));
    let mut node = plane.client().await;
    node.say(Request { initial_versions, ..of(Kind::Namespace) }).await;
    assert_eq!(node.hear_names().await, ["shop"]);
}

#[tokio::test]
async fn what_a_node_does_not_take_is_counted_and_not_sent_again() {
    let mut plane = Plane::start(&[("a", &namespace("bank", "one"))]).await;
    let mut node = plane.client().await;
    node.ask(Kind::Namespace, &[]).await;
    let nonce = node.hear().await.nonce;
    let error = Some(protocol::Status { code: 3, message: "bank: no".to_owned() });
    node.say(Request { nonce, error, ..of(Kind::Namespace) }).await;
    plane.write("b", &namespace("shop", "one"));
    assert_eq!(node.hear_names().await, ["shop"]);
    assert_eq!(plane.streams.figures().of(Kind::Namespace).nacks, 1);
    plane.write("a", &namespace("bank", "two"));
    assert_eq!(node.hear_names().await, ["bank"]);
}

#[tokio::test]
async fn a_node_that_does_not_read_holds_up_no_other_and_gets_all_at_once_when_it_does() {
    // Some times what a connection takes that nobody reads.
    let many = |label: &str| {
        let label = format!("{label}{}", "x".repeat(50));
        (0..2000).map(|number| namespace(&format!("n{number}"), &label)).collect::<String>()
    };
    let mut plane = Plane::start(&[("many", &many("one"))]).await;
    let mut slow = plane.client().await;
    slow.ask(Kind::Namespace, &[]).await;
    let figures = plane.streams.figures();
    let responses = || figures.of(Kind::Namespace).responses;
    while responses() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let mut quick = plane.client().await;
    quick.ask(Kind::Authorization, &[]).await;
    assert_eq!(quick.hear_names().await, [""; 0]);
    for round in 0..3 {
        plane.write("many", &many(&format!("l{round}")));
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: NAME, namespace: n1}\nspec: {}\n";
        plane.write("policy", &policy.replace("NAME", &format!("p{round}")));
        assert_eq!(quick.hear_names().await, [format!("n1/p{round}")]);
        if round > 0 {
            assert_eq!(quick.hear_names().await, [format!("-n1/p{}", round - 1)]);
        }
    }
    assert_eq!(responses(), 1, "one is under way, the others wait for its answer");
    assert_eq!(slow.hear_names().await.len(), 2000);
    assert_eq!(slow.hear_names().await.len(), 2000);
    assert_eq!(responses(), 2);
}

#[tokio::test]
async fn what_is_not_the_delta_protocol_is_refused() {
    let plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let Listen::Unix(path) = &plane.at[0] else { panic!() };
    let mut grpc = client::Grpc::new(unix(path).await);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<Request, Response>::default();
    let other = PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    );
    let refused = grpc.unary(tonic::Request::new(Request::default()), other, codec).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_its_stream_with_the_reason_and_no_other() {
    let mut plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let (mut large, mut other) = (plane.client().await, plane.client().await);
    other.ask(Kind::Namespace, &[]).await;
    assert_eq!(other.hear_names().await, ["shop"]);
    large.ask(Kind::Address, &[&"x".repeat(LARGEST_REQUEST + 1)]).await;
    let end = large.end().await;
    assert_eq!(end.code(), tonic::Code::OutOfRange, "{end}");
    let names: Vec<String> = (0..LARGEST_REQUEST / 2000).map(|number| format!("/{number:0999}")).collect();
    let mut half = plane.client().await;
    half.ask(Kind::Address, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(half.hear_names().await.len(), names.len(), "half of it is not too large");
    drop(half);
    let mut long = plane.client().await;
    long.ask(Kind::Address, &[&"x".repeat(2000)]).await;
    assert!(long.end().await.message().contains("2000 bytes"));
    plane.streams_become(1).await;
    plane.write("b", &namespace("bank", "one"));
    assert_eq!(other.hear_names().await, ["bank"]);
}
