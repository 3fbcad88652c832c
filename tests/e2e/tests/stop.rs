//! A stop opens nothing that a policy forbids, however long nobody runs; what is permitted works again after the next
//! start; and whoever uninstalls can let go. By either way of steering.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Vip, built, dial, eventually, files_of, port, rules_of};
use rustix::process::Signal;
use testkit::{Daemon, KitError, Netns, Options, Outcome, Pod, http};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const WAYS: [&str; 2] = ["ebpf", "iptables"];
/// A port that is left to the application itself, and that takes plaintext.
const EXCLUDED: u16 = 9090;
/// More than a busy machine needs, and less than a drain may take by default: one that hangs is seen.
const PATIENCE: Duration = Duration::from_secs(25);
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: peers, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, \
    portLevelMtls: {'9090': {mode: PERMISSIVE}}}\n";

/// A pod that takes plaintext at that port alone, one of another tenant that it calls, and somebody who is not in the mesh.
struct Scene {
    _apps: [Listener; 2],
    _origin: Origin,
    web: Pod,
    peer: Pod,
    stranger: Pod,
    vip: Vip,
    heard: Arc<AtomicUsize>,
    before: [BTreeSet<String>; 2],
    way: &'static str,
    instance: String,
    stage: Stage,
}

impl Scene {
    fn new(way: &'static str) -> Fallible<Self> {
        let stage = Stage::new()?;
        let (web, peer) = (stage.pod("shop", "web", &[HTTP])?, stage.pod("bank", "peer", &[HTTP])?);
        let text = stage.manifests.read("shop-web-pod.yaml")?;
        let text = text.replacen("  name: web\n", "  name: web\n  labels: {app: web}\n", 1);
        let excluded = format!("annotations: {{canopy.mesh/exclude-inbound-ports: \"{EXCLUDED}\", ");
        stage.manifests.write("shop-web-pod.yaml", &text.replacen("annotations: {", &excluded, 1))?;
        stage.manifests.write("policy.yaml", STRICT)?;
        let vip = stage.service(("bank", "peer"), 10, &[HTTP], &[&peer])?;
        let stranger = stage.node.pod("away", "stranger")?;
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = Arc::clone(&heard);
        let answer = move |mut stream: TcpStream| {
            hears.fetch_add(1, Relaxed);
            let _asked = stream.read(&mut [0; 256])?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        };
        let apps = [
            Listener::start(&web, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80), answer)?,
            Listener::echo(&web, web.at(EXCLUDED))?,
        ];
        let origin = Origin::start(&peer, 80)?;
        let before = [rules_of(&web)?, rules_of(&peer)?];
        static SO_FAR: AtomicU32 = AtomicU32::new(0);
        let instance = format!("kit-{}-stop{}", std::process::id(), SO_FAR.fetch_add(1, Relaxed));
        Ok(Self {
            _apps: apps,
            _origin: origin,
            web,
            peer,
            stranger,
            vip,
            heard,
            before,
            way,
            instance,
            stage,
        })
    }

    fn daemon(&self, on_stop: &str) -> Fallible<Daemon> {
        let arguments = vec!["--on-stop".to_owned(), on_stop.to_owned()];
        let (redirect, instance) = (self.way.to_owned(), Some(self.instance.clone()));
        let options = Options { redirect, arguments, instance, ..Options::default() };
        Ok(Daemon::start_with(&self.stage.node, self.stage.manifests.path(), &options)?)
    }

    /// Whether the protected application answers.
    fn answers(&self, from: &Netns, to: SocketAddr) -> bool {
        from.run(|| is_answered(to)).unwrap_or(false)
    }

    fn strangers(&self) -> [&Netns; 2] {
        [self.stranger.netns(), self.stage.node.netns()]
    }

    /// Nobody who is not in the mesh is heard, in either family.
    fn assert_closed(&self, when: &str) {
        for from in self.strangers() {
            for to in [self.web.at(80), self.web.at_v6(80)] {
                assert!(!self.answers(from, to), "{}, {when}: {to}", self.way);
            }
        }
        assert_eq!(self.heard.load(Relaxed), 0, "{}, {when}", self.way);
    }

    /// What is permitted works, in both directions.
    fn assert_served(&self, daemon: &Daemon) {
        assert!(self.answers(self.peer.netns(), self.web.at(80)), "{}: {}", self.way, daemon.output());
        self.heard.store(0, Relaxed);
        let called = http::get(&self.web, self.vip.at(80), "peer", "/").map(|answer| answer.status);
        assert!(called.as_ref().is_ok_and(|status| *status == 200), "{}: {called:?}", self.way);
    }

    fn release(&self) -> Fallible<(Option<i32>, String)> {
        let output =
            Command::new(built("canopy")).args(["release", "--instance", &self.instance]).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    }

    fn assert_nothing_left(&self) -> Outcome {
        assert_eq!(files_of(&self.instance), Vec::<std::path::PathBuf>::new(), "{}", self.way);
        assert_eq!([rules_of(&self.web)?, rules_of(&self.peer)?], self.before, "{}", self.way);
        for from in self.strangers() {
            assert!(self.answers(from, self.web.at(80)), "{}: as if there had been no daemon", self.way);
        }
        let direct = http::get(&self.web, self.peer.at(80), "peer", "/").map(|answer| answer.status);
        assert!(direct.as_ref().is_ok_and(|status| *status == 200), "{direct:?}");
        Ok(())
    }
}

