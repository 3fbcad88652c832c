//! Tunnels shared with Envoy, in both directions, when there is much to carry and when one end has to go: more than every window
//! holds, to a receiver that pauses until nothing moves any more; and a GOAWAY of either end while a stream lives.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use e2e::{Envoy, Listener, Shown, Stage, byte, dial, eventually, foreign, local, port};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{Daemon, KitError, Outcome, Pod, pki::Authority};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A caller, whom it calls through a tunnel, and Envoy at one end of it.
struct Scene {
    client: Pod,
    ledger: Pod,
    app: App,
    /// What the caller's app dials.
    to: SocketAddr,
    authority: Authority,
    // Before the node that it stands on.
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreigner {
    /// The caller's: it originates, we terminate.
    Caller,
    /// The other's: we originate, it terminates.
    Called,
}

impl Scene {
    /// The scene, and its daemon and its Envoy.
    fn new(foreigner: Foreigner, arguments: &[&str]) -> Fallible<(Self, Daemon, Envoy)> {
        let (stage, authority) = (Stage::new()?, Authority::new()?);
        let raw = [port("tcp-raw", 7000)];
        let (client, ledger) = match foreigner {
            Foreigner::Caller => (stage.node.pod("shop", "client")?, stage.pod("bank", "ledger", &raw)?),
            Foreigner::Called => (stage.pod("shop", "client", &[])?, stage.node.pod("bank", "ledger")?),
        };
        let [callers, calleds] =
            [("shop", "client"), ("bank", "ledger")].map(|(space, account)| authority.issue(space, account));
        let (callers, calleds): (PathBuf, PathBuf) = (callers?, calleds?);
        let at = ledger.at(7000);
        let (app, to, envoy) = match foreigner {
            Foreigner::Caller => {
                foreign(&stage, &client)?;
                let envoy = Envoy::originating(&client, &[(9000, Shown::of(&callers))], at)?;
                (App::start(&ledger, at)?, local(9000), envoy)
            }
            Foreigner::Called => {
                foreign(&stage, &ledger)?;
                let envoy = Envoy::terminating(&ledger, Shown::of(&calleds), None)?;
                (App::start(&ledger, local(7000))?, at, envoy)
            }
        };
        stage.service(("bank", "ledger"), 10, &raw, &[&ledger])?;
        let scene = Self { client, ledger, app, to, authority, stage };
        let daemon = scene.daemon(arguments)?;
        Ok((scene, daemon, envoy))
    }

    fn daemon(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        let certificates = self.authority.path().display().to_string();
        self.stage.daemon_with(&[&["--ca", "files", "--certificates", &certificates], arguments].concat())
    }

    /// A new connection, which says what it wants and has been heard.
    fn call(&self, wish: u8) -> Fallible<TcpStream> {
        let mut made = None;
        eventually("it is heard", || {
            made = dial(&self.client, self.to).and_then(|stream| greeted(stream, wish)).ok();
            made.is_some()
        })?;
        made.ok_or_else(|| "it was not".into())
    }

    /// As [`Scene::call`], but at the first try.
    fn call_once(&self, wish: u8) -> Fallible<TcpStream> {
        Ok(greeted(dial(&self.client, self.to)?, wish)?)
    }
}

fn greeted(mut stream: TcpStream, wish: u8) -> io::Result<TcpStream> {
    stream.write_all(&[wish])?;
    let mut heard = [0];
    stream.read_exact(&mut heard)?;
    if wish == DOWN {
        // An Envoy whose app ends first resets the stream, and what it still has to send of it is lost: 3 MB of 151 were.
        stream.shutdown(Shutdown::Write)?;
    }
    if heard[0] == wish { Ok(stream) } else { Err(ErrorKind::InvalidData.into()) }
}

/// What a connection may wish for.
const DOWN: u8 = b'd';
const UP: u8 = b'u';
const ECHO: u8 = b'e';

/// What runs in the called pod. It repeats the wish, so that its caller knows that it was heard.
struct App {
    /// What it has sent of a download.
    sent: Arc<AtomicU64>,
    /// Whether it may go on reading what is uploaded.
    may_read: Arc<AtomicBool>,
    _listener: Listener,
}

impl App {
    fn start(pod: &Pod, at: SocketAddr) -> Result<Self, KitError> {
        let (sent, may_read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, gate) = (Arc::clone(&sent), Arc::clone(&may_read));
        let listener = Listener::start(pod, at, move |mut stream| {
            let mut wish = [0];
            stream.read_exact(&mut wish)?;
            stream.write_all(&wish)?;
            match wish[0] {
                DOWN => {
                    pour(&mut stream, &count)?;
                    stream.shutdown(Shutdown::Write)?;
                    byte(&stream).map(drop)
                }
                UP => {
                    let whole = swallow(&mut stream, || {
                        while !gate.load(Relaxed) {
                            thread::sleep(Duration::from_millis(10));
                        }
                        Ok(())
                    });
                    stream
                        .write_all(whole.map_or_else(|error| error.to_string(), |()| WHOLE.into()).as_bytes())
                }
                _ => io::copy(&mut stream.try_clone()?, &mut stream).map(drop),
            }
        })?;
        Ok(Self { sent, may_read, _listener: listener })
    }
}

/// Bytes that do not repeat within any frame or window, so that what is lost, doubled or out of order does not pass.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..PERIOD).map(next).collect()
}

