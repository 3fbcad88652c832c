//! Between two nodes: connections travel as streams of mutual TLS, as the workload that makes them, and nothing of them can be
//! read on the way.

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::Duration,
};

use e2e::{
    HTTP, Listener, Mesh, Origin, TLS_RECORD, Traffic, byte, contains, dial, eventually, is_reset, port,
};
use testkit::{
    Capture, Daemon, Outcome,
    grpc::{self, EchoServer, Words},
    http,
};

#[test]
fn http_grpc_and_opaque_bytes_reach_another_node_by_tunnel() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, port("grpc", 9090), port("tcp-echo", 7000)];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let vip = mesh.stage.service(("bank", "ledger"), 10, &ports, &[&ledger])?;
    let origin = Origin::start(&ledger, 80)?;
    let _grpc = EchoServer::start(&ledger, ledger.at(9090))?;
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let (mut here, mut there) = mesh.daemons()?;

    let answer = http::get(&client, vip.at(80), "ledger.bank", "/balance")?;
    assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, "ledger"));
    let seen = origin.seen().pop().ok_or("the application saw a request")?;
    assert_eq!(seen.peer.ip().to_canonical().to_string(), client.v4().to_string(), "its true caller");
    let line = here.wait_logged(|line| line["dst.addr"] == vip.at(80).to_string())?;
    for (field, wanted) in [
        ("direction", "outbound"),
        ("workload", "shop/client"),
        ("dst.workload", "bank/ledger"),
        ("delivery", "tunnel"),
        ("delivery_why", "other_node"),
        ("src.principal", "spiffe://cluster.local/ns/shop/sa/client"),
        ("dst.principal", "spiffe://cluster.local/ns/bank/sa/ledger"),
        ("protocol", "http/1.1"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }

    let reply =
        grpc::say(&client, vip.at(9090), "ledger.bank", Words { text: "hello".into(), ..Words::default() })?;
    assert_eq!((reply.text.as_str(), reply.server.as_str()), ("hello", "ledger"));

    let mut stream = dial(&client, vip.at(7000))?;
    stream.write_all(b"before the end")?;
    stream.shutdown(Shutdown::Write)?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed)?;
    assert_eq!(echoed, "before the end", "the server had the client's end and could still answer");
    drop(stream);
    let line = here.wait_logged(|line| line["dst.addr"] == vip.at(7000).to_string())?;
    assert_eq!(line["dst.principal"], "spiffe://cluster.local/ns/bank/sa/ledger", "{line}");
    let trace = line["trace_id"].as_str().unwrap_or_default().to_owned();
    let line = there.wait_logged(|line| line["dst.addr"] == ledger.at(7000).to_string())?;
    for (field, wanted) in [
        ("direction", "inbound"),
        ("workload", "bank/ledger"),
        ("src.workload", "shop/client"),
        ("src.principal", "spiffe://cluster.local/ns/shop/sa/client"),
        ("src.claimed.workload", "client"),
        ("dst.service", "bank/ledger"),
        ("trace_id", &trace),
        ("delivery", "local"),
        ("protocol", "tcp"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    Ok(())
}

#[test]
fn what_crosses_between_nodes_is_tls_and_shows_nothing_of_what_was_said() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [port("tcp-echo", 7000)];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let _daemons = mesh.daemons()?;
    let wire = Capture::frames(&mesh.second)?;
    let mut stream = dial(&client, ledger.at(7000))?;
    for _ in 0..20 {
        stream.write_all(MARKER)?;
        stream.read_exact(&mut [0; MARKER.len()])?;
    }
    let packets = wire.finish()?;
    let records = packets.iter().filter(|packet| contains(packet, &TLS_RECORD)).count();
    assert!(records >= 20, "{records} packets of {} carry TLS records", packets.len());
    // The app's own end is in its pod, where the bridge sees nothing of it.
    assert!(!packets.iter().any(|packet| contains(packet, MARKER)), "the marker was seen on the wire");
    Ok(())
}

#[test]
fn a_reset_crosses_nodes_as_a_reset() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [port("tcp-cut", 7000)];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let _cut = Listener::start(&ledger, ledger.at(7000), |mut stream| {
        stream.read_exact(&mut [0; 4])?;
        stream.write_all(b"half")?;
        std::thread::sleep(Duration::from_millis(100));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })?;
    let _daemons = mesh.daemons()?;
    let mut stream = dial(&client, ledger.at(7000))?;
    stream.write_all(b"more")?;
    stream.read_exact(&mut [0; 4])?;
    let end = byte(&stream);
    assert!(is_reset(&end), "{end:?}");
    Ok(())
}

#[test]
fn certificates_are_renewed_under_traffic_without_a_failed_request() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, web) = (mesh.here("shop", "client", &[])?, mesh.there("shop", "web", &[HTTP])?);
    let vip = mesh.stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let short = ["--certificate-ttl", "10"];
    let (here, there) = (mesh.daemon_here(&short)?, mesh.daemon_there(&short)?);
    let mut stream = dial(&client, web.at(80))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n")?;
    assert!(e2e::head(&mut stream)?.starts_with("HTTP/1.1 200 "));
    let traffic = Traffic::start(&client, vip.at(80), "web.shop")?;
    traffic.next(50)?;
    let serials = || [serial(&here), serial(&there)];
    for _ in 0..2 {
        let before = serials();
        eventually("both have a new certificate", || {
            serials().into_iter().zip(&before).all(|(now, before)| !now.is_empty() && now != *before)
        })?;
        traffic.next(50)?;
    }
    let tally = traffic.tally();
    assert_eq!(tally.failures, 0, "{}", tally.last_failure);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n")?;
    assert!(e2e::head(&mut stream)?.starts_with("HTTP/1.1 200 "), "a connection from before goes on");
    Ok(())
}

#[test]
fn a_daemon_that_drains_lets_streams_go_on_and_takes_no_new_ones() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [port("tcp-echo", 7000)];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let (_here, mut there) = (mesh.daemon_here(&[])?, mesh.daemon_there(&["--drain", "8"])?);
    let mut stream = dial(&client, ledger.at(7000))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    let new = || -> std::io::Result<()> {
        let mut stream = dial(&client, ledger.at(7000))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    };
    new()?;
    there.process().signal(rustix::process::Signal::TERM);
    eventually("it drains", || there.output().contains("draining"))?;
    for round in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        if round > 2 {
            assert!(new().is_err(), "a new one is taken while it drains");
        }
    }
    eventually("the daemon has gone", || there.process().has_ended())?;
    let end = byte(&stream);
    assert!(is_reset(&end), "what was cut does not look complete: {end:?}");
    Ok(())
}

/// The number of the only certificate that a daemon holds.
fn serial(daemon: &Daemon) -> String {
    let Ok(told) = daemon.canopy(&["tree", "--json"]) else { return String::new() };
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    find(&told, "serial").unwrap_or_default()
}

/// The first text under a key, however deep.
fn find(value: &serde_json::Value, key: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(members) => members
            .get(key)
            .and_then(|value| value.as_str().map(str::to_owned))
            .or_else(|| members.values().find_map(|value| find(value, key))),
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, key)),
        _ => None,
    }
}

const MARKER: &[u8] = b"a secret that no wire may show";
