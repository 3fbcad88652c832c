//! A peer that goes dark in the middle of a stream, without a word: what was said to it stays unacknowledged, and after
//! `TCP_USER_TIMEOUT` the connection is given up at both ends, with its reason, and nothing of it is left.

use std::{
    fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    ops::RangeInclusive,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use e2e::{Listener, Stage, byte, dial, eventually, is_reset, port};
use serde_json::Value;
use testkit::{Daemon, Outcome, Pod};
use tokio::time::Instant;

/// What the documentation says of data that is not acknowledged, in seconds; and of a peer that is silent and asked.
const UNACKNOWLEDGED: RangeInclusive<u64> = 25..=45;
const SILENT: RangeInclusive<u64> = 55..=90;

#[test]
fn a_server_that_goes_dark_is_given_up_whether_it_was_being_sent_to_or_listened_to() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    // Of no mesh: what is said to it crosses the pods' links as it is.
    let sink = stage.node.pod("away", "sink")?;
    let _echo = Listener::echo(&sink, sink.at(7000))?;
    let mut daemon = stage.daemon()?;
    let (mut busy, mut idle) = (dial(&client, sink.at(7000))?, dial(&client, sink.at(7000))?);
    for stream in [&mut busy, &mut idle] {
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.write_all(b"said")?;
        stream.read_exact(&mut [0; 4])?;
    }
    let ends = [busy.local_addr()?, idle.local_addr()?];
    sink.unplug()?;
    let begun = Instant::now();
    busy.write_all(b"more")?;
    let end = byte(&busy);
    let took = begun.elapsed().as_secs();
    assert!(is_reset(&end) && UNACKNOWLEDGED.contains(&took), "{end:?} after {took} s");
    let end = byte(&idle);
    let took = begun.elapsed().as_secs();
    assert!(is_reset(&end) && SILENT.contains(&took), "{end:?} after {took} s");
    for end in ends {
        let line = daemon.wait_logged(|line| line["src.addr"] == end.to_string())?;
        assert_eq!(
            (&line["reason"], &line["direction"]),
            (&"upstream_reset".into(), &"outbound".into()),
            "{line}"
        );
    }
    daemon.wait_metric("canopy_refused_total", &["reason=\"upstream_reset\""], 2.0)?;
    nothing_is_left(&daemon, &client, 7000)
}

#[test]
fn a_client_that_goes_dark_is_given_up_and_the_app_that_answers_it_is_told() -> Outcome {
    let stage = Stage::new()?;
    let web = stage.pod("shop", "web", &[port("tcp-stream", 7000)])?;
    let caller = stage.node.pod("away", "caller")?;
    let (told, telling) = channel();
    let _stream = Listener::start(&web, web.at(7000), move |stream| {
        let _ = told.send(until_it_breaks(stream));
        Ok(())
    })?;
    let mut daemon = stage.daemon()?;
    let mut stream = dial(&caller, web.at(7000))?;
    stream.read_exact(&mut [0; 100])?;
    let from = stream.local_addr()?;
    caller.unplug()?;
    let begun = Instant::now();
    let error = its_end(&telling)?;
    let took = begun.elapsed().as_secs();
    assert!(UNACKNOWLEDGED.contains(&took), "{error} after {took} s");
    assert!([io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    let line = daemon.wait_logged(|line| line["src.addr"] == from.to_string())?;
    assert_eq!((&line["reason"], &line["direction"]), (&"client_closed".into(), &"inbound".into()), "{line}");
    nothing_is_left(&daemon, &web, 7000)
}

/// Says something every moment, for as long as somebody takes it.
fn until_it_breaks(mut stream: TcpStream) -> io::Error {
    loop {
        if let Err(error) = stream.write_all(&[b'x'; 100]) {
            return error;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn its_end(telling: &Receiver<io::Error>) -> Result<io::Error, Box<dyn std::error::Error + Send + Sync>> {
    Ok(telling.recv_timeout(Duration::from_secs(90))?)
}

/// No connection, in the daemon's eyes or in the kernel's, at either end of the pod.
fn nothing_is_left(daemon: &Daemon, pod: &Pod, port: u16) -> Outcome {
    eventually("nothing is open any more", || {
        daemon.metric("canopy_accept_connections_open", &[]).is_ok_and(|open| open == 0.0)
    })?;
    eventually("no tree has any", || {
        let Ok(told) = daemon.canopy(&["tree", "--json"]) else { return false };
        let tree: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let trees = tree["cells"][0]["trees"].as_array();
        let none = |trees: &Vec<Value>| trees.iter().all(|tree| tree["connections_open"] == 0);
        trees.is_some_and(|trees| !trees.is_empty() && none(trees))
    })?;
    eventually("the kernel has no socket of it", || sockets(pod, port).is_ok_and(|open| open.is_empty()))?;
    Ok(())
}

/// The pod's connections from or to this port: neither who listens nor what waits for its last segments to be forgotten.
fn sockets(pod: &Pod, port: u16) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let is_it = |address: &str| address.ends_with(&format!(":{port:04X}"));
    let mut open = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = pod.run(|| fs::read_to_string(format!("/proc/thread-self/net/{table}")))??;
        open.extend(text.lines().filter_map(|line| {
            let columns: Vec<_> = line.split_ascii_whitespace().collect();
            let is_open = !["0A", "06"].contains(columns.get(3)?);
            (is_open && (is_it(columns[1]) || is_it(columns[2]))).then(|| line.to_owned())
        }));
    }
    Ok(open)
}

/// That what looks for what is left would find it.
#[test]
fn a_connection_that_is_open_is_seen() -> Outcome {
    let stage = Stage::new()?;
    let pod = stage.node.pod("away", "sink")?;
    let at: SocketAddr = pod.at(7000);
    let _echo = Listener::echo(&pod, at)?;
    assert!(sockets(&pod, 7000)?.is_empty());
    let _stream = dial(&pod, at)?;
    eventually("both ends", || sockets(&pod, 7000).is_ok_and(|open| open.len() == 2))?;
    Ok(())
}
