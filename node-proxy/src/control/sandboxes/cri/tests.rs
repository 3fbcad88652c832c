//! Against a RuntimeService in this process, over a real socket, with the sandboxes that a test gives it.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::mpsc};
use tonic::{Response, server::Grpc};

use super::{
    wire::{Linux, Metadata, NamespaceOption, Namespaces},
    *,
};

/// What the runtime runs, and how it behaves.
#[derive(Debug, Default)]
struct World {
    items: Mutex<Vec<Item>>,
    statuses: AtomicUsize,
    /// Sandboxes whose status nobody knows any more.
    ended: Mutex<Vec<String>>,
    /// Where it has events, of which each is one.
    events: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
}

type Answer = http::Response<tonic::body::Body>;

impl World {
    fn add(&self, id: &str, uid: &str, created_at: i64) {
        let metadata = Metadata { name: "cart".into(), uid: uid.into(), namespace: "shop".into() };
        let item = Item { id: id.into(), metadata: Some(metadata), created_at, ..Item::default() };
        self.items.lock().unwrap().push(item);
    }

    fn remove(&self, id: &str) {
        self.items.lock().unwrap().retain(|item| item.id != id);
    }

    fn status(&self, id: &str) -> Result<StatusAnswer, Status> {
        self.statuses.fetch_add(1, Ordering::Relaxed);
        if self.ended.lock().unwrap().iter().any(|ended| ended == id) {
            return Err(Status::not_found(id));
        }
        let namespaces = Some(Namespaces { options: Some(NamespaceOption { network: 0 }) });
        let status = wire::Status { linux: Some(Linux { namespaces }), ..wire::Status::default() };
        let network = serde_json::json!({"type": "network", "path": format!("/run/netns/{id}")});
        let info = serde_json::json!({"runtimeSpec": {"linux": {"namespaces": [network]}}}).to_string();
        Ok(StatusAnswer { status: Some(status), info: [("info".to_owned(), info)].into() })
    }

    async fn answer(self: Arc<Self>, request: http::Request<hyper::body::Incoming>) -> Answer {
        match request.uri().path() {
            wire::LIST => {
                let service = service_fn(move |request: Request<ListRequest>| {
                    let world = Arc::clone(&self);
                    async move {
                        let state = request.into_inner().filter.and_then(|filter| filter.state);
                        assert_eq!(state.map(|state| state.state), Some(READY));
                        Ok::<_, Status>(Response::new(List { items: world.items.lock().unwrap().clone() }))
                    }
                });
                Grpc::new(ProstCodec::<List, ListRequest>::default()).unary(service, request).await
            }
            wire::STATUS => {
                let service = service_fn(move |request: Request<StatusRequest>| {
                    let world = Arc::clone(&self);
                    async move {
                        let request = request.into_inner();
                        assert!(request.verbose, "only then does it say where");
                        world.status(&request.id).map(Response::new)
                    }
                });
                Grpc::new(ProstCodec::<StatusAnswer, StatusRequest>::default()).unary(service, request).await
            }
            _ => {
                let service = service_fn(move |_: Request<EventsRequest>| {
                    let events = self.events.lock().unwrap().take();
                    async move {
                        let events = events.ok_or_else(|| Status::unimplemented("no events"))?;
                        let events = futures_util::stream::unfold(events, |mut events| async move {
                            Some((events.recv().await?, events))
                        });
                        Ok::<_, Status>(Response::new(events.map(Ok::<_, Status>).boxed()))
                    }
                });
                let mut grpc = Grpc::new(ProstCodec::<Event, EventsRequest>::default());
                grpc.server_streaming(service, request).await
            }
        }
    }
}

/// A runtime on a socket, which ends with this.
struct Served {
    world: Arc<World>,
    socket: Socket,
    directory: TempDir,
    task: Option<JoinHandle<()>>,
}

