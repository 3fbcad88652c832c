//! Opaque TCP: every byte in order, every ending as it was meant, whoever speaks first.

use std::{
    io::{self, Read, Write},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

use e2e::{Listener, Stage, byte, dial, is_reset, port};
use rustix::net::sockopt::set_socket_linger;
use socket2::{Domain, Protocol, Socket, Type};
use testkit::{Outcome, Pod, Server};

/// A port that says `tcp` by its name.
const RAW: testkit::manifests::Port = port("tcp-raw", 7000);
/// A port that says nothing.
const PLAIN: testkit::manifests::Port = port("plain", 7001);

#[test]
fn connections_reach_the_one_endpoint_that_answers_while_others_are_open_to_it() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let pods = [
        stage.pod("bank", "dead-a", &[RAW])?,
        stage.pod("bank", "dead-b", &[RAW])?,
        stage.pod("bank", "alive", &[RAW])?,
    ];
    let vip = stage.service(("bank", "echo"), 10, &[RAW], &[&pods[0], &pods[1], &pods[2]])?;
    let _echo = Listener::echo(&pods[2], pods[2].at(7000))?;
    let _daemon = stage.daemon()?;
    let mut held = Vec::new();
    for number in 0..30 {
        let mut stream = dial(&client, vip.at(7000))?;
        let mut answer = [0; 4];
        let echoed = stream.write_all(b"here").and_then(|()| stream.read_exact(&mut answer));
        assert!(echoed.is_ok() && answer == *b"here", "{number}: {echoed:?}");
        held.push(stream);
    }
    Ok(())
}

#[test]
fn redis_clients_speak_to_redis_within_and_across_tenants() -> Outcome {
    let stage = Stage::new()?;
    let redis = port("tcp-redis", 6379);
    let (near, far) = (stage.pod("bank", "near", &[])?, stage.pod("shop", "far", &[])?);
    let vault = stage.pod("bank", "vault", &[redis])?;
    let vip = stage.service(("bank", "vault"), 10, &[redis], &[&vault])?;
    let _redis = Server::redis(&vault, 6379)?;
    let mut daemon = stage.daemon()?;
    for client in [&near, &far] {
        for to in [vip.at(6379), vip.at_v6(6379), vault.at(6379)] {
            let mut stream = dial(client, to)?;
            stream.write_all(b"SET gold 12\r\nGET gold\r\nQUIT\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            assert_eq!(text, "+OK\r\n$2\r\n12\r\n+OK\r\n", "{} to {to}", client.name());
        }
        let name = format!("{}/{}", client.namespace(), client.name());
        let line = daemon.wait_logged(|line| line["workload"] == name && !line["dst.service"].is_null())?;
        assert_eq!(
            (&line["protocol"], &line["dst.service"]),
            (&"tcp".into(), &"bank/vault".into()),
            "{line}"
        );
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&29.into(), &18.into()), "{line}");
    }
    Ok(())
}

#[test]
fn a_server_may_speak_first_on_a_port_of_which_nothing_is_declared() -> Outcome {
    let stage = Stage::new()?;
    let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
    let server = stage.pod("shop", "server", &[PLAIN])?;
    let vip = stage.service(("shop", "server"), 10, &[PLAIN], &[&server])?;
    let _listener = Listener::start(&server, server.at(7001), |mut stream| {
        stream.write_all(b"220 ready\r\n")?;
        let mut said = [0; 6];
        stream.read_exact(&mut said)?;
        stream.write_all(&said)
    })?;
    let _daemon = stage.daemon()?;
    for client in [&near, &far] {
        for to in [vip.at(7001), server.at(7001)] {
            let mut stream = dial(client, to)?;
            let mut greeting = [0; 11];
            stream.read_exact(&mut greeting)?;
            assert_eq!(&greeting, b"220 ready\r\n");
            stream.write_all(b"QUIT\r\n")?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)?;
            assert_eq!(rest, b"QUIT\r\n");
        }
    }
    Ok(())
}

#[test]
fn either_side_may_end_its_half_and_still_hear_the_other() -> Outcome {
    let stage = Stage::new()?;
    let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "server", &[RAW])?);
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    // Answers only once its caller has ended.
    let _late = Listener::start(&server, server.at(7000), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        write!(stream, "{} bytes", all.len())
    })?;
    let (heard, hears) = mpsc::channel();
    // Ends first, and listens on.
    let _early = Listener::start(&server, server.at_v6(7000), move |mut stream| {
        stream.write_all(b"bye")?;
        stream.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        heard.send(all).map_err(io::Error::other)
    })?;
    let _daemon = stage.daemon()?;

    let mut stream = dial(&client, vip.at(7000))?;
    stream.write_all(&[7; 1000])?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "1000 bytes");

    let mut stream = dial(&client, vip.at_v6(7000))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "bye");
    stream.write_all(b"one thing more")?;
    drop(stream);
    assert_eq!(hears.recv()?, b"one thing more");
    Ok(())
}

#[test]
fn an_application_that_uses_mptcp_is_carried_and_sees_loopback_as_its_peer() -> Outcome {
    let stage = Stage::new()?;
    let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "server", &[RAW])?);
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    let _echo = Listener::echo(&server, server.at(7000))?;
    let mut daemon = stage.daemon()?;
    let mut stream: TcpStream = client.run(|| {
        let mptcp = Some(Protocol::from(262));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, mptcp)?;
        socket.connect_timeout(&vip.at(7000).into(), Duration::from_secs(30))?;
        Ok::<_, io::Error>(socket.into())
    })??;
    assert!(stream.peer_addr()?.ip().is_loopback(), "{}", stream.peer_addr()?);
    stream.write_all(b"hello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "hello");
    let line = daemon.wait_logged(|line| line["dst.service"] == "shop/server")?;
    assert_eq!(line["src.workload"], "shop/client", "{line}");
    Ok(())
}

