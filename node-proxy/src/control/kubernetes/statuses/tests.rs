//! What an API server is told, and by whom.

use std::{
    convert::Infallible,
    sync::{Mutex, mpsc},
};

use bytes::Bytes;
use config::store::{FileText, Options, Store};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/cart";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/canopy-system/leases/canopy-control";
const EVERY: Duration = Duration::from_millis(50);

/// Objects by their paths, each of which counts its versions; and what was asked.
#[derive(Default)]
pub(in crate::control::kubernetes) struct Objects {
    objects: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<String>>,
}

impl Objects {
    /// What is at a path.
    fn at(&self, path: &str) -> Value {
        self.objects.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    pub(in crate::control::kubernetes) fn put(&self, path: &str, mut object: Value) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(path).map_or(0, |before| version(before) + 1);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        objects.insert(path.to_owned(), object);
    }

    /// All Events that were made.
    pub(in crate::control::kubernetes) fn events(&self) -> Vec<Value> {
        let objects = self.objects.lock().unwrap();
        objects.values().filter(|object| object["kind"] == "Event").cloned().collect()
    }

    fn asked(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(method)).count()
    }

    fn answer(&self, method: &Method, path: &str, said: Value) -> (u16, Value) {
        self.asked.lock().unwrap().push(format!("{method} {path}"));
        let refusal = |status: u16| (status, json!({ "kind": "Status", "code": status }));
        let at = match method.as_str() {
            "POST" => format!("{path}/{}", said["metadata"]["name"].as_str().unwrap()),
            _ => path.trim_end_matches("/status").to_owned(),
        };
        let before = self.objects.lock().unwrap().get(&at).cloned();
        let object = match (method.as_str(), before) {
            ("POST", Some(_)) => return refusal(409),
            ("GET", Some(before)) => return (200, before),
            ("POST", None) => said,
            (_, None) => return refusal(404),
            ("PATCH", Some(mut before)) if before["kind"] == "Event" => {
                before["series"] = said["series"].clone();
                before
            }
            (_, Some(before))
                if said["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] =>
            {
                return refusal(409);
            }
            ("PUT", Some(_)) => said,
            (_, Some(mut before)) => {
                before["status"] = said["status"].clone();
                before
            }
        };
        self.put(&at, object);
        (200, self.at(&at))
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// An API server of objects, and what it is found by.
pub(in crate::control::kubernetes) fn server() -> (Arc<Objects>, Access, tempfile::TempDir) {
    let objects = Arc::new(Objects::default());
    let served = Arc::clone(&objects);
    let (bound, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let objects = Arc::clone(&served);
                let answer = service_fn(move |request| answer(Arc::clone(&objects), request));
                tokio::spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
    });
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    let server = format!("http://{}", address.recv().unwrap());
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c", "namespace": "canopy-system" } }],
        "users": [{ "name": "c", "user": {} }],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    (objects, Access { kubeconfig: vec![kubeconfig], context: None }, directory)
}

async fn answer(
    objects: Arc<Objects>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let said = serde_json::from_slice(&body).unwrap_or_default();
    let (status, object) = objects.answer(&head.method, head.uri.path(), said);
    let body = Full::new(Bytes::from(object.to_string()));
    Ok(Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap())
}

/// A source that says what it is given.
#[derive(Debug)]
struct Given(Store, mpsc::Receiver<String>);

impl ConfigSource for Given {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let text = self.1.recv_timeout(patience).ok()?;
        let files = [(std::path::PathBuf::from("a.json"), FileText::from(&*text))].into();
        Some(self.0.apply(&files))
    }
}

fn reported(access: &Access) -> (Reported<Given>, mpsc::Sender<String>) {
    let (give, given) = mpsc::channel();
    let source = Given(Store::new(Options::default()), given);
    (Reported::start_every(source, access, EVERY).unwrap(), give)
}

fn route(backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "cart", "namespace": "shop", "generation": 1 },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "cart" }],
            "rules": [{ "backendRefs": [{ "name": backend, "port": 80 }] }],
        },
    })
}

fn texts(route: &Value) -> String {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "cart", "namespace": "shop" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [namespace, service, route] }).to_string()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn condition(objects: &Objects, about: &str) -> String {
    let conditions = &objects.at(ROUTE)["status"]["parents"][0]["conditions"];
    let found = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == about);
    found.map_or_else(String::new, |condition| condition["status"].as_str().unwrap().to_owned())
}

