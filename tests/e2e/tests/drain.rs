//! What is under way when steering stops goes on for as long as it may: while the daemon drains, and when a single pod
//! leaves. What is new passes by. All of it by either way of steering.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Stage, Vip, byte, dial, eventually, files_of, head, is_reset, port, rules_of};
use rustix::process::Signal;
use testkit::{Daemon, Options, Outcome, Pod};
use tokio::time::Instant;

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);
const WAYS: [&str; 2] = ["ebpf", "iptables"];
/// Bytes and time between the pieces of a download.
const PIECE: usize = 1000;
const PAUSE: Duration = Duration::from_millis(100);
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(40);
/// A download that lasts longer than anything here waits.
const ENDLESS: usize = 1000;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A server, a client of its own tenant, whose connections go straight to it, and one of another, whose are handed over.
struct Scene {
    _apps: [Listener; 3],
    web: Pod,
    near: Pod,
    far: Pod,
    vip: Vip,
    before: Vec<BTreeSet<String>>,
    way: &'static str,
    instance: String,
    stage: Stage,
}

impl Scene {
    fn new(way: &'static str) -> Fallible<Self> {
        let stage = Stage::new()?;
        let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
        let web = stage.pod("shop", "web", &[HTTP, RAW])?;
        let vip = stage.service(("shop", "web"), 10, &[HTTP, RAW], &[&web])?;
        let apps = [
            Listener::start(&web, web.at(80), send_slowly)?,
            Listener::start(&web, web.at(7000), echo)?,
            Listener::start(&web, web.at(7001), |mut stream| write!(stream, "{}", stream.peer_addr()?))?,
        ];
        static SO_FAR: AtomicU32 = AtomicU32::new(0);
        let instance = format!("kit-{}-drain{}", std::process::id(), SO_FAR.fetch_add(1, Relaxed));
        let before = Vec::new();
        let mut scene = Self { _apps: apps, web, near, far, vip, before, way, instance, stage };
        scene.before = scene.rules()?;
        Ok(scene)
    }

    fn daemon(&self, drain: u32) -> Fallible<Daemon> {
        let arguments = vec!["--drain".to_owned(), drain.to_string()];
        let (redirect, instance) = (self.way.to_owned(), Some(self.instance.clone()));
        let options = Options { redirect, arguments, instance, ..Options::default() };
        Ok(Daemon::start_with(&self.stage.node, self.stage.manifests.path(), &options)?)
    }

    fn rules(&self) -> Fallible<Vec<BTreeSet<String>>> {
        Ok([&self.web, &self.near, &self.far].into_iter().map(rules_of).collect::<Result<_, _>>()?)
    }

    /// Soon, a connection from the node itself comes to the app as it is, and the daemon knows nothing of it.
    fn assert_passed_by(&self, daemon: &Daemon) -> Outcome {
        let told = || daemon.access_log().iter().filter(|line| line["dst.addr"] == self.who()).count();
        eventually("what is new passes by", || {
            let before = told();
            let is_itself = self.is_seen_as_itself().unwrap_or(false);
            thread::sleep(Duration::from_millis(300));
            is_itself && told() == before
        })
        .map_err(|error| format!("{}: {error}: {:?}", self.way, daemon.access_log()).into())
    }

    /// Whether the app sees the address of its caller, which is on the node.
    fn is_seen_as_itself(&self) -> Fallible<bool> {
        let to = self.web.at(7001);
        let mut stream = self.stage.node.netns().run(|| TcpStream::connect(to))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut peer = String::new();
        stream.read_to_string(&mut peer)?;
        Ok(peer == stream.local_addr()?.to_string())
    }

    fn who(&self) -> String {
        self.web.at(7001).to_string()
    }

    /// Takes a pod out of the configuration, and waits until it has no tree.
    fn remove(&self, name: &str, daemon: &Daemon) -> Outcome {
        if name == "web" {
            self.stage.service(("shop", "web"), 10, &[HTTP, RAW], &[])?;
        }
        self.stage.manifests.remove(&format!("shop-{name}-pod.yaml"))?;
        eventually("it has no tree", || {
            daemon.metric("canopy_forest_workloads", &[]).is_ok_and(|trees| trees == 2.0)
        })?;
        Ok(())
    }

    fn assert_ends_and_leaves_nothing(&self, daemon: &mut Daemon) -> Outcome {
        let ended = daemon.process().wait(PATIENCE);
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}: {}", self.way, daemon.output());
        assert_eq!(self.rules()?, self.before, "{}", self.way);
        assert_eq!(files_of(&self.instance), Vec::<PathBuf>::new(), "{}", self.way);
        Ok(())
    }
}

/// Sends back what it gets, however late it comes.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(None)?;
    let mut reading = stream.try_clone()?;
    std::io::copy(&mut reading, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}

