//! Whatever a peer sends or fails to do: an answer with a reason, bounded memory, no panic, and nothing that
//! anybody else would notice.

use std::{
    io,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, Vip, dial, eventually, narrow, port, resident};
use testkit::{Daemon, Options, Outcome, Pod, http};
use tokio::time::Instant;

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);

/// A tenant that behaves badly, another that only wants to be served, and what both call.
struct Scene {
    daemon: Daemon,
    origin: Origin,
    bad: Pod,
    good: Pod,
    web: Pod,
    vip: Vip,
    _stage: Stage,
}

impl Scene {
    fn open() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Self::open_with(&Options::default())
    }

    fn open_with(options: &Options) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (bad, good) = (stage.pod("bad", "flood", &[])?, stage.pod("good", "client", &[])?);
        let web = stage.pod("good", "web", &[HTTP, RAW])?;
        let vip = stage.service(("good", "web"), 10, &[HTTP, RAW], &[&web])?;
        let origin = Origin::start(&web, 80)?;
        let daemon = Daemon::start_with(&stage.node, stage.manifests.path(), options)?;
        Ok(Self { daemon, origin, bad, good, web, vip, _stage: stage })
    }

    /// What the daemon says to these bytes, to the end of the connection.
    fn say(&self, bytes: &[u8]) -> io::Result<String> {
        let mut stream = dial(&self.bad, self.vip.at(80))?;
        // It may have been answered and closed before all was said.
        let _early = stream.write_all(bytes);
        read_all(&mut stream)
    }

    /// After all that: the daemon serves, and nothing in it panicked.
    fn assert_well(&self) -> Outcome {
        for client in [&self.bad, &self.good] {
            assert_eq!(http::get(client, self.vip.at(80), "web", "/after")?.status, 200);
        }
        assert!(!self.daemon.output().contains("panicked"), "{}", self.daemon.output());
        assert_eq!(self.daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
        Ok(())
    }
}

