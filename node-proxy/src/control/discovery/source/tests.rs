//! A node that follows a control plane in this process, from the first response to the mesh.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Mutex};

use config::{
    discovery::{
        Resource,
        messages::{self, Facts, address},
    },
    name::{Namespace, PodName},
    store::{FileText, Store},
};
use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::control::discovery::{
    client::{Introduction, Server},
    testing::{Conversation, PATIENCE, Plane, Socket, response},
};

mod gate;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, annotations: {canopy.mesh/netns: /run/netns/a}}
spec: {containers: [{name: a}]}
status: {podIPs: [{ip: 10.0.0.1}]}
";
const SERVICE: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
";

/// The node's own files, as a test says.
#[derive(Debug)]
struct Texts(Mutex<Receiver<Outcome>>);

impl ConfigSource for Texts {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        self.0.get_mut().unwrap().recv_timeout(patience).ok()
    }
}

fn outcome(text: &str) -> Outcome {
    let files = BTreeMap::from([(Path::new("a.yaml").to_owned(), FileText::from(text))]);
    Store::new(Options::default()).apply(&files)
}

struct Setup {
    plane: Plane,
    source: DiscoverySource,
    files: mpsc::Sender<Outcome>,
    directory: TempDir,
}

fn start(
    directory: &Path,
    change: impl FnOnce(&mut client::Options),
) -> (DiscoverySource, mpsc::Sender<Outcome>) {
    let mut options = client::Options {
        server: Server::Unix(directory.join("control.sock")),
        tls: Arc::default(),
        token: None,
        introduction: Introduction {
            node: "node-1".to_owned(),
            addresses: Vec::new(),
            pod: PodName::new("mesh".try_into().unwrap(), "canopy".try_into().unwrap()),
            cluster: "east".to_owned(),
            domain: "cluster.local".try_into().unwrap(),
            network: String::new(),
        },
        on_demand: None,
        cache: Some(directory.join("cache")),
        trust_domain: "cluster.local".to_owned(),
    };
    change(&mut options);
    let (files, texts) = mpsc::channel();
    let texts = Box::new(Texts(Mutex::new(texts)));
    let domain = "cluster.local".try_into().unwrap();
    (DiscoverySource::start(options, texts, Options::default(), domain).unwrap(), files)
}

impl Setup {
    fn new(change: impl FnOnce(&mut client::Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plane = Plane::start(Socket::Unix(&directory.path().join("control.sock")));
        let (source, files) = start(directory.path(), change);
        files.send(outcome(POD)).unwrap();
        Self { plane, source, files, directory }
    }

    /// With all that is needed to serve.
    fn serving() -> (Self, Conversation) {
        let mut setup = Self::new(|_| {});
        let stream = setup.plane.accept();
        stream.opened();
        for kind in Kind::ALL {
            stream.say(response(kind, "first", &[], &[]));
        }
        next(&mut setup.source);
        (setup, stream)
    }
}

/// The next outcome.
fn next(source: &mut DiscoverySource) -> Outcome {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(outcome) = source.next(Duration::from_millis(50)) {
            return outcome;
        }
    }
    panic!("an outcome");
}

/// That there is none for a while.
fn is_quiet(source: &mut DiscoverySource) -> bool {
    (0..4).all(|_| source.next(Duration::from_millis(50)).is_none())
}