/// Answers `GET /N` with N pieces, one by one.
fn send_slowly(mut stream: TcpStream) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    let path = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    let pieces = path.trim_start_matches('/').parse().map_err(std::io::Error::other)?;
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", pieces * PIECE)?;
    for _ in 0..pieces {
        stream.write_all(&[b'x'; PIECE])?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// What a client has under way: a download, and a connection on which nothing moves.
struct UnderWay {
    who: String,
    download: TcpStream,
    pieces: usize,
    idle: TcpStream,
}

impl UnderWay {
    fn begin(scene: &Scene, client: &Pod, pieces: usize) -> Fallible<Self> {
        let mut idle = dial(client, scene.vip.at(7000))?;
        exchange(&mut idle)?;
        let mut download = dial(client, scene.vip.at(80))?;
        write!(download, "GET /{pieces} HTTP/1.1\r\nhost: web\r\n\r\n")?;
        let head = head(&mut download)?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for stream in [&idle, &download] {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Self { who: client.name().to_owned(), download, pieces, idle })
    }

    fn of_all(scene: &Scene, pieces: usize) -> Fallible<[Self; 2]> {
        Ok([Self::begin(scene, &scene.near, pieces)?, Self::begin(scene, &scene.far, pieces)?])
    }

    /// The download to its end, then the other.
    fn finish(&mut self) -> Fallible<()> {
        let mut body = vec![0; self.pieces * PIECE];
        self.download.read_exact(&mut body).map_err(|error| format!("{}: {error}", self.who))?;
        assert!(body.iter().all(|byte| *byte == b'x'), "{}", self.who);
        exchange(&mut self.idle).map_err(|error| format!("{}: {error}", self.who))?;
        self.idle.shutdown(Shutdown::Write)?;
        assert_eq!(byte(&self.idle)?, 0, "{}: it ends in order", self.who);
        Ok(())
    }

    /// Both end before they are done, and look it.
    fn assert_cut(&mut self) {
        let end = byte(&self.idle);
        assert!(is_reset(&end), "{}: {end:?}", self.who);
        let mut body = Vec::new();
        let end = self.download.read_to_end(&mut body);
        let stalled = end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!stalled && body.len() < self.pieces * PIECE, "{}: {end:?}", self.who);
    }
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"still?")?;
    stream.read_exact(&mut [0; 6])
}

#[test]
fn a_drain_lets_everything_finish_that_is_under_way_while_what_is_new_passes_by() -> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let mut daemon = scene.daemon(120)?;
        let mut under_way = UnderWay::of_all(&scene, 35)?;
        let begun = Instant::now();
        daemon.process().signal(Signal::TERM);
        eventually("it drains", || daemon.output().contains("draining"))?;
        scene.assert_passed_by(&daemon)?;
        under_way.iter_mut().try_for_each(UnderWay::finish).map_err(|error| format!("{way}: {error}"))?;
        drop(under_way);
        scene.assert_ends_and_leaves_nothing(&mut daemon)?;
        assert!(begun.elapsed() < Duration::from_secs(90), "{way}: {:?}", begun.elapsed());
    }
    Ok(())
}

#[test]
fn a_pod_that_leaves_finishes_what_is_under_way_and_takes_its_steering_along() -> Outcome {
    for way in WAYS {
        for leaver in ["web", "near"] {
            let scene = Scene::new(way)?;
            let mut daemon = scene.daemon(20)?;
            // Of the five seconds that removed pods have, enough is left for a busy machine.
            let mut under_way = UnderWay::of_all(&scene, 20)?;
            scene.remove(leaver, &daemon)?;
            if leaver == "web" {
                scene.assert_passed_by(&daemon)?;
            }
            let finished = under_way.iter_mut().try_for_each(UnderWay::finish);
            finished.map_err(|error| format!("{way}, {leaver}: {error}"))?;
            drop(under_way);
            let nth = if leaver == "web" { 0 } else { 1 };
            eventually("nothing of it is left", || {
                scene.rules().is_ok_and(|rules| rules[nth] == scene.before[nth])
            })?;
            daemon.process().signal(Signal::TERM);
            scene.assert_ends_and_leaves_nothing(&mut daemon)?;
        }
    }
    Ok(())
}

#[test]
fn what_outlasts_its_time_is_cut_and_not_left_to_stall() -> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let mut daemon = scene.daemon(2)?;
        // Removed pods have a grace of five seconds.
        let mut under_way = UnderWay::of_all(&scene, ENDLESS)?;
        let begun = Instant::now();
        scene.remove("web", &daemon)?;
        under_way.iter_mut().for_each(UnderWay::assert_cut);
        assert!((4_500..30_000).contains(&begun.elapsed().as_millis()), "{way}: {:?}", begun.elapsed());
        eventually("nothing of it is left", || scene.rules().is_ok_and(|rules| rules[0] == scene.before[0]))?;

        scene.stage.manifests.pod(&scene.web, &[HTTP, RAW])?;
        scene.stage.service(("shop", "web"), 10, &[HTTP, RAW], &[&scene.web])?;
        eventually("it is back", || {
            daemon.metric("canopy_forest_workloads", &[]).is_ok_and(|trees| trees == 3.0)
        })?;
        let mut under_way = UnderWay::of_all(&scene, ENDLESS)?;
        let begun = Instant::now();
        daemon.process().signal(Signal::TERM);
        under_way.iter_mut().for_each(UnderWay::assert_cut);
        assert!((1_800..25_000).contains(&begun.elapsed().as_millis()), "{way}: {:?}", begun.elapsed());
        scene.assert_ends_and_leaves_nothing(&mut daemon)?;
    }
    Ok(())
}
