//! Which way a connection takes on its own node, and why; what passes between cells is carried as over a wire.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Stage, Traffic, dial, end_of, eventually, head, is_reset, port};
use serde_json::Value;
use testkit::{
    Addresses, Daemon, KitError, Outcome, Pod, Server, block_on,
    grpc::{self, EchoServer, Words},
    http::{self, Connection},
    manifests::Port,
};

const RAW: Port = port("tcp-raw", 7000);
const GRPC: Port = port("grpc", 9090);

#[test]
fn the_way_taken_and_why_are_in_the_access_log() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let (near, far) = (stage.pod("shop", "near", &[HTTP])?, stage.pod("bank", "far", &[HTTP])?);
    let outside = stage.node.pod("away", "outside")?;
    let vips = [
        stage.service(("shop", "near"), 10, &[HTTP], &[&near])?,
        stage.service(("bank", "far"), 11, &[HTTP], &[&far])?,
    ];
    let _servers = [Server::nginx(&near, 80)?, Server::nginx(&far, 80)?, Server::nginx(&outside, 80)?];
    let mut daemon = stage.daemon()?;
    for (to, delivery, why) in [
        (vips[0].at(80), "direct", "same_tenant"),
        (vips[0].at_v6(80), "direct", "same_tenant"),
        (near.at(80), "direct", "same_tenant"),
        (vips[1].at(80), "handoff", "other_tenant"),
        (vips[1].at_v6(80), "handoff", "other_tenant"),
        (far.at(80), "handoff", "other_tenant"),
        (outside.at(80), "passthrough", "outside"),
    ] {
        // Each on a connection of its own, so that there is a line for each.
        assert_eq!(http::get(&client, to, "any", "/")?.status, 200, "{to}");
        let line = daemon.wait_logged(|line| outbound(line) && line["dst.addr"] == to.to_string())?;
        assert_eq!((&line["delivery"], &line["delivery_why"]), (&delivery.into(), &why.into()), "{line}");
    }
    Ok(())
}

#[test]
fn both_cells_tell_of_a_handoff_and_the_app_sees_its_true_caller() -> Outcome {
    let set = Set::new(HTTP)?;
    let _nginx = Server::nginx(&set.server, 80)?;
    let mut daemon = set.stage.daemon()?;
    for to in [set.vip.at(80), set.vip.at_v6(80)] {
        let own = if to.is_ipv4() { set.client.v4().to_string() } else { set.client.v6().to_string() };
        let at = if to.is_ipv4() { set.server.at(80) } else { set.server.at_v6(80) };
        let answer = http::get(&set.client, to, "ledger.bank", "/echo")?;
        assert!(answer.text().contains(&format!("peer={own} ")), "{}", answer.text());
        let out = daemon.wait_logged(|line| outbound(line) && line["dst.addr"] == to.to_string())?;
        assert_eq!((&out["tenant"], &out["status"]), (&"ns/shop".into(), &200.into()), "{out}");
        assert_eq!(out["endpoint"], at.to_string(), "{out}");
    }
    // The receiver's connections end when the caller's cell has no more use for them.
    set.stage.manifests.remove("shop-client-pod.yaml")?;
    for at in [set.server.at(80), set.server.at_v6(80)] {
        let into = daemon.wait_logged(|line| !outbound(line) && line["dst.addr"] == at.to_string())?;
        for (field, wanted) in [
            ("tenant", "ns/bank"),
            ("src.workload", "shop/client"),
            ("src.principal", "spiffe://cluster.local/ns/shop/sa/client"),
            ("delivery", "local"),
            ("delivery_why", "own_app"),
            ("protocol", "tcp"),
        ] {
            assert_eq!(into[field], wanted, "{field} of {into}");
        }
        assert!(into["reason"].is_null(), "{into}");
    }
    Ok(())
}

#[test]
fn kept_connections_are_handed_over_once() -> Outcome {
    let set = Set::new(HTTP)?;
    let _nginx = Server::nginx(&set.server, 80)?;
    let daemon = set.stage.daemon()?;
    let to = set.vip.at(80);
    for _ in 0..3 {
        ask_many(&set.client, to, 20)?;
    }
    let accepted = |tenant: &str| daemon.metric("canopy_accept_connections_total", &[tenant]);
    assert_eq!((accepted("tenant=\"ns/shop\"")?, accepted("tenant=\"ns/bank\"")?), (3.0, 1.0));
    Ok(())
}