fn pod(name: &str, ip: [u8; 4]) -> Resource {
    let workload = messages::Workload {
        uid: format!("east//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![ip.to_vec()],
        node: "node-1".to_owned(),
        ..messages::Workload::default()
    };
    let [a, b, c, d] = ip;
    Resource {
        name: workload.uid.clone(),
        aliases: vec![format!("/{a}.{b}.{c}.{d}")],
        version: "1".to_owned(),
        body: messages::Address { r#type: Some(address::Type::Workload(workload)) }.encode_to_vec(),
    }
}

fn broken(name: &str) -> Resource {
    let body = Facts { json: "{".to_owned() }.encode_to_vec();
    Resource { name: name.to_owned(), aliases: Vec::new(), version: "1".to_owned(), body }
}

fn name(pod: &str) -> PodName {
    PodName::new(Namespace::try_from("shop").unwrap(), pod.try_into().unwrap())
}

#[test]
fn nothing_is_served_before_the_control_plane_has_said_what_there_is() {
    let mut setup = Setup::new(|options| options.cache = None);
    let stream = setup.plane.accept();
    stream.opened();
    stream.say(response(Kind::Address, "n", &[pod("a", [10, 0, 0, 1])], &[]));
    for kind in Kind::ALL.into_iter().filter(|kind| ![Kind::Address, Kind::Route].contains(kind)) {
        stream.say(response(kind, "n", &[], &[]));
    }
    assert!(is_quiet(&mut setup.source));
    let said = setup.source.standing().to_json(std::time::SystemTime::now());
    assert_eq!((&said["serving"], &said["waitsFor"]), (&false.into(), &serde_json::json!(["Route"])));
    stream.say(response(Kind::Route, "n", &[], &[]));
    let outcome = next(&mut setup.source);
    assert_eq!(outcome.mesh.workloads[&name("a")].netns.as_deref(), Some(Path::new("/run/netns/a")));
    assert_eq!((outcome.files, outcome.objects, outcome.accepted), (1, 1, 1));
    let said = setup.source.standing().to_json(std::time::SystemTime::now());
    assert_eq!((&said["serving"], &said["waitsFor"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn nothing_is_served_before_the_nodes_own_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start(Socket::Unix(&directory.path().join("control.sock")));
    let (mut source, files) = start(directory.path(), |_| {});
    let stream = plane.accept();
    stream.opened();
    for kind in Kind::ALL {
        stream.say(response(kind, "n", &[], &[]));
    }
    assert!(is_quiet(&mut source));
    files.send(outcome(POD)).unwrap();
    let outcome = next(&mut source);
    assert!(outcome.mesh.workloads.is_empty());
    assert!(outcome.rejected.netns.contains(Path::new("/run/netns/a")), "a pod that nobody tells of is held");
}

#[test]
fn a_change_is_taken_in_at_once_and_what_changes_nothing_is_no_news() {
    let (mut setup, stream) = Setup::serving();
    let began = Instant::now();
    stream.say(response(Kind::Address, "n1", &[pod("a", [10, 0, 0, 1])], &[]));
    let outcome = next(&mut setup.source);
    assert!(began.elapsed() < Duration::from_millis(45), "{:?}: no edit is waited for", began.elapsed());
    assert!(outcome.mesh.workloads.contains_key(&name("a")));
    stream.say(response(Kind::Address, "n2", &[pod("a", [10, 0, 0, 1])], &["nobody"]));
    assert!(is_quiet(&mut setup.source));
    stream.say(response(Kind::Address, "n3", &[], &["east//Pod/shop/a"]));
    assert!(next(&mut setup.source).mesh.workloads.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused_alone() {
    let (mut setup, stream) = Setup::serving();
    for _ in Kind::ALL {
        stream.asked();
    }
    stream.say(response(Kind::Route, "n1", &[broken("HTTPRoute/shop/r")], &[]));
    stream.say(response(Kind::Address, "n2", &[pod("a", [10, 0, 0, 1])], &[]));
    let outcome = next(&mut setup.source);
    let error = stream.asked().error.unwrap();
    assert!(error.code == 3 && error.message.starts_with("HTTPRoute/shop/r: "), "{error:?}");
    assert!(
        outcome.findings.iter().any(|finding| finding.message.contains("JSON")),
        "{:?}",
        outcome.findings
    );
    let is_there = |outcome: &Outcome| outcome.mesh.workloads.contains_key(&name("a"));
    assert!(is_there(&outcome) || is_there(&next(&mut setup.source)));
    assert_eq!(stream.asked().error, None);
}

#[test]
fn of_the_nodes_files_pods_alone_count_and_all_else_is_named() {
    let (mut setup, stream) = Setup::serving();
    stream.say(response(Kind::Address, "n1", &[pod("a", [10, 0, 0, 1])], &[]));
    next(&mut setup.source);
    setup.files.send(outcome(&format!("{POD}{SERVICE}"))).unwrap();
    let outcome = next(&mut setup.source);
    assert!(outcome.mesh.services.is_empty());
    let said: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
    let expected = "a.yaml:7:1: warning: Service shop/cart: not read: with --discovery";
    assert!(said.iter().any(|said| said.starts_with(expected)), "{said:?}");
    assert!(!said.iter().any(|said| said.contains("Pod shop/a: not read")), "{said:?}");
    setup.files.send(self::outcome("")).unwrap();
    let outcome = next(&mut setup.source);
    assert_eq!(outcome.mesh.workloads[&name("a")].netns, None, "it is not on this machine any more");
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
}

#[test]
fn a_node_that_starts_while_the_control_plane_is_away_serves_what_it_said_last() {
    let (mut setup, stream) = Setup::serving();
    stream.say(response(Kind::Authorization, "n1", &[broken("shop/only-web")], &[]));
    stream.say(response(Kind::Address, "n2", &[pod("a", [10, 0, 0, 1])], &[]));
    let mut before = next(&mut setup.source);
    while !before.mesh.workloads.contains_key(&name("a")) {
        before = next(&mut setup.source);
    }
    // The first answers, and those that say that these were taken in.
    for _ in 0..Kind::ALL.len() + 2 {
        stream.asked();
    }
    let Setup { plane, source, directory, .. } = setup;
    drop((plane, stream));
    let events = source.events;
    drop((source.client, source.files));
    // Until its threads have ended, which hold the cache.
    while events.recv_timeout(PATIENCE).is_ok() {}
    let (mut source, files) = start(directory.path(), |_| {});
    files.send(outcome(POD)).unwrap();
    let again = next(&mut source);
    assert_eq!(again.mesh.workloads, before.mesh.workloads);
    assert_eq!(again.mesh.authorization, before.mesh.authorization);
    assert!(
        !again.mesh.authorization.is_empty(),
        "what stands in for what cannot be read does so after a start, too"
    );
    assert_eq!(again.findings, before.findings);
    drop((source, files));
}

#[test]
fn a_cache_that_was_never_complete_is_not_served_from() {
    let mut setup = Setup::new(|_| {});
    let stream = setup.plane.accept();
    stream.opened();
    stream.say(response(Kind::Address, "n1", &[pod("a", [10, 0, 0, 1])], &[]));
    assert!(is_quiet(&mut setup.source));
    stream.asked();
    let Setup { plane, source, directory, .. } = setup;
    drop((plane, stream));
    let events = source.events;
    drop((source.client, source.files));
    while events.recv_timeout(PATIENCE).is_ok() {}
    let (mut source, files) = start(directory.path(), |_| {});
    files.send(outcome(POD)).unwrap();
    assert!(is_quiet(&mut source));
}

#[test]
fn an_address_is_present_when_the_mesh_that_has_it_is_in_force() {
    let mut setup = Setup::new(|options| options.on_demand = Some(9));
    let demand = setup.source.demand().unwrap();
    let stream = setup.plane.accept();
    stream.opened();
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_on_demand()) {
        stream.say(response(kind, "n", &[], &[]));
    }
    next(&mut setup.source);
    let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
    let mut answered = demand.answered();
    for last in [1, 2, 3] {
        assert_eq!(demand.want(ip(last)), Answer::Asked);
    }
    let refused = Resource { aliases: vec!["/10.0.0.3".to_owned()], ..broken("east//Pod/shop/c") };
    stream.say(response(Kind::Address, "n", &[pod("a", [10, 0, 0, 1]), refused], &["/10.0.0.2"]));
    let outcome = next(&mut setup.source);
    assert!(outcome.mesh.workloads.contains_key(&name("a")));
    assert_eq!(demand.want(ip(1)), Answer::Asked, "it is not compiled yet");
    assert!(!answered.has_changed().unwrap());
    assert!(setup.source.next(Duration::ZERO).is_none());
    assert!(answered.has_changed().unwrap());
    answered.mark_unchanged();
    let answers = [1, 2, 3].map(|last| demand.want(ip(last)));
    assert_eq!(answers, [Answer::Present, Answer::Absent, Answer::Refused]);
    stream.say(response(Kind::Address, "n", &[], &["/10.0.0.2"]));
    assert!(is_quiet(&mut setup.source));
    assert!(answered.has_changed().unwrap(), "what changes nothing of the mesh is in force at once");
}

#[test]
fn a_control_plane_that_knows_istios_types_alone_is_served_from_after_a_while() {
    let now = Instant::now();
    let mut progress = Progress::new(Kind::ALL.into(), now);
    progress.answered(Kind::Address, now);
    assert!(!progress.look(now + 2 * SILENCE, true), "its policies are missing");
    progress.answered(Kind::Authorization, now);
    assert!(!progress.look(now + SILENCE / 2, true));
    assert!(progress.look(now + SILENCE, true) && progress.is_serving);
    let mut progress = Progress::new(Kind::ALL.into(), now);
    for kind in [Kind::Address, Kind::Authorization, Kind::Tenant] {
        progress.answered(kind, now);
    }
    assert!(!progress.look(now + 100 * SILENCE, true), "one that knows any of ours knows all");
    assert!(
        !Progress::new(Kind::ALL.into(), now).look(now + 100 * SILENCE, true),
        "nor one that was never there"
    );
}