#[test]
fn garbage_on_an_http_port_is_answered_400_with_a_reason_that_is_logged_and_counted() -> Outcome {
    let mut scene = Scene::open()?;
    let mut noise = vec![0; 4096];
    (0..noise.len()).for_each(|index| noise[index] = (index * 197 + index / 7) as u8);
    for garbage in
        [&noise[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0\0\0\0", b"hello\r\n\r\n"]
    {
        let answer = scene.say(garbage)?;
        assert_refused(&answer, 400, "protocol_error", &String::from_utf8_lossy(&garbage[..4]));
    }
    scene.daemon.wait_logged(|line| line["tenant"] == "ns/bad" && line["reason"] == "protocol_error")?;
    let labels = ["tenant=\"ns/bad\"", "reason=\"protocol_error\""];
    scene.daemon.wait_metric("canopy_refused_total", &labels, 4.0)?;
    assert!(scene.origin.seen().is_empty());
    scene.assert_well()
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused_and_reach_nobody() -> Outcome {
    let scene = Scene::open()?;
    for (what, request) in [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5, 6\r\n\r\nhello!"),
        ("a signed length", "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: +5\r\n\r\nhello"),
        (
            "chunks that are not last",
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "space before a colon",
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a folded field", "GET / HTTP/1.1\r\nhost: web\r\nx-a: 1\r\n two\r\n\r\n"),
        ("a NUL in a field", "GET / HTTP/1.1\r\nhost: web\r\nx-a: \0\r\n\r\n"),
        ("a bare CR in a field", "GET / HTTP/1.1\r\nhost: web\r\nx-a: 1\rx-b: 2\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: web\r\nhost: other\r\nconnection: close\r\n\r\n"),
        ("a host that is none", "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n"),
    ] {
        let answer = scene.say(request.as_bytes())?;
        let code = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["400", "501"].contains(&code.as_str()), "{what}: {answer:?}");
        assert!(answer.to_lowercase().contains("canopy-refused: "), "{what}: no reason in {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: what follows is not read: {answer:?}");
    }
    let seen = scene.origin.seen();
    assert!(seen.is_empty(), "{seen:?}");
    scene.assert_well()
}

#[test]
fn a_request_with_length_and_chunks_is_its_chunks_and_the_last_of_its_connection() -> Outcome {
    let scene = Scene::open()?;
    // RFC 9112, 6.1 and 6.3: the chunks count, the length is not passed on, and the connection ends.
    let answer = scene.say(
        b"POST /chunks HTTP/1.1\r\nhost: web\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n\
          0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: web\r\n\r\n",
    )?;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    let seen = scene.origin.seen();
    let [chunks] = &seen[..] else { return Err(format!("not one request: {seen:?}").into()) };
    assert!(chunks.uri == "/chunks" && !chunks.headers.contains_key("content-length"), "{chunks:?}");
    scene.assert_well()
}

#[test]
fn a_body_with_broken_chunks_ends_the_connection_and_not_with_a_request_more() -> Outcome {
    let scene = Scene::open()?;
    for chunks in
        ["5\r\nhelloGET /smuggled HTTP/1.1\r\nhost: web\r\n\r\n", "zz\r\n", "ffffffffffffffffff\r\n"]
    {
        let request =
            format!("POST /body HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        let answer = scene.say(request.as_bytes())?;
        assert_refused(&answer, 400, "protocol_error", chunks);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    }
    assert!(scene.origin.seen().iter().all(|seen| seen.uri.path() == "/body"));
    scene.assert_well()
}

#[test]
fn a_head_that_is_too_large_is_answered_431() -> Outcome {
    let mut scene = Scene::open()?;
    let one = format!("GET / HTTP/1.1\r\nhost: web\r\nx-large: {}\r\n\r\n", "x".repeat(100 * 1024));
    let many: String = (0..5_000).map(|number| format!("x-{number}: 12345678\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: web\r\n{many}\r\n");
    for request in [one, many] {
        assert_refused(&scene.say(request.as_bytes())?, 431, "head_too_large", "a large head");
    }
    scene.daemon.wait_logged(|line| line["reason"] == "head_too_large")?;
    let large = format!(
        "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\nx-large: {}\r\n\r\n",
        "x".repeat(32 * 1024)
    );
    assert!(scene.say(large.as_bytes())?.starts_with("HTTP/1.1 200 "), "and one of 32 KiB is not");
    scene.assert_well()
}

#[test]
fn a_head_that_comes_too_slowly_is_answered_408() -> Outcome {
    let mut scene = Scene::open()?;
    let mut stream = dial(&scene.bad, scene.vip.at(80))?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    let mut trickle = stream.try_clone()?;
    let begun = Instant::now();
    // A byte now and then does not buy time: they come for as long as nobody answers.
    let drips = thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nhost: web\r\nx-slow: ".iter().cycle() {
            if trickle.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(300));
        }
    });
    let answer = read_all(&mut stream)?;
    assert_refused(&answer, 408, "head_timeout", "a slow head");
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    drips.join().map_err(|_| "the drips panicked")?;
    scene.daemon.wait_logged(|line| line["reason"] == "head_timeout")?;
    scene.assert_well()
}

#[test]
fn http2_nonsense_ends_its_connection_alone() -> Outcome {
    let scene = Scene::open()?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frames: [&[u8]; 5] = [
        b"",
        // A frame larger than allowed.
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        // HEADERS before SETTINGS, its block no HPACK.
        b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff",
        // SETTINGS of a wrong length.
        b"\x00\x00\x05\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        // A CONTINUATION of nothing.
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x09\x04\x00\x00\x00\x01\x00",
    ];
    for frame in frames {
        let mut stream = dial(&scene.bad, scene.vip.at(80))?;
        stream.write_all(preface)?;
        stream.write_all(frame)?;
        // It may be over before that.
        let _closed = stream.shutdown(Shutdown::Write);
        // A GOAWAY or a reset; but an end.
        let _how = stream.read_to_end(&mut Vec::new()).or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        })?;
    }
    assert!(scene.origin.seen().is_empty());
    scene.assert_well()
}