#[test]
fn an_upgraded_connection_is_handed_over() -> Outcome {
    let set = Set::new(HTTP)?;
    let _server = Listener::start(&set.server, set.server.at(80), |mut stream| {
        assert!(head(&mut stream)?.to_lowercase().contains("upgrade: websocket"));
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nready",
        )?;
        let mut reading = stream.try_clone()?;
        std::io::copy(&mut reading, &mut stream).map(drop)
    })?;
    let mut daemon = set.stage.daemon()?;
    let mut stream = dial(&set.client, set.vip.at(80))?;
    stream.write_all(
        b"GET /chat HTTP/1.1\r\nhost: web\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-key: x\r\n\r\n",
    )?;
    assert!(head(&mut stream)?.starts_with("HTTP/1.1 101 "));
    let mut ready = [0; 5];
    stream.read_exact(&mut ready)?;
    assert_eq!(&ready, b"ready");
    assert!(says(&mut stream, b"\x81\x02hi") && says(&mut stream, b"\x00\xff\r\n\r\nGET / HTTP/1.1"));
    drop(stream);
    let line = daemon.wait_logged(|line| line["path"] == "/chat")?;
    assert_eq!((&line["status"], &line["delivery"]), (&101.into(), &"handoff".into()), "{line}");
    Ok(())
}

#[test]
fn grpc_streams_both_ways_are_handed_over() -> Outcome {
    let set = Set::new(GRPC)?;
    let _server = EchoServer::start(&set.server, set.server.at(9090))?;
    let mut daemon = set.stage.daemon()?;
    let to = set.vip.at(9090);
    set.client.run(|| {
        block_on(async {
            let mut caller = grpc::connect(to, "ledger.bank").await?;
            let (speak, heard) = tokio::sync::mpsc::channel(1);
            let said =
                futures_util::stream::unfold(heard, |mut heard| async { Some((heard.recv().await?, heard)) });
            speak.send(words("0")).await?;
            let mut replies = caller.chat(tonic::Request::new(said)).await?.into_inner();
            // Each word is said only when the one before was answered.
            for index in 0..200 {
                assert_eq!(replies.message().await?.map(|reply| reply.text), Some(index.to_string()));
                speak.send(words(&(index + 1).to_string())).await?;
            }
            Outcome::Ok(())
        })
    })??;
    let line = daemon.wait_logged(|line| outbound(line) && line["protocol"] == "h2")?;
    assert_eq!(line["delivery"], "handoff", "{line}");
    Ok(())
}

#[test]
fn opaque_bytes_half_closes_and_resets_are_handed_over() -> Outcome {
    let set = Set::new(RAW)?;
    let (ended, ends) = mpsc::channel();
    let _late = Listener::start(&set.server, set.server.at(7000), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        write!(stream, "{} bytes", all.len())
    })?;
    let _waits = Listener::start(&set.server, set.server.at_v6(7000), move |mut stream| {
        stream.write_all(b"x")?;
        let end = stream.read_to_end(&mut Vec::new());
        ended.send(is_reset(&end)).map_err(std::io::Error::other)
    })?;
    let mut daemon = set.stage.daemon()?;
    let mut stream = dial(&set.client, set.vip.at(7000))?;
    stream.write_all(&vec![7; 300_000])?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "300000 bytes");
    let line = daemon.wait_logged(|line| !outbound(line))?;
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&300_000.into(), &12.into()), "{line}");

    let mut stream = dial(&set.client, set.vip.at_v6(7000))?;
    stream.read_exact(&mut [0])?;
    reset(stream)?;
    assert!(ends.recv_timeout(Duration::from_secs(30))?, "the app did not see its caller's reset");
    daemon.wait_logged(|line| outbound(line) && line["reason"] == "client_closed")?;
    daemon.wait_logged(|line| !outbound(line) && line["reason"] == "client_closed")?;
    Ok(())
}

#[test]
fn an_app_that_is_not_there_is_a_refusal_with_its_reason_before_anything_is_sent() -> Outcome {
    let set = Set::of(&[HTTP, RAW])?;
    let mut daemon = set.stage.daemon()?;
    let answer = http::get(&set.client, set.vip.at(80), "ledger.bank", "/")?;
    assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (503, "connect_refused"));
    let end = end_of(&set.client, set.vip.at(7000));
    assert!(is_reset(&end), "{end:?}");
    for direction in ["outbound", "inbound"] {
        let refused = |line: &Value| line["direction"] == direction && line["reason"] == "connect_refused";
        let line = daemon.wait_logged(|line| refused(line) && line["protocol"] == "tcp")?;
        let tenant = if direction == "outbound" { "ns/shop" } else { "ns/bank" };
        assert_eq!(line["tenant"], tenant, "{line}");
    }
    let refused = |tenant: &str| {
        daemon.metric(
            "canopy_refused_total",
            &[&format!("tenant=\"ns/{tenant}\""), "reason=\"connect_refused\""],
        )
    };
    eventually("both ledgers have it", || {
        ["bank", "shop"].iter().all(|tenant| refused(tenant).is_ok_and(|count| count >= 2.0))
    })?;
    Ok(())
}