/// Sends all, and counts what the system has taken.
fn pour(stream: &mut TcpStream, sent: &AtomicU64) -> io::Result<()> {
    let noise = noise();
    let mut at = 0;
    while at < TOTAL {
        let piece = &noise[at % PERIOD..];
        let piece = &piece[..piece.len().min(PIECE).min(TOTAL - at)];
        stream.write_all(piece)?;
        at += piece.len();
        sent.store(at as u64, Relaxed);
    }
    Ok(())
}

/// Reads all to the end, and pauses once in the middle; an error, if it is not what was sent.
fn swallow(stream: &mut TcpStream, pause: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (noise, mut at, mut buffer) = (noise(), 0, vec![0; PIECE]);
    let mut pause = Some(pause);
    loop {
        let room = PIECE.min(PERIOD - at % PERIOD);
        let read = stream
            .read(&mut buffer[..room])
            .map_err(|error| io::Error::other(format!("after {at} of {TOTAL}: {error}")))?;
        if read == 0 {
            break;
        }
        if buffer[..read] != noise[at % PERIOD..][..read] {
            return Err(io::Error::other(format!("other bytes than were sent, after {at}")));
        }
        at += read;
        if at >= TOTAL / 4
            && let Some(pause) = pause.take()
        {
            pause()?;
        }
    }
    if at == TOTAL { Ok(()) } else { Err(io::Error::other(format!("{at} bytes of {TOTAL}"))) }
}

/// Waits until a sender can send no more, and says how much it had sent.
fn comes_to_rest(sent: &AtomicU64) -> io::Result<u64> {
    let (mut last, mut quiet) = (0, 0);
    for _ in 0..600 {
        let now = sent.load(Relaxed);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        if quiet == 20 {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::other("the sender is never stopped"))
}

fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"said")?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    if &heard == b"said" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Says its last, and hears all that was still to come.
fn ends_whole(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"last")?;
    stream.shutdown(Shutdown::Write)?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    if rest == "last" { Ok(()) } else { Err(io::Error::other(rest)) }
}

fn tunnels(daemon: &Daemon) -> f64 {
    daemon.metric("canopy_hbone_tunnels_open", &[]).unwrap_or(f64::NAN)
}

