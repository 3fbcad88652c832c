//! Clients by the hundred that are slow, wordy or deaf: what they hold is bounded, each is given up with its reason, and nobody
//! else notices.

use std::{
    io,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, Vip, dial, eventually, forget_peak, peak, port, resident};
use serde_json::Value;
use socket2::SockRef;
use testkit::{Daemon, KitError, Outcome, Pod};
use tokio::time::Instant;

/// One tenant's clients, another's service and its client.
struct Scene {
    bad: Pod,
    web: Pod,
    vip: Vip,
    victim: Traffic,
    daemon: Daemon,
    _origin: Origin,
    _good: Pod,
    _stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let ports = [HTTP, port("tcp-raw", 7000), port("http-endless", 8080)];
        let (bad, good) = (stage.pod("bad", "flood", &[])?, stage.pod("good", "client", &[])?);
        let web = stage.pod("good", "web", &ports)?;
        let vip = stage.service(("good", "web"), 10, &ports, &[&web])?;
        let origin = Origin::start(&web, 80)?;
        let daemon = stage.daemon()?;
        let victim = Traffic::start(&good, vip.at(80), "web")?;
        victim.next(50)?;
        Ok(Self { bad, web, vip, victim, daemon, _origin: origin, _good: good, _stage: stage })
    }

    /// Lines of the bad tenant's clients that ended for this reason.
    fn said(&self, reason: &str) -> usize {
        let is_it = |line: &&Value| line["tenant"] == "ns/bad" && line["reason"] == reason;
        self.daemon.access_log().iter().filter(is_it).count()
    }

    fn counted(&self, reason: &str) -> f64 {
        let labels = ["tenant=\"ns/bad\"", &format!("reason=\"{reason}\"")];
        self.daemon.metric("canopy_refused_total", &labels).unwrap_or(f64::NAN)
    }

    fn wait_counted(&self, reason: &str, times: f64) -> Result<(), KitError> {
        let labels = ["tenant=\"ns/bad\"", &format!("reason=\"{reason}\"")];
        self.daemon.wait_metric("canopy_refused_total", &labels, times)
    }

    /// After all that, nothing of it is left, and the other tenant has noticed nothing.
    fn assert_well(self) -> Outcome {
        eventually("all are closed", || {
            let open = self.daemon.metric("canopy_accept_connections_open", &["tenant=\"ns/bad\""]);
            open.is_ok_and(|open| open == 0.0)
        })?;
        let meanwhile = self.victim.next(50)?;
        assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
        assert_eq!(self.daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
        Ok(())
    }
}

#[test]
fn heads_that_never_end_hold_no_more_than_a_head_may_have_and_are_answered_408() -> Outcome {
    let scene = Scene::new()?;
    let half = format!("GET / HTTP/1.1\r\nhost: web\r\nx-large: {}", "x".repeat(60 * 1024));
    let before = resident(&scene.daemon)?;
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = dial(&scene.bad, scene.vip.at(80))?;
        stream.write_all(half.as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        held.push(stream);
    }
    eventually("all of them are held at once", || {
        let open = scene.daemon.metric("canopy_accept_connections_open", &["tenant=\"ns/bad\""]);
        open.is_ok_and(|open| open == CLIENTS as f64)
    })?;
    let each = resident(&scene.daemon)?.saturating_sub(before) / CLIENTS as u64;
    // A head's 64 KiB, the growth of the buffer that holds it, and what a connection costs.
    assert!(each < 160 * 1024, "{each} bytes for each head that does not end");
    for stream in &mut held {
        let answer = e2e::head(stream)?;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("canopy-refused: head_timeout"),
            "{answer}"
        );
    }
    eventually("each has a line that says why", || scene.said("head_timeout") == CLIENTS)?;
    scene.wait_counted("head_timeout", CLIENTS as f64)?;
    scene.assert_well()
}