#[test]
fn readers_that_stop_hold_up_nobody_else_and_little_memory() -> Outcome {
    const STALLED: usize = 50;
    let set = Set::new(HTTP)?; // No file takes what nobody reads: nginx would wait for the disk.
    let lines = "location = /endless { proxy_max_temp_file_size 0; proxy_pass http://127.0.0.1:81; } ";
    let _nginx = Server::nginx_with(&set.server, 80, lines)?;
    let _source = Listener::start(&set.server, SocketAddr::from(([127, 0, 0, 1], 81)), |mut stream| {
        head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")?;
        loop {
            stream.write_all(&[b'x'; 65536])?;
        }
    })?;
    let daemon = set.stage.daemon()?;
    let to = set.vip.at(80);
    let traffic = Traffic::start(&set.client, to, "ledger.bank")?;
    traffic.next(20)?;
    let heap = |tenant: &str| daemon.metric("canopy_tenancy_heap_bytes", &[tenant]);
    let before = [heap("tenant=\"ns/shop\"")?, heap("tenant=\"ns/bank\"")?];
    let stalled: Vec<TcpStream> = (0..STALLED)
        .map(|_| {
            let mut stream = dial(&set.client, to)?;
            stream.write_all(b"GET /endless HTTP/1.1\r\nhost: ledger.bank\r\n\r\n")?;
            assert!(head(&mut stream)?.starts_with("HTTP/1.1 200 "));
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stream)
        })
        .collect::<Result<_, _>>()?;
    // Long enough for every buffer on the way to fill, and for the ledgers to be told.
    thread::sleep(Duration::from_millis(2500));
    let tally = traffic.next(100)?;
    assert_eq!((tally.failures, tally.of("ledger")), (0, tally.total()), "{tally:?}");
    // The caller's cell owns the pipe and parses HTTP; the receiver's holds no more than its relay's buffer.
    for (tenant, before, kib) in [("shop", before[0], 512.0), ("bank", before[1], 128.0)] {
        let each = (heap(&format!("tenant=\"ns/{tenant}\""))? - before) / STALLED as f64;
        assert!(each < kib * 1024.0, "{tenant}: {each} bytes for each stalled stream");
    }
    drop(stalled);
    assert_eq!(traffic.next(100)?.failures, 0);
    Ok(())
}

#[test]
fn a_tenant_that_floods_another_with_connections_does_not_starve_a_third() -> Outcome {
    let stage = Stage::new()?;
    let (flooder, victim) = (stage.pod("shop", "flooder", &[])?, stage.pod("farm", "victim", &[])?);
    let ledger = stage.pod("bank", "ledger", &[HTTP])?;
    let vip = stage.service(("bank", "ledger"), 10, &[HTTP], &[&ledger])?;
    let _nginx = Server::nginx(&ledger, 80)?;
    let mut daemon = stage.daemon()?;
    let traffic = Traffic::start(&victim, vip.at(80), "ledger.bank")?;
    traffic.next(50)?;
    // Connections of its own for every request: the caller's pool has none to lend.
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let to = vip.at(80);
            flooder.spawn(move || flood(to, 300))
        })
        .collect::<Result<_, KitError>>()?;
    let tally = traffic.next(200)?;
    assert_eq!((tally.failures, tally.of("ledger")), (0, tally.total()), "{tally:?}");
    let mut answered = 0;
    for flood in floods {
        answered += flood.join().map_err(|_| "a flooding client panicked")??;
    }
    assert!(answered > 1000, "{answered} of 1,200 were answered");
    daemon.wait_logged(|line| line["workload"] == "shop/flooder" && line["delivery"] == "handoff")?;
    daemon.wait_logged(|line| line["workload"] == "farm/victim" && line["delivery"] == "handoff")?;
    Ok(())
}

