//! The one table that all tenants share: whatever one of them opens by way of the daemon, the others' connections are made.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use e2e::{HTTP, Listener, Origin, Stage, Traffic, dial, eventually, narrow, port};
use testkit::{Daemon, Options, Outcome, Pod, http, manifests::Port};

/// A limit at which a tenant of two has 128 connections, each way.
const DESCRIPTORS: u32 = 1024;
const SHARE: usize = 128;
/// HTTP/2 connections of the tenant that wants too much, and as many streams of each as the daemon takes.
const CONNECTIONS: usize = 12;
const STREAMS: usize = 128;

#[test]
fn streams_to_an_endpoint_that_never_answers_leave_another_tenant_its_connections() -> Outcome {
    let told = Port { app_protocol: Some("http"), ..port("told", 80) };
    let stage = Stage::new()?;
    let (bad, silent) = (stage.pod("bad", "flood", &[])?, stage.pod("bad", "silent", &[told])?);
    let (good, web) = (stage.pod("good", "client", &[])?, stage.pod("good", "web", &[HTTP])?);
    let to_silent = stage.service(("bad", "silent"), 10, &[told], &[&silent])?;
    let to_web = stage.service(("good", "web"), 11, &[HTTP], &[&web])?;
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = Arc::clone(&held);
    let _silence = Listener::start(&silent, silent.at(80), move |stream| {
        holding.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        Ok(())
    })?;
    let _origin = Origin::start(&web, 80)?;
    let folder = tempfile::tempdir()?;
    let options = Options { binary: Some(narrow(&folder, DESCRIPTORS)?), ..Options::default() };
    let daemon = Daemon::start_with(&stage.node, stage.manifests.path(), &options)?;
    let victim = Traffic::start(&good, to_web.at(80), "web")?;
    victim.next(20)?;

    let flood: Vec<_> =
        (0..CONNECTIONS).map(|_| ask_at_once(&bad, to_silent.at(80))).collect::<Result<_, _>>()?;
    let refused =
        || daemon.metric("canopy_refused_total", &["tenant=\"ns/bad\"", "reason=\"connection_limit\""]);
    let surplus = CONNECTIONS * STREAMS - SHARE;
    eventually("the surplus is refused", || refused().is_ok_and(|count| count >= surplus as f64))?;
    for number in 0..20 {
        let answer = http::get(&good, to_web.at(80), "web", "/");
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 200), "request {number}: {answer:?}");
    }
    let meanwhile = victim.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    let connections = || held.lock().unwrap_or_else(PoisonError::into_inner).len();
    eventually("all it may have are there", || connections() >= SHARE)?;
    assert_eq!(connections(), SHARE);
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count();
    assert!(open < DESCRIPTORS as usize / 2, "{open} of {DESCRIPTORS}");
    drop((flood, victim));
    assert_eq!(daemon.metric("canopy_forest_panics_total", &[])?, 0.0);
    Ok(())
}

/// A connection of HTTP/2 with as many requests under way as it may have.
fn ask_at_once(from: &Pod, to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = dial(from, to)?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
    for number in (1_u32..).step_by(2).take(STREAMS) {
        // HEADERS that end head and stream: `GET http://a/`, mostly from HPACK's static table.
        let mut frame = vec![0, 0, 6, 1, 5];
        frame.extend_from_slice(&number.to_be_bytes());
        frame.extend_from_slice(&[0x82, 0x86, 0x84, 0x01, 1, b'a']);
        stream.write_all(&frame)?;
    }
    Ok(stream)
}