fn is_answered(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) else { return false };
    let mut answer = [0; 12];
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && &answer == b"HTTP/1.1 200"
}

fn stop(daemon: &mut Daemon) {
    daemon.process().signal(Signal::TERM);
    let ended = daemon.process().wait(PATIENCE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
}

fn still_flows(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"still?")?;
    stream.read_exact(&mut [0; 6])
}

/// Says so when it is dropped, also by a failed assertion.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Tries without a pause, until told to end.
fn try_all_the_time(scene: &Scene, is_over: &AtomicBool) -> usize {
    let mut tries = 0;
    while !is_over.load(Relaxed) {
        assert!(!scene.answers(scene.stranger.netns(), scene.web.at(80)), "{}: a moment", scene.way);
        tries += 1;
    }
    tries
}

#[test]
fn a_restart_opens_nothing_for_a_moment_and_a_release_lets_go() -> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let mut daemon = scene.daemon("close")?;
        scene.assert_closed("before the stop");
        scene.assert_served(&daemon);
        let mut legitimate = dial(&scene.stranger, scene.web.at(EXCLUDED))?;
        still_flows(&mut legitimate)?;

        let is_over = AtomicBool::new(false);
        let next = thread::scope(|scope| {
            let over = Over(&is_over);
            let tries = scope.spawn(|| try_all_the_time(&scene, &is_over));
            let next = (|| {
                stop(&mut daemon);
                scene.assert_closed("while nobody runs");
                assert!(!scene.answers(scene.peer.netns(), scene.web.at(80)), "{way}: nor is a peer");
                let called = http::get(&scene.web, scene.vip.at(80), "peer", "/");
                assert!(called.is_err(), "{way}: {called:?}");
                still_flows(&mut legitimate)?;
                scene.daemon("close")
            })();
            drop(over);
            assert!(tries.join().map_err(|_| "somebody was answered")? > 0);
            next
        });
        let mut daemon = next?;
        scene.assert_closed("after the next start");
        scene.assert_served(&daemon);
        still_flows(&mut legitimate)
            .map_err(|error| format!("{way}: what an exception had let in: {error}"))?;

        let (code, said) = scene.release()?;
        assert!(code == Some(1) && said.contains(&scene.instance), "{way}, of a living one: {code:?} {said}");
        scene.assert_served(&daemon);
        stop(&mut daemon);
        scene.assert_closed("before the release");
        let (code, said) = scene.release()?;
        assert!(code == Some(0) && said.contains("let go of 2 pods"), "{way}: {code:?} {said}");
        scene.assert_nothing_left()?;
        let (code, said) = scene.release()?;
        assert!(code == Some(0) && said.contains("nothing to let go"), "{way}: {code:?} {said}");
    }
    Ok(())
}

