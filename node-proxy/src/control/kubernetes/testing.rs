//! A small API server, for tests: lists in pages, watches in chunks, with a memory that ends, and with faults.
//!
//! A seam at the wire: what follows it is the real client. It knows no more of Kubernetes than lists and watches, and, in
//! [`objects`], some objects by themselves and reviews of tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Access, kinds};

pub(super) mod objects;

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// An API server that ends when it is dropped.
pub(super) struct Cluster {
    inner: Arc<Inner>,
    address: SocketAddr,
    files: tempfile::TempDir,
    _running: watch::Sender<()>,
}

struct Inner {
    state: Mutex<State>,
    /// Counts changes of what watches have to look at.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    installed: BTreeSet<String>,
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    log: Vec<(u64, String, Value)>,
    /// Nothing before this version is remembered.
    oldest: u64,
    /// Watches of an earlier time are broken off.
    dropped: u64,
    faults: Faults,
    asked: Vec<String>,
    tokens: BTreeSet<String>,
    singles: objects::Singles,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Every request is answered so.
    pub(super) status: Option<u16>,
    /// Further pages of lists are answered so.
    pub(super) pages: Option<u16>,
    /// Watches end as soon as they begin.
    pub(super) short_watches: bool,
}

impl Cluster {
    /// With all kinds installed but those of these paths.
    pub(super) fn start(without: &[&str]) -> Self {
        let all = kinds::cluster().into_iter();
        let paths = all.map(|watched| watched.resource.path(watched.resource.versions[0]));
        let state = State {
            version: 100,
            installed: paths.filter(|path| !without.contains(&path.as_str())).collect(),
            ..State::default()
        };
        let inner = Arc::new(Inner { state: Mutex::new(state), changed: watch::channel(0).0 });
        let (running, mut ends) = watch::channel(());
        let (bound, address) = std::sync::mpsc::channel();
        let served = Arc::clone(&inner);
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("the network of a test");
                bound.send(listener.local_addr().expect("it is bound")).expect("it is waited for");
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = ends.changed() => {}
                }
            });
        });
        let address = address.recv().expect("it is bound");
        let files = tempfile::tempdir().expect("a directory");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "c", "user": { "token": "a-secret" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c", "namespace": "canopy-system" } }],
        });
        std::fs::write(files.path().join("config"), kubeconfig.to_string()).expect("it can be written");
        Self { inner, address, files, _running: running }
    }

    pub(super) fn access(&self) -> Access {
        Access { kubeconfig: vec![self.files.path().join("config")], context: None }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// An object is there, or is another.
    pub(super) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let objects = state.objects.entry(path.to_owned()).or_default();
        let before = objects.insert(key(&object), object.clone());
        let uid = before.as_ref().map_or(json!(format!("uid-{version}")), |it| it["metadata"]["uid"].clone());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = uid;
            objects.insert(key(&object), object.clone());
        }
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.log.push((version, path.to_owned(), json!({ "type": what, "object": object })));
        drop(state);
        self.look();
    }

    pub(super) fn delete(&self, path: &str, key: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let mut object =
            state.objects.get_mut(path).expect("a kind that is there").remove(key).expect("it is there");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.log.push((version, path.to_owned(), json!({ "type": "DELETED", "object": object })));
        drop(state);
        self.look();
    }

    /// An object goes without a word: nobody who watches hears of it.
    pub(super) fn lose(&self, path: &str, key: &str) {
        self.state().objects.get_mut(path).expect("a kind that is there").remove(key).expect("it is there");
    }

    /// Whoever watches is told how far it is.
    pub(super) fn bookmark(&self, path: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let object = json!({ "metadata": { "resourceVersion": version.to_string() } });
        state.log.push((version, path.to_owned(), json!({ "type": "BOOKMARK", "object": object })));
        drop(state);
        self.look();
    }

    /// Anything is said to whoever watches.
    pub(super) fn say(&self, path: &str, event: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        state.log.push((version, path.to_owned(), event));
        drop(state);
        self.look();
    }

    /// What happened until now is forgotten.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.version += 1;
        state.oldest = state.version;
        state.log.clear();
    }

    /// The store is put back to an earlier time.
    pub(super) fn go_back(&self, version: u64) {
        let mut state = self.state();
        state.version = version;
        state.log.clear();
    }

    /// All watches break off.
    pub(super) fn drop_watches(&self) {
        self.state().dropped += 1;
        self.look();
    }

    pub(super) fn install(&self, path: &str) {
        self.state().installed.insert(path.to_owned());
    }

    /// A kind goes, with all of its objects.
    pub(super) fn uninstall(&self, path: &str) {
        let mut state = self.state();
        state.installed.remove(path);
        state.objects.remove(path);
    }

    pub(super) fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The requests so far that begin so and have this in them.
    pub(super) fn asked(&self, path: &str, with: &str) -> Vec<String> {
        let state = self.state();
        let is_it = |asked: &&String| asked.split('?').next() == Some(path) && asked.contains(with);
        state.asked.iter().filter(is_it).cloned().collect()
    }

    /// What was shown by whoever asked.
    pub(super) fn tokens(&self) -> BTreeSet<String> {
        self.state().tokens.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no test panics with it")
    }

    fn look(&self) {
        self.inner.changed.send_modify(|changes| *changes += 1);
    }
}