/// One request on each of so many connections; how many were answered.
fn flood(to: SocketAddr, connections: usize) -> usize {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
        Ok(head(&mut stream)?.starts_with("HTTP/1.1 "))
    };
    (0..connections).filter(|_| ask().unwrap_or(false)).count()
}

#[test]
fn a_pod_that_takes_anothers_address_is_never_sent_that_ones_requests() -> Outcome {
    for owner in ["bank", "shop"] {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let ledger = stage.pod(owner, "ledger", &[HTTP])?;
        let vip = stage.service((owner, "ledger"), 10, &[HTTP], &[&ledger])?;
        let nginx = Server::nginx(&ledger, 80)?;
        let mut daemon = stage.daemon()?;
        let traffic = Traffic::start(&client, vip.at(80), "ledger.bank")?;
        assert_eq!(traffic.next(50)?.failures, 0);
        let delivery = if owner == "shop" { "direct" } else { "handoff" };
        daemon.wait_logged(|line| line["delivery"] == delivery)?;

        // It dies, and its address goes to a pod of another namespace at once. The Service still names the address.
        let address = Addresses { v4: ledger.v4(), v6: ledger.v6() };
        drop((nginx, ledger));
        let thief = stage.node.pod_at("den", "thief", address)?;
        let _its = Server::nginx(&thief, 80)?;
        stage.manifests.namespace("den")?;
        stage.manifests.remove(&format!("{owner}-ledger-pod.yaml"))?;
        stage.manifests.pod(&thief, &[HTTP])?;
        eventually("the new pod has a tree", || tree(&daemon).is_ok_and(|text| text.contains("den/thief")))?;
        eventually("nobody answers", || traffic.tally().failures > 0)?;
        thread::sleep(Duration::from_millis(500));
        assert_eq!(traffic.tally().of("thief"), 0, "{owner}: {:?}", traffic.tally());
        drop(traffic);
    }
    Ok(())
}

#[test]
fn a_pod_that_comes_back_under_its_name_is_reached_again() -> Outcome {
    let set = Set::new(HTTP)?;
    let nginx = Server::nginx(&set.server, 80)?;
    let daemon = set.stage.daemon()?;
    let to = set.vip.at(80);
    ask_many(&set.client, to, 1)?;
    let Set { stage, client, server, .. } = set;
    let address = Addresses { v4: server.v4(), v6: server.v6() };
    drop((nginx, server));
    let again = stage.node.pod_at("bank", "ledger", address)?;
    let _nginx = Server::nginx(&again, 80)?;
    stage.manifests.pod(&again, &[HTTP])?;
    eventually("it is reached again", || ask_many(&client, to, 1).is_ok())?;
    eventually("it has a tree", || tree(&daemon).is_ok_and(|text| text.contains("bank/ledger")))?;
    Ok(())
}

/// A caller of one tenant, a server of another, and a Service in front of it.
struct Set {
    client: Pod,
    server: Pod,
    vip: e2e::Vip,
    stage: Stage,
}

impl Set {
    fn new(port: Port) -> Result<Self, KitError> {
        Self::of(&[port])
    }

    fn of(ports: &[Port]) -> Result<Self, KitError> {
        let stage = Stage::new()?;
        let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "ledger", ports)?);
        let vip = stage.service(("bank", "ledger"), 10, ports, &[&server])?;
        Ok(Self { client, server, vip, stage })
    }
}

/// Sends requests on one connection; all have to be answered with 200.
fn ask_many(from: &Pod, to: SocketAddr, requests: u32) -> Outcome {
    from.run(|| {
        block_on(async {
            let mut connection = Connection::http1(to).await?;
            for _ in 0..requests {
                let answer = connection.get("ledger.bank", "/").await?;
                if answer.status != 200 {
                    return Err(format!("{to}: {} {}", answer.status, answer.header("canopy-refused")).into());
                }
            }
            Ok(())
        })
    })?
}

fn tree(daemon: &Daemon) -> Result<String, KitError> {
    Ok(String::from_utf8_lossy(&daemon.canopy(&["tree"])?.stdout).into_owned())
}

fn outbound(line: &Value) -> bool {
    line["direction"] == "outbound"
}

fn says(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut back = vec![0; bytes.len()];
    stream.write_all(bytes).is_ok() && stream.read_exact(&mut back).is_ok() && back == bytes
}

/// Closes with a reset instead of an end.
fn reset(stream: TcpStream) -> std::io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?)
}

fn words(text: &str) -> Words {
    Words { text: text.into(), ..Words::default() }
}