#[test]
fn a_reset_on_one_side_is_a_reset_on_the_other() -> Outcome {
    let stage = Stage::new()?;
    let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
    let server = stage.pod("shop", "server", &[RAW])?;
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    let (ended, ends) = mpsc::channel();
    let _resets = Listener::start(&server, server.at(7000), |mut stream| {
        stream.read_exact(&mut [0])?;
        reset(stream)
    })?;
    let _waits = Listener::start(&server, server.at_v6(7000), move |mut stream| {
        stream.write_all(b"x")?;
        let end = stream.read_to_end(&mut Vec::new());
        ended.send(is_reset(&end)).map_err(io::Error::other)
    })?;
    let mut daemon = stage.daemon()?;
    for client in [&near, &far] {
        let mut stream = dial(client, vip.at(7000))?;
        stream.write_all(b"x")?;
        let end = stream.read_to_end(&mut Vec::new());
        assert!(is_reset(&end), "{}: the server's reset arrived as {end:?}", client.name());

        let mut stream = dial(client, vip.at_v6(7000))?;
        stream.read_exact(&mut [0])?;
        reset(stream)?;
        assert!(ends.recv()?, "{}: the caller's reset did not arrive", client.name());
    }
    daemon.wait_logged(|line| line["reason"] == "upstream_reset")?;
    daemon.wait_logged(|line| line["reason"] == "client_closed")?;
    Ok(())
}

#[test]
fn a_port_where_nobody_listens_is_a_reset_and_a_reason() -> Outcome {
    let stage = Stage::new()?;
    let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "server", &[RAW])?);
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    let mut daemon = stage.daemon()?;
    // The reset may come before the client has looked at its new connection.
    let end = dial(&client, vip.at(7000)).and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
    assert!(is_reset(&end), "{end:?}");
    let line = daemon.wait_logged(|line| line["direction"] == "outbound")?;
    assert_eq!(line["reason"], "connect_refused", "{line}");
    Ok(())
}

#[test]
fn a_connection_beyond_the_tenants_bound_is_reset_and_logged_with_whose_it_was_and_where_it_was_going()
-> Outcome {
    let stage = Stage::new()?;
    let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "server", &[RAW])?);
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    let _echo = Listener::echo(&server, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 7000))?;
    let mut daemon = stage.daemon_with(&["--connections", "2"])?;
    let mut held = vec![dial(&client, vip.at(7000))?, dial(&client, vip.at_v6(7000))?];
    for stream in &mut held {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
    }
    for (to, own) in [(vip.at(7000), client.at(0)), (vip.at_v6(7000), client.at_v6(0))] {
        // The reset may come before the client has looked at its new connection.
        let end = dial(&client, to).and_then(|stream| byte(&stream));
        assert!(is_reset(&end), "{end:?}");
        let is_it =
            |line: &serde_json::Value| line["dst.addr"] == to.to_string() && !line["reason"].is_null();
        let line = daemon.wait_logged(is_it)?;
        for (field, wanted) in
            [("reason", "connection_limit"), ("direction", "outbound"), ("src.workload", "shop/client")]
        {
            assert_eq!(line[field], wanted, "{field} of {line}");
        }
        let source: SocketAddr = line["src.addr"].as_str().unwrap_or_default().parse()?;
        assert_eq!(source.ip(), own.ip(), "{line}");
    }
    Ok(())
}

#[test]
fn sixty_four_mebibytes_arrive_whole_both_ways_at_once() -> Outcome {
    let stage = Stage::new()?;
    let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
    let server = stage.pod("shop", "server", &[RAW])?;
    let vip = stage.service(("shop", "server"), 10, &[RAW], &[&server])?;
    let _echo = Listener::echo(&server, server.at(7000))?;
    let daemon = stage.daemon()?;
    for client in [&near, &far] {
        transfer(client, dial(client, vip.at(7000))?)?;
    }
    // Near: once outbound. Far: outbound in its own cell, inbound in the server's.
    for direction in ["received", "sent"] {
        for (tenant, bytes) in [("shop", 2 * BULK), ("bank", BULK)] {
            let labels = [&*format!("tenant=\"ns/{tenant}\""), &*format!("direction=\"{direction}\"")];
            daemon.wait_metric("canopy_relay_bytes_total", &labels, bytes as f64)?;
        }
    }
    Ok(())
}

/// Sends numbers that never repeat, and expects them back in order.
fn transfer(client: &Pod, mut stream: TcpStream) -> Outcome {
    let mut sending = stream.try_clone()?;
    let sender = thread::spawn(move || {
        for block in 0..BLOCKS {
            sending.write_all(&numbers(block))?;
        }
        sending.shutdown(Shutdown::Write)
    });
    let mut got = vec![0; BLOCK];
    for block in 0..BLOCKS {
        stream.read_exact(&mut got)?;
        assert!(got == numbers(block), "{}: block {block} came back changed", client.name());
    }
    assert_eq!(stream.read(&mut got)?, 0);
    sender.join().map_err(|_| "the sender panicked")??;
    Ok(())
}

fn numbers(block: usize) -> Vec<u8> {
    let first = block * BLOCK / 8;
    (first..first + BLOCK / 8).flat_map(usize::to_le_bytes).collect()
}

/// Closes with a reset instead of an end.
fn reset(stream: TcpStream) -> io::Result<()> {
    set_socket_linger(stream.as_fd(), Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

const BULK: usize = 64 * 1024 * 1024;
const BLOCK: usize = 1024 * 1024;
const BLOCKS: usize = BULK / BLOCK;