fn key(object: &Value) -> String {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        let (stream, _) = listener.accept().await.expect("the network of a test");
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&inner), request));
            // Who asks may go.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let decoded = percent_encoding::percent_decode_str(query).decode_utf8().expect("text").into_owned();
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| {
            let value = percent_encoding::percent_decode_str(value).decode_utf8().expect("text");
            (key.to_owned(), value.into_owned())
        })
        .collect();
    let token = request.headers().get("authorization").map(|token| token.to_str().expect("text").to_owned());
    let method = request.method().clone();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut state = inner.state.lock().expect("no test panics with it");
    state.asked.push(format!("{path}?{decoded}"));
    state.tokens.extend(token);
    if let Some(status) = state.faults.status {
        return Ok(refusal(status));
    }
    if let Some((status, object)) = state.singles.answer(&method, &path, &body) {
        return Ok(whole(StatusCode::from_u16(status).expect("a status"), object.to_string()));
    }
    if !state.installed.contains(&path) {
        return Ok(refusal(404));
    }
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<u64>().ok());
    if query.contains_key("watch") {
        let from = number("resourceVersion").expect("a watch says from when");
        let short = state.faults.short_watches;
        let last = Duration::from_secs(number("timeoutSeconds").expect("a watch says how long"));
        drop(state);
        let (events, body) = mpsc::channel(16);
        let selector = query.get("fieldSelector").cloned();
        if !short {
            tokio::spawn(tell(inner, (path, selector), from, last, events));
        }
        return Ok(streamed(body));
    }
    Ok(list(&state, &path, &query))
}

fn list(state: &State, path: &str, query: &BTreeMap<String, String>) -> Answer {
    let limit = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let (version, from) = match query.get("continue").and_then(|token| token.split_once(':')) {
        None => (state.version, 0),
        Some((version, from)) => (version.parse().expect("a version"), from.parse().expect("a place")),
    };
    if from > 0 {
        if let Some(status) = state.faults.pages {
            return refusal(status);
        }
        if version < state.oldest {
            return refusal(410);
        }
    }
    let selector = query.get("fieldSelector");
    let all = state.objects.get(path).map(|objects| objects.values()).into_iter().flatten();
    let all: Vec<&Value> = all.filter(|object| is_selected(object, selector)).collect();
    let items: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
    let next = from + items.len();
    let next = if next < all.len() { format!("{version}:{next}") } else { String::new() };
    let list = json!({
        "kind": "List", "apiVersion": "v1", "items": items,
        "metadata": { "resourceVersion": version.to_string(), "continue": next },
    });
    whole(StatusCode::OK, list.to_string())
}

fn is_selected(object: &Value, selector: Option<&String>) -> bool {
    let node = selector.and_then(|selector| selector.strip_prefix("spec.nodeName="));
    node.is_none_or(|node| object["spec"]["nodeName"] == node)
}

/// A watch.
async fn tell(
    inner: Arc<Inner>,
    (path, selector): (String, Option<String>),
    mut from: u64,
    last: Duration,
    events: mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
) {
    let mut changed = inner.changed.subscribe();
    let dropped = inner.state.lock().expect("no test panics with it").dropped;
    let told = async {
        loop {
            let (lines, over) = {
                let state = inner.state.lock().expect("no test panics with it");
                let is_new = |entry: &&(u64, String, Value)| entry.0 > from && entry.1 == path;
                let new = state.log.iter().filter(is_new);
                let new = new.filter(|entry| {
                    entry.2["type"] == "BOOKMARK" || is_selected(&entry.2["object"], selector.as_ref())
                });
                let mut lines: Vec<String> = new.map(|entry| entry.2.to_string()).collect();
                if from < state.oldest {
                    let object =
                        json!({ "kind": "Status", "code": 410, "message": "too old resource version" });
                    lines = vec![json!({ "type": "ERROR", "object": object }).to_string()];
                }
                from = from.max(state.log.last().map_or(0, |entry| entry.0));
                (lines, state.dropped > dropped)
            };
            if over {
                let broken = io::Error::from(io::ErrorKind::ConnectionReset);
                let _ = events.send(Err(broken)).await;
                return;
            }
            for line in lines {
                // In two pieces: an event is a line, however it comes.
                let (one, other) = line.split_at(line.len() / 2);
                for piece in [one.to_owned(), format!("{other}\n")] {
                    if events.send(Ok(Frame::data(Bytes::from(piece)))).await.is_err() {
                        return;
                    }
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(last, told).await;
}

fn streamed(mut body: mpsc::Receiver<Result<Frame<Bytes>, io::Error>>) -> Answer {
    let frames = stream::poll_fn(move |context| body.poll_recv(context));
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

fn refusal(status: u16) -> Answer {
    let said = json!({ "kind": "Status", "code": status, "message": format!("it is {status}") });
    whole(StatusCode::from_u16(status).expect("a status"), said.to_string())
}

fn whole(status: StatusCode, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    Response::builder().status(status).body(body.boxed()).expect("an answer")
}
