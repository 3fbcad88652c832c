//! Over real sockets, with a registry of the tests' own.

use std::{
    path::Path,
    sync::{Mutex, atomic::AtomicU64, atomic::Ordering::Relaxed},
};

use config::{
    model::{Mesh, NamespaceFacts},
    opt_in::{MODE, Mode},
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::*;
use crate::forest::Enrolments;

/// Stands as it is told.
#[derive(Debug)]
struct Told {
    standing: Mutex<Standing>,
    mesh: Mutex<Arc<Mesh>>,
    changes: watch::Sender<Enrolments>,
    asked: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Told {
    fn set(&self, standing: Standing) {
        *self.standing.lock().unwrap() = standing;
        self.changes.send_modify(|enrolments| enrolments.version += 1);
    }
}

impl Registry for Told {
    fn standing(&self, pod: &PodName, uid: &str, netns: &Path) -> Standing {
        assert_eq!((pod.to_string().as_str(), uid, netns), ("shop/cart", "u", Path::new("/run/netns/x")));
        self.asked.fetch_add(1, Relaxed);
        self.standing.lock().unwrap().clone()
    }

    fn changes(&self) -> watch::Receiver<Enrolments> {
        self.changes.subscribe()
    }

    fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh.lock().unwrap())
    }

    fn refused(&self, pod: &PodName, uid: &str, why: &str) {
        self.refused.lock().unwrap().push(format!("{pod} {uid}: {why}"));
    }
}

struct World {
    told: Arc<Told>,
    places: Places,
    options: Options,
    _directory: TempDir,
    task: JoinHandle<()>,
}

impl World {
    fn start(standing: Standing) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            socket: directory.path().join("gate.sock"),
            cache: Some(directory.path().join("namespaces.json")),
        };
        let told = Arc::new(Told {
            standing: Mutex::new(standing),
            mesh: Mutex::default(),
            changes: watch::Sender::default(),
            asked: AtomicU64::new(0),
            refused: Mutex::default(),
        });
        let places = Places::default();
        let gate = Gate::open(&options).unwrap();
        let task = tokio::spawn(gate.serve(places.clone(), Arc::clone(&told) as Arc<_>));
        Self { told, places, options, _directory: directory, task }
    }

    async fn say(&self, request: &Request) -> Verdict {
        let mut stream = UnixStream::connect(&self.options.socket).await.unwrap();
        send(&mut stream, request).await.unwrap();
        let answer: Answer = timeout(Duration::from_secs(10), receive(&mut stream)).await.unwrap().unwrap();
        assert_eq!(answer.version, VERSION);
        answer.verdict
    }

    async fn ask(&self, ask: Ask) -> Verdict {
        self.say(&Request::new(ask)).await
    }
}

fn cart(patience_ms: u64) -> Attachment {
    Attachment {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        uid: "u".to_owned(),
        container: "c".to_owned(),
        netns: "/run/netns/x".into(),
        addresses: vec![[10, 0, 0, 1].into()],
        patience_ms,
    }
}

#[tokio::test]
async fn a_pod_is_told_of_at_once_and_passes_when_it_is_enrolled() {
    let world = World::start(Standing::Unknown);
    let mut changes = world.places.changes();
    let enrolling = async {
        changes.changed().await.unwrap();
        let sandbox = world.places.of("u").unwrap();
        assert_eq!((sandbox.netns.as_deref(), sandbox.addresses.len()), (Some(Path::new("/run/netns/x")), 1));
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.told.set(Standing::Waiting(None));
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.told.set(Standing::Enrolled);
    };
    let (verdict, ()) = tokio::join!(world.ask(Ask::Add(cart(60_000))), enrolling);
    assert_eq!(verdict, Verdict::Enrolled);
    assert_eq!(world.told.asked.load(Relaxed), 3, "it looks when something has changed");
}