#[test]
fn a_routes_owner_is_told_in_its_status_and_again_only_when_something_changed() {
    let (objects, access, _directory) = server();
    objects.put(ROUTE, route("cart"));
    let (mut source, give) = reported(&access);
    give.send(texts(&route("cart"))).unwrap();
    source.next(Duration::from_secs(5)).unwrap();
    wait_for("it is told", || condition(&objects, "Accepted") == "True");
    assert_eq!(condition(&objects, "ResolvedRefs"), "True");
    assert_eq!(objects.at(ROUTE)["status"]["parents"][0]["controllerName"], "canopy.mesh/controller");
    assert_eq!(objects.asked("PATCH"), 1);
    let renewals = objects.asked("PUT");
    wait_for("it goes on", || objects.asked("PUT") > renewals + 3);
    assert_eq!(objects.asked("PATCH"), 1, "nothing is new");
    objects.put(ROUTE, route("gone"));
    give.send(texts(&route("gone"))).unwrap();
    source.next(Duration::from_secs(5)).unwrap();
    wait_for("it is told", || condition(&objects, "ResolvedRefs") == "False");
}

#[test]
fn of_two_control_planes_only_the_one_that_holds_the_lease_writes() {
    let (objects, access, _directory) = server();
    objects.put(ROUTE, route("cart"));
    let spec = json!({ "holderIdentity": "another", "leaseDurationSeconds": 1 });
    objects.put(LEASE, json!({ "metadata": {}, "spec": spec }));
    let (mut source, give) = reported(&access);
    give.send(texts(&route("cart"))).unwrap();
    source.next(Duration::from_secs(5)).unwrap();
    thread::sleep(Duration::from_millis(700));
    assert_eq!((objects.asked("PATCH"), objects.asked("PUT")), (0, 0), "it is another's");
    wait_for("the lease is over", || condition(&objects, "Accepted") == "True");
    assert_ne!(objects.at(LEASE)["spec"]["holderIdentity"], "another");
    assert_eq!(objects.at(LEASE)["spec"]["leaseTransitions"], 1);
}

#[test]
fn an_owner_is_told_by_an_event_when_a_route_turns_to_be_refused_and_it_is_counted_up_when_it_does_again() {
    let (objects, access, _directory) = server();
    let named = |backend: &str| {
        let mut route = route(backend);
        route["metadata"]["uid"] = json!("u1");
        route
    };
    objects.put(ROUTE, named("cart"));
    let (mut source, give) = reported(&access);
    let mut say = |backend: &str| {
        objects.put(ROUTE, named(backend));
        give.send(texts(&named(backend))).unwrap();
        source.next(Duration::from_secs(5)).unwrap();
    };
    say("cart");
    wait_for("it is told", || condition(&objects, "ResolvedRefs") == "True");
    assert!(objects.events().is_empty(), "nothing is wrong");
    say("gone");
    wait_for("an event", || objects.events().len() == 1);
    let event = &objects.events()[0];
    assert_eq!((&event["reason"], &event["type"]), (&json!("BackendNotFound"), &json!("Warning")));
    assert_eq!((&event["regarding"]["name"], &event["regarding"]["uid"]), (&json!("cart"), &json!("u1")));
    assert_eq!(event["metadata"]["namespace"], "shop");
    for count in [2, 3] {
        say("cart");
        wait_for("it is told", || condition(&objects, "ResolvedRefs") == "True");
        say("gone");
        wait_for("it is counted", || objects.events()[0]["series"]["count"] == count);
    }
    assert_eq!(objects.events().len(), 1);
    drop((source, give));
    // Another finds it refused, and nothing has happened since.
    objects.put(LEASE, json!({ "metadata": {}, "spec": { "holderIdentity": "" } }));
    let posts = objects.asked("POST");
    let (mut source, give) = reported(&access);
    give.send(texts(&named("gone"))).unwrap();
    source.next(Duration::from_secs(5)).unwrap();
    wait_for("it was tried", || objects.asked("POST") > posts);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((objects.events().len(), &objects.events()[0]["series"]["count"]), (1, &json!(3)));
}
