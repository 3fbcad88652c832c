//! Captured HTTP/1.1: applications connect as ever, see their true peers, and nothing of a message is lost.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::Command,
};

use e2e::{HTTP, Listener, Origin, Stage, dial, head, port};
use testkit::{
    Daemon, Outcome, Pod, Server, block_on,
    http::{self, Connection},
};

#[test]
fn requests_by_service_and_by_pod_address_are_captured_in_both_families() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let mut daemon = stage.daemon()?;
    for to in [vip.at(80), vip.at_v6(80), web.at(80), web.at_v6(80)] {
        let answer = http::get(&client, to, "web.shop", "/echo?x=1")?;
        let peer = if to.is_ipv4() { client.v4().to_string() } else { client.v6().to_string() };
        let wanted = format!("pod=web peer={peer} method=GET host=web.shop uri=/echo?x=1");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, wanted), "{to}");
        let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        assert_eq!(line["direction"], "outbound", "{line}");
    }
    assert!(daemon.metric("canopy_redirect_decisions_total", &["event=\"steered\""])? >= 4.0);
    Ok(())
}

#[test]
fn a_client_sees_the_address_it_dialled_and_a_server_its_caller() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let origin = Origin::start(&web, 80)?;
    let _daemon = stage.daemon()?;
    for to in [vip.at(80), vip.at_v6(80), web.at(80), web.at_v6(80)] {
        let mut stream = dial(&client, to)?;
        assert_eq!(stream.peer_addr()?, to);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n")?;
        assert!(head(&mut stream)?.starts_with("HTTP/1.1 200 "));
        assert_eq!(stream.peer_addr()?, to, "also once it is in use");
        let own = stream.local_addr()?.ip();
        let seen = origin.seen().pop().ok_or("the application saw a request")?;
        assert_eq!(seen.peer.ip().to_canonical(), own, "{to}");
        assert!(own == client.v4() || own == client.v6(), "{own}");
    }
    Ok(())
}

#[test]
fn a_line_of_the_access_log_names_both_ends_the_service_the_endpoint_and_the_times() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let nobody = stage.service(("shop", "nobody"), 11, &[HTTP], &[])?;
    let _nginx = Server::nginx(&web, 80)?;
    let mut daemon = stage.daemon()?;
    http::get(&client, vip.at(80), "web.shop", "/16k")?;
    let line = daemon.wait_logged(|line| line["path"] == "/16k")?;
    for (field, wanted) in [
        ("tenant", "ns/shop"),
        ("direction", "outbound"),
        ("protocol", "http/1.1"),
        ("workload", "shop/client"),
        ("src.workload", "shop/client"),
        ("dst.service", "shop/web"),
        ("dst.workload", "shop/web"),
        ("dst.addr", "10.96.0.10:80"),
        ("endpoint", &web.at(80).to_string()),
        ("delivery", "direct"),
        ("method", "GET"),
        ("authority", "web.shop"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    assert_eq!((line["status"].as_u64(), line["bytes_sent"].as_u64()), (Some(200), Some(16 * 1024)));
    for time in ["duration_ms", "connect_ms", "first_byte_ms"] {
        assert!(line[time].as_f64().is_some_and(|ms| ms < 30_000.0), "{time} of {line}");
    }
    assert!(line["duration_ms"].as_f64() > Some(0.0) && line["reason"].is_null(), "{line}");

    let answer = http::get(&client, nobody.at(80), "nobody.shop", "/none")?;
    assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (503, "no_endpoint"));
    let line = daemon.wait_logged(|line| line["path"] == "/none")?;
    assert_eq!((line["reason"].as_str(), line["status"].as_u64()), (Some("no_endpoint"), Some(503)));
    Ok(())
}

#[test]
fn a_connection_is_kept_and_used_again_on_both_sides() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let origin = Origin::start(&web, 80)?;
    let daemon = stage.daemon()?;
    client.run(|| {
        block_on(async {
            let mut connection = Connection::http1(vip.at(80)).await?;
            for _ in 0..50 {
                assert_eq!(connection.get("web.shop", "/").await?.status, 200);
            }
            Ok::<_, http::RequestError>(())
        })
    })??;
    let seen = origin.seen();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|request| request.connection == 1), "one connection is enough for one client");
    daemon.wait_metric("canopy_accept_connections_total", &["tenant=\"ns/shop\""], 1.0)?;
    daemon.wait_metric("canopy_relay_requests_total", &["tenant=\"ns/shop\""], 50.0)?;
    Ok(())
}