#[tokio::test]
async fn a_pod_that_does_not_come_to_be_enrolled_in_time_is_answered_with_why() {
    for (standing, expected) in [
        (Standing::Unknown, "unknown: nobody has told"),
        (Standing::Waiting(None), "refused: shop/cart is not enrolled yet"),
        (
            Standing::Waiting(Some("no port is free".to_owned())),
            "refused: shop/cart is not enrolled: no port is free",
        ),
        (Standing::Outside("off".to_owned()), "outside: off"),
    ] {
        let world = World::start(standing);
        let said = match world.ask(Ask::Add(cart(30))).await {
            Verdict::Unknown { why } => format!("unknown: {why}"),
            Verdict::Refused { why } => format!("refused: {why}"),
            Verdict::Outside { why } => format!("outside: {why}"),
            other => format!("{other:?}"),
        };
        assert!(said.starts_with(expected), "{said}");
        let told = world.told.refused.lock().unwrap().clone();
        assert_eq!(told.len(), usize::from(!said.starts_with("outside")), "{said}: {told:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_sandbox_lets_it_go_and_so_does_a_list_without_it() {
    let world = World::start(Standing::Enrolled);
    for end in [Ask::Del { container: "c".to_owned() }, Ask::Gc { valid: vec!["d".to_owned()] }] {
        assert_eq!(world.ask(Ask::Add(cart(1000))).await, Verdict::Enrolled);
        assert!(world.places.of("u").is_some());
        assert_eq!(world.ask(end.clone()).await, Verdict::Done);
        assert!(world.places.of("u").is_none());
        // Twice is no failure.
        assert_eq!(world.ask(end).await, Verdict::Done);
    }
    assert_eq!(world.ask(Ask::Check(cart(0))).await, Verdict::Enrolled);
    assert!(world.places.of("u").is_none(), "a check tells of nothing");
}

#[tokio::test]
async fn what_is_no_pod_or_of_another_version_is_not_understood() {
    let world = World::start(Standing::Enrolled);
    let other = Request { version: VERSION + 1, ask: Ask::Add(cart(10)) };
    let bad = [
        other,
        Request::new(Ask::Add(Attachment { namespace: "Shop".to_owned(), ..cart(10) })),
        Request::new(Ask::Add(Attachment { netns: "x".into(), ..cart(10) })),
        Request::new(Ask::Check(Attachment { uid: String::new(), ..cart(10) })),
    ];
    for request in bad {
        let verdict = world.say(&request).await;
        assert!(matches!(verdict, Verdict::Misunderstood { .. }), "{request:?}: {verdict:?}");
    }
    assert!(world.places.all().is_empty());
}

#[tokio::test]
async fn who_hangs_up_is_waited_for_no_more() {
    let world = World::start(Standing::Unknown);
    let mut stream = UnixStream::connect(&world.options.socket).await.unwrap();
    send(&mut stream, &Request::new(Ask::Add(cart(60_000)))).await.unwrap();
    while world.told.changes.receiver_count() < 2 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let gone = async {
        while world.told.changes.receiver_count() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("nobody waits for it any more");
}

#[tokio::test]
async fn what_namespaces_say_is_kept_on_disk_as_it_changes() {
    let world = World::start(Standing::Unknown);
    let namespace = |mode: &str| {
        let name = Namespace::try_from("shop").unwrap();
        let labels = [(MODE.to_owned(), mode.to_owned())].into();
        let namespaces = [(name.clone(), Arc::new(NamespaceFacts { name, labels }))].into();
        Arc::new(Mesh { version: 1, namespaces, ..Mesh::default() })
    };
    let path = world.options.cache.clone().unwrap();
    for (label, expected) in [("node", Mode::Node), ("off", Mode::Off)] {
        *world.told.mesh.lock().unwrap() = namespace(label);
        world.told.changes.send_modify(|enrolments| enrolments.version += 1);
        let written = async {
            let is_so = || {
                let terms = cache::Namespaces::read(&path).ok().and_then(|read| read.terms("shop"));
                terms.is_some_and(|terms| terms.mode == Some(expected))
            };
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), written).await.unwrap_or_else(|_| panic!("{label}"));
    }
}

#[tokio::test]
async fn a_gate_that_is_no_longer_served_leaves_no_socket_and_another_answers_no_second_time() {
    let world = World::start(Standing::Unknown);
    tokio::task::yield_now().await;
    assert!(matches!(Gate::open(&world.options), Err(GateError::InUse { .. })));
    world.task.abort();
    let gone = async {
        while world.options.socket.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.unwrap();
    assert!(Gate::open(&world.options).is_ok());
}