#[test]
fn a_peer_that_stops_reading_stops_the_other_and_costs_bounded_memory() -> Outcome {
    let scene = Scene::open()?;
    let sent = Arc::new(AtomicU64::new(0));
    let (raw, web) = (Arc::clone(&sent), Arc::clone(&sent));
    let _raw = Listener::start(&scene.web, scene.web.at(7000), move |stream| pour(stream, b"", &raw))?;
    // In front of the application, at the other family's address.
    let endless = Listener::start(&scene.web, scene.web.at(8080), move |mut stream| {
        e2e::head(&mut stream)?;
        pour(stream, b"HTTP/1.1 200 OK\r\n\r\n", &web)
    })?;
    let before = resident(&scene.daemon)?;
    let mut deaf = Vec::new();
    for _ in 0..EACH {
        deaf.push(dial(&scene.bad, scene.vip.at(7000))?);
        let mut stream = dial(&scene.bad, scene.web.at(8080))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
        deaf.push(stream);
    }
    // Until nothing moves any more: everything between is full.
    let mut last = 0;
    eventually("the servers are held up", || {
        let before = std::mem::replace(&mut last, sent.load(Ordering::Relaxed));
        thread::sleep(Duration::from_millis(500));
        before > 0 && before == sent.load(Ordering::Relaxed)
    })?;
    let grown = resident(&scene.daemon)?.saturating_sub(before);
    let each = grown / (2 * EACH);
    assert!(each < 512 * 1024, "{each} bytes of memory per peer that does not read ({last} bytes sent)");
    scene.assert_well()?;
    drop((deaf, endless));
    Ok(())
}

#[test]
fn twenty_thousand_connections_cost_little_and_another_tenant_does_not_notice() -> Outcome {
    let scene = Scene::open()?;
    let victim = Traffic::start(&scene.good, scene.vip.at(80), "web")?;
    victim.next(50)?;
    let before = resident(&scene.daemon)?;
    // Memory when the most were open, and how many: those that come slowly are given up while others come.
    let (mut held, mut most): (Vec<TcpStream>, (u64, f64)) = (Vec::new(), (0, 1.0));
    let count = |name: &str| scene.daemon.metric(name, &["tenant=\"ns/bad\""]);
    let dealt_with = || {
        Ok::<_, http::RequestError>(
            count("canopy_accept_connections_total")? + count("canopy_refused_total")?,
        )
    };
    for number in 0..BURST {
        // Some are refused: a tenant may not have all the descriptors there are.
        held.extend(dial(&scene.bad, scene.vip.at(80)).ok().filter(|_| number < HELD));
        if number % 500 == 0 && number <= HELD {
            let open = count("canopy_accept_connections_open")?;
            if open > most.1 {
                most = (resident(&scene.daemon)?, open);
            }
        }
    }
    eventually("all were dealt with", || dealt_with().is_ok_and(|count| count >= BURST as f64))?;
    assert!(most.1 >= 1_000.0, "{} connections were open", most.1);
    let each = most.0.saturating_sub(before) as f64 / most.1;
    assert!(each < 10.0 * 1024.0, "{each} bytes of memory per idle connection");
    let meanwhile = victim.next(100)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    drop(held);
    eventually("all are closed", || {
        let open = scene.daemon.metric("canopy_accept_connections_open", &["tenant=\"ns/bad\""]);
        open.is_ok_and(|open| open == 0.0)
    })?;
    drop(victim);
    scene.assert_well()
}

#[test]
fn a_tenant_that_takes_all_the_descriptors_it_can_leaves_the_other_enough() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut scene =
        Scene::open_with(&Options { binary: Some(narrow(&folder, 1024)?), ..Options::default() })?;
    let mut held = Vec::new();
    for _ in 0..1_500 {
        // Refused is as good as held.
        if let Ok(stream) = dial(&scene.bad, scene.vip.at(80)) {
            held.push(stream);
        }
    }
    for number in 0..20 {
        let answer = http::get(&scene.good, scene.vip.at(80), "web", "/");
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "request {number}: {answer:?}");
    }
    scene.daemon.wait_logged(|line| line["tenant"] == "ns/bad" && line["reason"] == "connection_limit")?;
    drop(held);
    scene.assert_well()
}

/// Writes as fast as it is taken, until it is not.
fn pour(mut stream: TcpStream, first: &[u8], sent: &AtomicU64) -> io::Result<()> {
    stream.write_all(first)?;
    let block = [b'x'; 64 * 1024];
    loop {
        let written = stream.write(&block)?;
        sent.fetch_add(written as u64, Ordering::Relaxed);
    }
}

fn read_all(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // Closed with something of ours unread.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn assert_refused(answer: &str, status: u16, reason: &str, what: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what:?}: {answer:?}");
    assert!(answer.contains(&format!("canopy-refused: {reason}\r\n")), "{what:?}: no reason in {answer:?}");
}

const EACH: u64 = 20;
const BURST: usize = 20_000;
const HELD: usize = 12_000;