/// Whatever goes wrong with a stream has a reason in its line.
fn assert_nothing_failed(daemon: &Daemon) {
    let failed: Vec<_> =
        daemon.access_log().into_iter().filter(|line| line["reason"] != Value::Null).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn more_than_every_window_comes_through_whole_to_a_receiver_that_pauses() -> Outcome {
    for foreigner in [Foreigner::Called, Foreigner::Caller] {
        let (scene, daemon, _envoy) = Scene::new(foreigner, &[])?;
        let mut beside = scene.call(ECHO)?;
        echoes(&mut beside)?;
        let stopped = |sent: &AtomicU64, beside: &mut TcpStream| {
            let sent = comes_to_rest(sent)?;
            assert!(sent < TOTAL as u64, "{foreigner:?}: nothing stopped the sender");
            assert!(
                sent > (TOTAL / 4) as u64 + WINDOW,
                "{foreigner:?}: stopped at {sent}, before a window was full"
            );
            // Streams of one tunnel do not wait for each other.
            (0..10).try_for_each(|_| echoes(beside))
        };
        let mut down = scene.call(DOWN)?;
        swallow(&mut down, || stopped(&scene.app.sent, &mut beside))
            .map_err(|error| format!("{foreigner:?}: {error}"))?;
        drop(down);

        let (mut up, sent) = (scene.call(UP)?, AtomicU64::new(0));
        thread::scope(|scope| -> io::Result<()> {
            let mut from = up.try_clone()?;
            let sent = &sent;
            let sender = scope.spawn(move || {
                let poured = pour(&mut from, sent);
                from.shutdown(Shutdown::Write).and(poured)
            });
            let seen = stopped(sent, &mut beside);
            scene.app.may_read.store(true, Relaxed);
            let poured = sender.join().map_err(|_| io::Error::other("it panicked"))?;
            seen.and(poured)
        })?;
        let mut said = String::new();
        up.read_to_string(&mut said)?;
        assert_eq!(said, WHOLE, "{foreigner:?}");
        assert_eq!(tunnels(&daemon), 1.0, "{foreigner:?}: all of it went through one tunnel");
        ends_whole(beside)?;
        assert_nothing_failed(&daemon);
    }
    Ok(())
}

#[test]
fn an_envoy_that_drains_keeps_our_streams_and_new_ones_find_another_tunnel() -> Outcome {
    let (scene, daemon, _envoy) = Scene::new(Foreigner::Called, &[])?;
    let mut lives = scene.call(ECHO)?;
    ends_whole(scene.call_once(ECHO)?)?;
    assert_eq!(tunnels(&daemon), 1.0, "they share a tunnel");
    Envoy::admin(&scene.ledger, "/drain_listeners?graceful&skip_exit")?;
    // Envoy says that it goes with its next answer: the next connection may still be of the old tunnel.
    let mut others = Vec::new();
    eventually("a further tunnel is made", || {
        others.push(scene.call_once(ECHO));
        tunnels(&daemon) > 1.0
    })?;
    for other in others {
        let mut other = other?;
        echoes(&mut other)?;
        echoes(&mut lives)?;
        ends_whole(other)?;
    }
    ends_whole(lives)?;
    eventually("both tunnels are gone", || tunnels(&daemon) == 0.0)?;
    assert_nothing_failed(&daemon);
    Ok(())
}

#[test]
fn an_envoy_whose_tunnel_we_end_keeps_none_and_loses_no_connection() -> Outcome {
    // Twice as long as this one is kept here.
    let (scene, daemon, _envoy) = Scene::new(Foreigner::Caller, &["--tunnel-idle", "1"])?;
    ends_whole(scene.call(ECHO)?)?;
    for _ in 0..2 {
        eventually("it was unused for long enough", || tunnels(&daemon) == 0.0)?;
        let mut again = scene.call_once(ECHO)?;
        echoes(&mut again)?;
        ends_whole(again)?;
    }
    assert_nothing_failed(&daemon);
    Ok(())
}

#[test]
fn a_daemon_that_drains_finishes_what_it_shares_with_envoy_in_either_direction() -> Outcome {
    for foreigner in [Foreigner::Called, Foreigner::Caller] {
        let (scene, mut daemon, _envoy) = Scene::new(foreigner, &["--drain", "120"])?;
        let (mut lives, mut down) = (scene.call(ECHO)?, scene.call(DOWN)?);
        // In the middle of it.
        swallow(&mut down, || {
            daemon.process().signal(Signal::TERM);
            eventually("it drains", || daemon.output().contains("draining")).map_err(io::Error::other)?;
            echoes(&mut lives)
        })?;
        if foreigner == Foreigner::Caller {
            let told = || Envoy::stat(&scene.client, "cluster.tunnel-9000.upstream_cx_close_notify");
            eventually("Envoy was told", || told().is_ok_and(|told| told > 0))?;
        }
        echoes(&mut lives)?;
        ends_whole(lives)?;
        drop(down);
        let ended = daemon.process().wait(Duration::from_secs(60));
        assert!(
            ended.is_some_and(|status| status.success()),
            "{foreigner:?}: {ended:?}, {}",
            daemon.output()
        );
        assert_nothing_failed(&daemon);
        let released = daemon.release()?;
        assert!(released.status.success(), "{released:?}");
    }
    Ok(())
}

const WHOLE: &str = "whole";
/// More than a connection's window, which is the largest of all.
const TOTAL: usize = 144 << 20;
/// The least of a stream's windows on the way.
const WINDOW: u64 = 1 << 20;
const PIECE: usize = 64 << 10;
/// Prime.
const PERIOD: usize = 1_048_583;