#[test]
fn large_bodies_pass_both_ways_sized_and_in_chunks() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let origin = Origin::start(&web, 80)?;
    let mut daemon = stage.daemon()?;
    let folder = tempfile::tempdir()?;
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    // No two of its blocks are alike, so that a swapped or repeated one shows.
    let body: Vec<u8> = (0..LARGE / 8).flat_map(|number: u64| number.to_le_bytes()).collect();
    std::fs::write(&sent, &body)?;
    for framing in ["content-type: application/octet-stream", "transfer-encoding: chunked"] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "120", "--header", framing, "--header"]);
        curl.args(["expect:", "--data-binary"]).arg(format!("@{}", sent.display()));
        curl.arg("--output").arg(&got).arg(format!("http://{}/echo", vip.at(80)));
        let output = client.run(|| curl.output())??;
        assert!(output.status.success(), "{framing}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&got)? == body, "{framing}: the body came back changed");
    }
    let sized = |header: &str| origin.seen().iter().filter(|seen| seen.headers.contains_key(header)).count();
    assert_eq!((sized("content-length"), sized("transfer-encoding")), (1, 1), "framing is kept");
    let whole = |line: &serde_json::Value| line["bytes_received"] == LARGE && line["bytes_sent"] == LARGE;
    daemon.wait_logged(whole)?;
    Ok(())
}

#[test]
fn a_client_that_expects_100_sends_its_body_once_the_server_has_said_so() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _server = Listener::start(&web, web.at(80), |mut stream| {
        assert!(head(&mut stream)?.to_lowercase().contains("expect: 100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        let mut body = [0; 5];
        stream.read_exact(&mut body)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")?;
        stream.write_all(&body)
    })?;
    let _daemon = stage.daemon()?;
    let mut stream = dial(&client, vip.at(80))?;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")?;
    assert!(head(&mut stream)?.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello")?;
    assert!(head(&mut stream)?.starts_with("HTTP/1.1 200 "));
    let mut body = [0; 5];
    stream.read_exact(&mut body)?;
    assert_eq!(&body, b"hello");
    Ok(())
}

#[test]
fn trailers_reach_a_client_that_takes_them() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _server = Listener::start(&web, web.at(80), |mut stream| {
        head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
              2\r\nhi\r\n0\r\nx-sum: 17\r\n\r\n",
        )
    })?;
    let _daemon = stage.daemon()?;
    let mut stream = dial(&client, vip.at(80))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nte: trailers\r\nconnection: te, close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert!(text.contains("hi") && text.to_lowercase().contains("x-sum: 17"), "{text}");
    Ok(())
}

#[test]
fn an_upgraded_connection_carries_whatever_both_ends_say() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _server = Listener::start(&web, web.at(80), |mut stream| {
        let request = head(&mut stream)?.to_lowercase();
        assert!(request.contains("upgrade: websocket") && request.contains("sec-websocket-key: x"));
        // The first bytes of the new protocol come in the same segment as the answer.
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nready",
        )?;
        let mut reading = stream.try_clone()?;
        std::io::copy(&mut reading, &mut stream).map(drop)
    })?;
    let mut daemon = stage.daemon()?;
    let mut stream = dial(&client, vip.at(80))?;
    stream.write_all(
        b"GET /chat HTTP/1.1\r\nhost: web\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-key: x\r\n\r\n",
    )?;
    let answer = head(&mut stream)?;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.to_lowercase().contains("upgrade: websocket"));
    let mut ready = [0; 5];
    stream.read_exact(&mut ready)?;
    assert_eq!(&ready, b"ready");
    for frame in [&b"\x81\x02hi"[..], b"\x00\xff\x00", b"\r\n\r\nGET / HTTP/1.1"] {
        stream.write_all(frame)?;
        let mut back = vec![0; frame.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, frame);
    }
    drop(stream);
    let line = daemon.wait_logged(|line| line["path"] == "/chat")?;
    assert_eq!(line["status"], 101, "{line}");
    Ok(())
}

