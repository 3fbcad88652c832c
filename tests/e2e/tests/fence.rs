//! The fence: what gets around steering does not leave the pod, is counted and can be followed, and nothing else is touched.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, dial, eventually};
use socket2::{Domain, Protocol, Socket, Type};
use testkit::{Daemon, Outcome, Pod};

/// The first segment of a connection, from a raw socket, to a port where somebody listens; whether it arrives.
fn arrives_raw(from: &Pod, to: (&Pod, SocketAddr)) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let (receiver, to) = to;
    let mut there = receiver.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)))??;
    there.set_read_timeout(Some(Duration::from_secs(2)))?;
    send_raw(from, to)?;
    let mut packet = [0; 1500];
    // Whatever else arrives meanwhile is passed over: it ends with two seconds in which nothing does.
    while let Ok(length) = there.read(&mut packet) {
        // Behind 20 bytes of IP.
        if length >= 40 && packet[20..22] == SOURCE.to_be_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn send_raw(from: &Pod, to: SocketAddr) -> Outcome {
    from.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        let mut segment = [0; 20];
        segment[..2].copy_from_slice(&SOURCE.to_be_bytes());
        segment[2..4].copy_from_slice(&to.port().to_be_bytes());
        (segment[12], segment[13]) = (0x50, 0x02);
        socket.send_to(&segment, &SocketAddr::new(to.ip(), 0).into())?;
        Ok(())
    })?
}

fn packets(daemon: &Daemon, verdict: &str) -> f64 {
    let labels = ["pod=\"shop/client\"", "reason=\"raw\"", &format!("verdict=\"{verdict}\"")];
    daemon.metric("canopy_fence_packets_total", &labels).unwrap_or_default()
}

fn pods(daemon: &Daemon, state: &str) -> f64 {
    daemon.metric("canopy_fence_pods", &[&format!("state=\"{state}\"")]).unwrap_or_default()
}

/// A request to the outside, through the daemon.
fn calls(client: &Pod, to: SocketAddr) -> Outcome {
    let mut stream = dial(client, to)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

#[test]
fn pods_are_fenced_unless_it_is_told_otherwise() -> Outcome {
    let stage = Stage::new()?;
    let (client, _web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let outside = stage.node.pod("away", "outside")?;
    let _origin = Origin::start(&outside, 80)?;
    let (enforcing, observing) = (("enforcing", "dropped"), ("observing", "observed"));
    let runs: [(&[&str], _); 3] =
        [(&[], enforcing), (&["--fence", "on"], enforcing), (&["--fence", "observe"], observing)];
    for (arguments, (state, verdict)) in runs {
        let daemon = stage.daemon_with(arguments)?;
        eventually("both are fenced", || pods(&daemon, state) == 2.0)?;
        calls(&client, outside.at(80))?;
        assert_eq!(packets(&daemon, verdict), 0.0, "{arguments:?}");
        let arrived = arrives_raw(&client, (&outside, outside.at(80)))?;
        assert_eq!(arrived, verdict == "observed", "{arguments:?}");
        eventually("the segment is counted", || packets(&daemon, verdict) == 1.0)?;
    }
    let daemon = stage.daemon_with(&["--fence", "off"])?;
    eventually("neither is fenced", || (pods(&daemon, "off"), pods(&daemon, "enforcing")) == (2.0, 0.0))?;
    assert!(arrives_raw(&client, (&outside, outside.at(80)))?, "nobody is in the way");
    calls(&client, outside.at(80))
}

/// The port that no other connection has.
const SOURCE: u16 = 40_000;
