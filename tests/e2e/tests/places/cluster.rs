//! As much of an API server as a node needs: lists and watches of the objects that a test puts there, single pods, and Events that it is
//! told.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testkit::{KitError, Node, block_on};

/// It, on the loopback of a node.
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    directory: tempfile::TempDir,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By the path of its kind, and by its name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    events: Vec<(u64, String, Value)>,
    /// Events of Kubernetes, as they were made.
    told: Vec<Value>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Cluster {
    pub(crate) fn start(node: &Node) -> Result<Self, KitError> {
        let failed = |source| KitError::Start { what: "an API server".to_owned(), source };
        let listener = node.netns().run(|| TcpListener::bind("127.0.0.1:0"))?.map_err(failed)?;
        let server = format!("http://{}", listener.local_addr().map_err(failed)?);
        listener.set_nonblocking(true).map_err(failed)?;
        let state = Arc::new(Mutex::new(State { version: 1, ..State::default() }));
        let served = Arc::clone(&state);
        // It ends with the test's process.
        thread::spawn(move || block_on(serve(listener, served)));
        let directory = tempfile::tempdir().map_err(failed)?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "users": [{ "name": "c", "user": { "token": "t" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
        });
        std::fs::write(directory.path().join("config"), kubeconfig.to_string()).map_err(failed)?;
        Ok(Self { state, directory })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// An object is there, or is another.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().expect("no test panics with it");
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let before = state.objects.entry(path.to_owned()).or_default().insert(name, object.clone());
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.events.push((version, path.to_owned(), json!({ "type": what, "object": object })));
    }

    /// Events about a pod: reason, UID of the pod, and who told it.
    pub(crate) fn told_of(&self, pod: &str) -> Vec<[String; 3]> {
        let state = self.state.lock().expect("no test panics with it");
        let of = state.told.iter().filter(|event| event["regarding"]["name"] == pod);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        of.map(|event| [&event["reason"], &event["regarding"]["uid"], &event["reportingInstance"]].map(text))
            .collect()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // Who asks may go.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &Arc<Mutex<State>>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if head.method == Method::POST && path.ends_with("/events") {
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let event: Value = serde_json::from_slice(&body).unwrap_or_default();
        state.lock().expect("no test panics with it").told.push(event.clone());
        return whole(201, &event);
    }
    let query = head.uri.query().unwrap_or_default();
    let known = state.lock().expect("no test panics with it");
    if query.contains("watch=") {
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let from = from.and_then(|version| version.parse().ok()).unwrap_or(known.version);
        drop(known);
        return Response::new(BodyExt::boxed_unsync(StreamBody::new(watch(Arc::clone(state), path, from))));
    }
    if let Some((namespace, name)) =
        path.strip_prefix("/api/v1/namespaces/").and_then(|rest| rest.split_once("/pods/"))
    {
        let is_it =
            |pod: &&Value| pod["metadata"]["namespace"] == namespace && pod["metadata"]["name"] == name;
        let pods = known.objects.get("/api/v1/pods").into_iter().flat_map(BTreeMap::values);
        if let Some(pod) = pods.into_iter().find(is_it) {
            return whole(200, pod);
        }
    }
    let Some(objects) = known.objects.get(&path) else {
        let said = json!({ "kind": "Status", "code": 404, "message": "no such kind" });
        return whole(404, &said);
    };
    let items: Vec<&Value> = objects.values().collect();
    let metadata = json!({ "resourceVersion": known.version.to_string() });
    whole(200, &json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
}

fn whole(status: u16, said: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(said.to_string())).boxed_unsync();
    Response::builder().status(status).body(body).expect("an answer")
}

fn watch(
    state: Arc<Mutex<State>>,
    path: String,
    from: u64,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold((state, path, from), |(state, path, mut from)| async move {
        loop {
            let (lines, version) = {
                let known = state.lock().expect("no test panics with it");
                let new = known.events.iter().filter(|(version, of, _)| *version > from && *of == path);
                (new.map(|(_, _, event)| format!("{event}\n")).collect::<String>(), known.version)
            };
            from = version;
            if !lines.is_empty() {
                return Some((Ok(Frame::data(Bytes::from(lines))), (state, path, from)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// The file of a pod that the control plane reads.
pub(crate) fn pod_file(directory: &Path, pod: &Value) -> std::io::Result<()> {
    std::fs::write(directory.join("pod.json"), pod.to_string())
}