#[test]
fn heads_without_bound_are_cut_short_where_the_bound_is_and_answered_431() -> Outcome {
    let scene = Scene::new()?;
    let before = forget_peak(&scene.daemon)?;
    let at = scene.vip.at(80);
    let crowds = (0..8)
        .map(|_| scene.bad.spawn(move || (0..CLIENTS / 8).map(|_| wordy(at)).collect::<io::Result<Vec<_>>>()))
        .collect::<Result<Vec<_>, _>>()?;
    for crowd in crowds {
        for answer in crowd.join().map_err(|_| "a crowd panicked")??? {
            assert!(
                answer.starts_with("HTTP/1.1 431 ") && answer.contains("canopy-refused: head_too_large"),
                "{answer:?}"
            );
        }
    }
    let grown = peak(&scene.daemon)?.saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{grown} bytes, at the most, for {CLIENTS} heads of a megabyte, eight at a time"
    );
    eventually("each has a line that says why", || scene.said("head_too_large") == CLIENTS)?;
    scene.wait_counted("head_too_large", CLIENTS as f64)?;
    scene.assert_well()
}

/// A megabyte of head, or as much of it as is taken; and what is answered.
fn wordy(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n")?;
    let line = format!("x-large: {}\r\n", "x".repeat(16 * 1024));
    for _ in 0..64 {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    e2e::head(&mut stream)
}

#[test]
fn clients_that_never_read_are_given_up_with_a_reason_and_so_is_who_answers_them() -> Outcome {
    let scene = Scene::new()?;
    let broken = Arc::new(AtomicUsize::new(0));
    let (raw, web) = (Arc::clone(&broken), Arc::clone(&broken));
    let _raw = Listener::start(&scene.web, scene.web.at(7000), move |stream| {
        pour(stream, b"", &raw);
        Ok(())
    })?;
    let _endless = Listener::start(&scene.web, scene.web.at(8080), move |mut stream| {
        e2e::head(&mut stream)?;
        pour(stream, b"HTTP/1.1 200 OK\r\n\r\n", &web);
        Ok(())
    })?;
    let (mut deaf, begun) = (Vec::new(), Instant::now());
    for _ in 0..DEAF {
        deaf.push(dial(&scene.bad, scene.vip.at(7000))?);
        let mut stream = dial(&scene.bad, scene.vip.at(8080))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
        deaf.push(stream);
    }
    let twice = given_up_by_the_kernel(2 * UNACKNOWLEDGED)?;
    while scene.counted("client_closed") < 2.0 * DEAF as f64 && !twice.is_finished() {
        thread::sleep(Duration::from_millis(200));
    }
    let last = scene.daemon.access_log().pop();
    assert!(!twice.is_finished(), "not after the time that is documented, nor after twice that: {last:?}");
    assert!(begun.elapsed() >= UNACKNOWLEDGED - Duration::from_secs(5), "{:?}: {last:?}", begun.elapsed());
    eventually("each has a line that says why", || scene.said("client_closed") == 2 * DEAF)?;
    eventually("their servers were told", || broken.load(Relaxed) == 2 * DEAF)?;
    drop(deaf);
    scene.assert_well()
}

/// Writes as fast as it is taken, however slow that is, until the connection breaks.
fn pour(mut stream: TcpStream, first: &[u8], broken: &AtomicUsize) {
    let mut endless = || -> io::Result<()> {
        stream.set_write_timeout(None)?;
        stream.write_all(first)?;
        loop {
            stream.write_all(&[b'x'; 64 * 1024])?;
        }
    };
    if endless().is_err() {
        broken.fetch_add(1, Relaxed);
    }
}

/// A sender to somebody who never reads, who is given up after so long by the kernel of this machine, however slow that is. It
/// ends then.
fn given_up_by_the_kernel(after: Duration) -> io::Result<thread::JoinHandle<()>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let deaf = TcpStream::connect(listener.local_addr()?)?;
    let (mut stream, _) = listener.accept()?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(after))?;
    Ok(thread::spawn(move || {
        while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        drop(deaf);
    }))
}

/// So few that they are all there before the time of the first is over.
const CLIENTS: usize = 200;
const DEAF: usize = 4;
/// What the documentation says of data that nobody takes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
