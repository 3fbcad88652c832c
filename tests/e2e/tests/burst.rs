//! Connections by the hundred thousand of a tenant that has all it may have, thousands of them under way at a time: each is refused
//! with a reason, in bounded memory, and another tenant does not notice. With `BURST=1000000` in the environment it is a million, which
//! takes minutes.

use std::{io, io::Read, net::SocketAddr, time::Duration};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, dial, eventually, forget_peak, narrow, peak, port};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use testkit::{Daemon, Options, Outcome, http};

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);

#[test]
fn a_burst_of_connections_at_a_tenant_s_bound_is_refused_with_a_reason_in_bounded_memory() -> Outcome {
    let (folder, stage) = (tempfile::tempdir()?, Stage::new()?);
    let (bad, good) = (stage.pod("bad", "flood", &[])?, stage.pod("good", "client", &[])?);
    let web = stage.pod("good", "web", &[HTTP, RAW])?;
    let vip = stage.service(("good", "web"), 10, &[HTTP, RAW], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let options = Options { binary: Some(narrow(&folder, 3_072)?), ..Options::default() };
    let daemon = Daemon::start_with(&stage.node, stage.manifests.path(), &options)?;
    // As many as the tenant may have, and more; to somewhere outside, so that they are nobody else's too.
    let sink = stage.node.pod("away", "sink")?;
    let _echo = Listener::echo(&sink, sink.at(7000))?;
    let held: Vec<_> = (0..600).filter_map(|_| dial(&bad, sink.at(7000)).ok()).collect();
    let victim = Traffic::start(&good, vip.at(80), "web")?;
    victim.next(20)?;

    let (at, burst) = (vip.at(80), burst());
    let before = forget_peak(&daemon)?;
    let waited = bad.run(|| held_wave(&daemon, at))??;
    assert_eq!(waited, WAVE, "all of them were there before the first was looked at");
    let storms: Vec<_> = (0..2).map(|_| bad.spawn(move || storm(at, burst / 2))).collect::<Result<_, _>>()?;
    for thread in storms {
        thread.join().map_err(|_| "a storm ended early")???;
    }
    let grown = peak(&daemon)?.saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more, at the most, than before {burst} connections");

    let labels = ["tenant=\"ns/bad\"", "reason=\"connection_limit\""];
    let refused = || daemon.metric("canopy_refused_total", &labels);
    eventually("all were refused", || refused().is_ok_and(|count| count >= burst as f64))?;
    // Not a line for each: what the log's writer does not keep up with is dropped, and counted.
    eventually("the log says why", || daemon.has_logged(&["\"tenant\":\"ns/bad\"", "\"connection_limit\""]))?;
    let meanwhile = victim.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    drop((held, victim));
    for client in [&bad, &good] {
        assert_eq!(http::get(client, at, "web", "/after")?.status, 200);
    }
    assert_eq!(daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
    Ok(())
}

/// A wave that is there before the daemon, which is held, has accepted any. How many had not ended by then.
fn held_wave(daemon: &Daemon, at: SocketAddr) -> io::Result<usize> {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    kill_process(pid, Signal::STOP)?;
    let begun = wave(at);
    let waiting = begun.as_ref().map(|wave| wave.iter().filter(|socket| is_open(socket)).count());
    kill_process(pid, Signal::CONT)?;
    let waiting = waiting.map_err(|error| io::Error::other(error.to_string()))?;
    begun?.iter().for_each(end);
    Ok(waiting)
}

/// So many connections, a wave after the other, each until all of it is reset.
fn storm(at: SocketAddr, count: usize) -> io::Result<()> {
    for _ in 0..count / WAVE {
        wave(at)?.iter().for_each(end);
    }
    Ok(())
}

/// Connections that are all begun before any is waited for.
fn wave(at: SocketAddr) -> io::Result<Vec<Socket>> {
    (0..WAVE).map(|_| begin(at)).collect()
}

fn begin(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Reset where it was not yet: a closed connection's port would be lost for a minute.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket.set_nonblocking(true)?;
    // Under way, made, or refused: all three are seen when it is read.
    let _under_way = socket.connect(&at.into());
    Ok(socket)
}

fn is_open(socket: &Socket) -> bool {
    matches!((&*socket).read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits until it is reset.
fn end(socket: &Socket) {
    let _waits = socket.set_nonblocking(false);
    let _reset = (&*socket).read(&mut [0; 1]);
}

fn burst() -> usize {
    std::env::var("BURST").ok().and_then(|text| text.parse().ok()).unwrap_or(BURST)
}

const BURST: usize = 200_000;
/// Two at a time are fewer than wait to be accepted at most, beyond which the kernel has clients try again seconds later.
const WAVE: usize = 1_000;