#[test]
fn a_destination_that_nobody_knows_is_passed_through_unchanged() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    // On the same network, in no manifest.
    let outside = stage.node.pod("away", "outside")?;
    let _http = Listener::start(&outside, outside.at(80), |mut stream| {
        let request = head(&mut stream)?;
        let peer = stream.peer_addr()?.ip();
        let body = format!("{peer}\n{request}");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    })?;
    let _echo = Listener::echo(&outside, outside.at_v6(7000))?;
    let mut daemon = stage.daemon()?;
    let request = "GET /a?b=%20c HTTP/1.1\r\nhost: example.test\r\nx-own: 1\r\nconnection: close\r\n\r\n";
    let text = said(&client, outside.at(80), request.as_bytes())?;
    assert!(text.contains(&client.v4().to_string()), "{text}");
    for kept in ["GET /a?b=%20c HTTP/1.1", "host: example.test", "x-own: 1"] {
        assert!(text.to_lowercase().contains(&kept.to_lowercase()), "{kept} is not in {text}");
    }
    assert!(!text.contains("x-forwarded") && !text.contains("canopy"), "nothing is added: {text}");
    let mut stream = dial(&client, outside.at_v6(7000))?;
    stream.write_all(b"\x16\x03\x01 anything")?;
    let mut back = [0; 12];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"\x16\x03\x01 anything");
    drop(stream);
    for to in [outside.at(80), outside.at_v6(7000)] {
        let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        assert_eq!(line["delivery"], "passthrough", "{line}");
        assert!(line["dst.service"].is_null() && line["reason"].is_null(), "{line}");
    }
    Ok(())
}

#[test]
fn loopback_is_none_of_the_daemons_business() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let _echo = Listener::echo(&client, SocketAddr::from(([127, 0, 0, 1], 7000)))?;
    let daemon = stage.daemon()?;
    let mut stream = dial(&client, SocketAddr::from(([127, 0, 0, 1], 7000)))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    assert_eq!(accepted(&daemon)?, 0.0);
    Ok(())
}

#[test]
fn an_http1_client_reaches_an_endpoint_that_speaks_http2_only() -> Outcome {
    let stage = Stage::new()?;
    let h2c = testkit::manifests::Port { app_protocol: Some("kubernetes.io/h2c"), ..port("web", 80) };
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[h2c])?);
    let vip = stage.service(("shop", "web"), 10, &[h2c], &[&web])?;
    let _server = testkit::grpc::EchoServer::start(&web, web.at(80))?;
    let mut daemon = stage.daemon()?;
    let answer = http::get(&client, vip.at(80), "web.shop", "/no.such.Service/Method")?;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "12"));
    let line = daemon.wait_logged(|line| line["path"] == "/no.such.Service/Method")?;
    assert_eq!(line["protocol"], "http/1.1", "{line}");
    Ok(())
}

#[test]
fn an_http2_client_reaches_an_endpoint_that_speaks_http1_only_where_its_port_declares_that() -> Outcome {
    let stage = Stage::new()?;
    let told = testkit::manifests::Port { app_protocol: Some("http"), ..port("told", 80) };
    let untold = port("untold", 8080);
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[told, untold])?);
    let vip = stage.service(("shop", "web"), 10, &[told, untold], &[&web])?;
    let (origin, deaf) = (Origin::start(&web, 80)?, Origin::start(&web, 8080)?);
    let mut daemon = stage.daemon()?;
    let ask = |to: SocketAddr, path: &'static str| {
        client.run(|| block_on(async { Connection::http2(to).await?.get("web.shop", path).await }))
    };
    let answer = ask(vip.at(80), "/told")??;
    assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, "web"));
    let seen = &origin.seen()[0];
    assert_eq!((seen.uri.path(), &seen.headers["host"]), ("/told", &"web.shop".parse()?));
    let line = daemon.wait_logged(|line| line["path"] == "/told")?;
    assert_eq!((&line["protocol"], &line["status"]), (&"h2".into(), &200.into()), "{line}");

    // Where nothing is declared it gets what the client speaks, and the refusal says where to look.
    let answer = ask(vip.at(8080), "/untold")??;
    assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (502, "upstream_protocol"));
    assert!(deaf.seen().is_empty());
    daemon.wait_logged(|line| line["reason"] == "upstream_protocol")?;
    Ok(())
}

fn accepted(daemon: &Daemon) -> Result<f64, http::RequestError> {
    daemon.metric("canopy_accept_connections_total", &[])
}

/// What the server answers to these bytes, to its end.
fn said(from: &Pod, to: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = dial(from, to)?;
    stream.write_all(request)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

const LARGE: u64 = 8 * 1024 * 1024;