#[test]
fn a_stop_that_opens_keeps_what_comes_from_whom_a_policy_protects() -> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let mut daemon = scene.daemon("open")?;
        scene.assert_served(&daemon);
        stop(&mut daemon);
        scene.assert_closed("while nobody runs");
        // What it begins goes its own way, and goes on when it is steered again; by iptables, connection tracking takes it
        // for new then.
        let mut begun = dial(&scene.web, scene.peer.at(80))?;
        let ask = b"GET / HTTP/1.1\r\nhost: peer\r\n\r\n";
        begun.write_all(ask)?;
        assert!(e2e::head(&mut begun)?.starts_with("HTTP/1.1 200 "));
        for from in scene.strangers() {
            assert!(from.run(|| is_answered(scene.peer.at(80)))?, "{way}: nothing protects that one");
        }
        let mut daemon = scene.daemon("open")?;
        scene.assert_closed("after the next start");
        scene.assert_served(&daemon);
        if way == "ebpf" {
            begun.write_all(ask)?;
            assert!(e2e::head(&mut begun)?.starts_with("HTTP/1.1 200 "), "{way}");
        }
        stop(&mut daemon);
        let (code, said) = scene.release()?;
        assert!(code == Some(0) && said.contains("let go of 1 pod that"), "{way}: {code:?} {said}");
        scene.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn while_it_drains_everybody_is_served_until_what_was_there_has_finished() -> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let echo = port("tcp-echo", 7000);
        scene.stage.manifests.pod(&scene.peer, &[HTTP, echo])?;
        let _echo = Listener::echo(&scene.peer, scene.peer.at(7000))?;
        let mut daemon = scene.daemon("close")?;
        let mut old = dial(&scene.web, scene.peer.at(7000))?;
        still_flows(&mut old)?;
        daemon.process().signal(Signal::TERM);
        eventually("it drains", || daemon.output().contains("draining"))?;
        thread::sleep(Duration::from_millis(300));
        scene.assert_served(&daemon);
        scene.assert_closed("while it drains");
        still_flows(&mut old)?;
        drop(old);
        let ended = daemon.process().wait(PATIENCE);
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{way}: {}", daemon.output());
        scene.assert_closed("while nobody runs");
        assert_eq!(scene.release()?.0, Some(0));
        scene.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_pod_that_keeps_itself_from_being_planted_stays_closed_after_the_next_start_and_is_served_when_it_ceases()
-> Outcome {
    for way in WAYS {
        let scene = Scene::new(way)?;
        let mut daemon = scene.daemon("close")?;
        scene.assert_served(&daemon);
        stop(&mut daemon);
        // Whoever may administer the network of the pod.
        let address = format!("{}/64", scene.web.v6());
        let inside = |command: &[&str]| {
            let ip = scene.web.run(|| Command::new("ip").args(command).output())?;
            ip.map_err(|source| KitError::Start { what: command.join(" "), source })
        };
        assert!(inside(&["-6", "addr", "del", &address, "dev", "eth0"])?.status.success());
        let daemon = scene.daemon("close")?;
        eventually("it says why", || daemon.output().contains("is on no interface"))?;
        scene.assert_closed("although it could not be planted");
        let called = http::get(&scene.web, scene.vip.at(80), "peer", "/");
        assert!(called.is_err(), "{way}: nor does it get out: {called:?}");
        assert!(inside(&["-6", "addr", "add", &address, "dev", "eth0", "nodad"])?.status.success());
        eventually("it is planted", || scene.answers(scene.peer.netns(), scene.web.at(80)))?;
        scene.heard.store(0, Relaxed);
        scene.assert_served(&daemon);
        scene.assert_closed("and nobody else is heard");
    }
    Ok(())
}
