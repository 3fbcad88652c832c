//! Against an agent of the tests' own, over a real socket with real descriptors.

use std::{os::fd::AsFd, sync::Mutex};

use config::{model::Mesh, name::PodName};
use rustix::net::{accept_with, bind, listen};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    super::Standing,
    wire::{Add, Del, Info, Payload, SnapshotSent},
    *,
};
use crate::forest::Enrolments;

#[derive(Debug)]
struct Told(Mutex<Standing>, watch::Sender<Enrolments>);

impl Registry for Told {
    fn standing(&self, pod: &PodName, uid: &str, netns: &Path) -> Standing {
        assert_eq!((pod.to_string().as_str(), uid), ("shop/cart", "u"));
        assert!(Netns::open(netns).unwrap().is_namespace(), "{}", netns.display());
        self.0.lock().unwrap().clone()
    }

    fn changes(&self) -> watch::Receiver<Enrolments> {
        self.1.subscribe()
    }

    fn mesh(&self) -> Arc<Mesh> {
        Arc::default()
    }

    fn refused(&self, _pod: &PodName, _uid: &str, _why: &str) {}
}

/// The agent's end.
struct Server {
    listener: std::os::fd::OwnedFd,
    path: PathBuf,
    _directory: TempDir,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ztunnel.sock");
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 4).unwrap();
        Self { listener, path, _directory: directory }
    }

    /// The proxy, when it has said who it is.
    async fn accept(&self) -> Packets {
        let listener = self.listener.try_clone().unwrap();
        let accept = move || accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
        let packets = Packets::new(tokio::task::spawn_blocking(accept).await.unwrap()).unwrap();
        let hello = packets.receive().await.unwrap().unwrap();
        assert_eq!(Hello::decode(hello.bytes.as_slice()).unwrap(), Hello { version: 1 });
        packets
    }
}

async fn say(packets: &Packets, payload: Payload, netns: Option<&Netns>) -> String {
    let request = Request { payload: Some(payload) };
    let descriptors: Vec<_> = netns.iter().map(|netns| netns.as_fd()).collect();
    packets.send(&request.encode_to_vec(), &descriptors).await.unwrap();
    let answer = packets.receive().await.unwrap().unwrap();
    Response::decode(answer.bytes.as_slice()).unwrap().ack.expect("an answer").error
}

fn cart() -> Payload {
    let info = Info { name: "cart".to_owned(), namespace: "shop".to_owned() };
    Payload::Add(Add { uid: "u".to_owned(), info: Some(info) })
}

#[tokio::test]
async fn a_pod_that_the_agent_hands_over_is_told_of_and_answered_when_it_is_enrolled_and_survives_the_agents_restart()
 {
    let (server, netns) = (Server::new(), Netns::current().unwrap());
    let told = Arc::new(Told(Mutex::new(Standing::Unknown), watch::Sender::default()));
    let places = Places::default();
    let following = tokio::spawn(follow(server.path.clone(), places.clone(), Arc::clone(&told) as Arc<_>));
    let packets = server.accept().await;
    let enrol = async {
        let mut changes = places.changes();
        while places.of("u").is_none() {
            changes.changed().await.unwrap();
        }
        *told.0.lock().unwrap() = Standing::Enrolled;
        told.1.send_modify(|enrolments| enrolments.version += 1);
    };
    let (error, ()) = tokio::join!(say(&packets, cart(), Some(&netns)), enrol);
    assert_eq!(error, "");
    let sandbox = places.of("u").unwrap();
    assert!(netns.is_at(sandbox.netns.as_deref().unwrap()), "the very namespace");
    assert_eq!(say(&packets, Payload::SnapshotSent(SnapshotSent {}), None).await, "");
    drop(packets);
    let packets = server.accept().await;
    assert!(places.of("u").is_some(), "while the agent was away");
    assert_eq!(say(&packets, cart(), Some(&netns)).await, "");
    assert_eq!(say(&packets, Payload::SnapshotSent(SnapshotSent {}), None).await, "");
    assert_eq!(places.of("u").unwrap(), sandbox);
    assert_eq!(say(&packets, Payload::Del(Del { uid: "u".to_owned() }), None).await, "");
    assert!(places.of("u").is_none());
    following.abort();
}

#[tokio::test]
async fn what_breaks_the_protocol_is_answered_with_why_and_dialled_anew() {
    let server = Server::new();
    let told = Arc::new(Told(Mutex::new(Standing::Enrolled), watch::Sender::default()));
    let following = tokio::spawn(follow(server.path.clone(), Places::default(), told));
    let packets = server.accept().await;
    assert!(say(&packets, cart(), None).await.contains("exactly one descriptor"));
    assert!(packets.receive().await.unwrap().is_none(), "it hangs up");
    let again = server.accept().await;
    assert_eq!(say(&again, Payload::SnapshotSent(SnapshotSent {}), None).await, "");
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_enrolled_in_time_is_answered_with_why_within_the_agents_patience() {
    let told = Arc::new(Told(Mutex::new(Standing::Waiting(None)), watch::Sender::default()));
    let places = Places::default();
    let mut agent = Agent { places: places.clone(), registry: told, state: State::default() };
    let step = agent.state.take(Some(cart()), vec![Netns::current().unwrap()]).unwrap();
    let begun = Instant::now();
    assert!(agent.go(step).await.contains("not enrolled yet"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(places.of("u").is_some(), "it is enrolled as soon as it can be");
}

#[test]
fn an_error_fits_into_what_the_agent_reads() {
    assert_eq!(short("x".repeat(2000)).len(), LONGEST_ERROR);
    assert!(short("é".repeat(2000)).len() <= LONGEST_ERROR);
    assert_eq!(short("short".to_owned()), "short");
}