impl Served {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket(directory.path().join("cri.sock"));
        Self { world: Arc::default(), socket, directory, task: None }
    }

    fn start(&mut self) {
        let _ = std::fs::remove_file(&self.socket.0);
        let listener = UnixListener::bind(&self.socket.0).unwrap();
        let world = Arc::clone(&self.world);
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let world = Arc::clone(&world);
                let service = hyper::service::service_fn(move |request| {
                    let world = Arc::clone(&world);
                    async move { Ok::<_, std::convert::Infallible>(world.answer(request).await) }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move {
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }));
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

const QUICK: Pace = Pace {
    poll: Duration::from_millis(20),
    least: Duration::from_millis(5),
    pause: Duration::from_millis(10),
};

async fn until(places: &Places, what: &str, holds: impl Fn(&Places) -> bool) {
    let mut changes = places.changes();
    let wait = async {
        while !holds(places) {
            changes.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", places.all()));
}

fn at(places: &Places, uid: &str) -> Option<PathBuf> {
    places.of(uid)?.netns.clone()
}

#[tokio::test]
async fn sandboxes_are_found_each_asked_about_once_and_gone_when_they_are() {
    let mut served = Served::new();
    served.world.add("one", "u1", 1);
    served.world.add("two", "u2", 2);
    served.start();
    let (places, socket) = (Places::default(), served.socket.clone());
    let followed = places.clone();
    let keeping = tokio::spawn(async move { keep(&socket, &followed, QUICK).await });
    until(&places, "both", |places| places.all().len() == 2).await;
    assert_eq!(at(&places, "u1").unwrap(), Path::new("/run/netns/one"));
    // Started anew: of two, the later.
    served.world.add("three", "u1", 3);
    until(&places, "anew", |places| at(places, "u1") == Some("/run/netns/three".into())).await;
    served.world.remove("two");
    until(&places, "gone", |places| places.of("u2").is_none()).await;
    assert_eq!(served.world.statuses.load(Ordering::Relaxed), 3);
    keeping.abort();
}

#[tokio::test]
async fn one_that_ends_while_it_is_asked_about_takes_nothing_from_the_others() {
    let mut served = Served::new();
    served.world.add("gone", "u1", 1);
    served.world.add("there", "u2", 2);
    served.world.ended.lock().unwrap().push("gone".to_owned());
    served.start();
    let mut runtime = Runtime::connect(&served.socket).await.unwrap();
    let found = runtime.look().await.unwrap();
    assert_eq!(found.iter().map(|sandbox| sandbox.uid.as_str()).collect::<Vec<_>>(), ["u2"]);
}

#[tokio::test]
async fn a_runtime_that_goes_leaves_what_is_known_and_is_followed_again_when_it_is_back() {
    let mut served = Served::new();
    served.world.add("one", "u1", 1);
    let (places, socket) = (Places::default(), served.socket.clone());
    let followed = places.clone();
    let keeping = tokio::spawn(async move { keep(&socket, &followed, QUICK).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    served.start();
    until(&places, "it comes later", |places| places.of("u1").is_some()).await;
    served.stop();
    served.world.add("two", "u2", 2);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(places.of("u1").is_some() && places.of("u2").is_none());
    served.start();
    until(&places, "it is back", |places| places.of("u2").is_some()).await;
    keeping.abort();
}

#[tokio::test]
async fn an_event_is_looked_after_at_once_where_the_runtime_tells_of_any() {
    let mut served = Served::new();
    let (tell, events) = mpsc::unbounded_channel();
    *served.world.events.lock().unwrap() = Some(events);
    served.start();
    let (places, socket) = (Places::default(), served.socket.clone());
    let followed = places.clone();
    let slow = Pace { poll: Duration::from_secs(600), ..QUICK };
    let keeping = tokio::spawn(async move { keep(&socket, &followed, slow).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    served.world.add("one", "u1", 1);
    tell.send(Event { container: "one".to_owned() }).unwrap();
    until(&places, "told", |places| places.of("u1").is_some()).await;
    keeping.abort();
}

#[tokio::test]
async fn a_socket_that_nobody_listens_at_is_named_with_what_it_may_be() {
    let served = Served::new();
    let error = Runtime::connect(&served.socket).await.unwrap_err().to_string();
    assert!(error.contains("cri.sock") && error.contains("/run/crio/crio.sock"), "{error}");
    drop(served.directory);
}

#[test]
fn a_runtimes_socket_is_named_as_the_kubelet_names_it() {
    for text in ["unix:///run/c.sock", "unix:/run/c.sock", "/run/c.sock"] {
        assert_eq!(text.parse(), Ok(Socket("/run/c.sock".into())), "{text}");
    }
    for wrong in ["", "run/c.sock", "unix://c.sock", "tcp://127.0.0.1:1"] {
        assert!(wrong.parse::<Socket>().unwrap_err().contains("full path"), "{wrong}");
    }
}
