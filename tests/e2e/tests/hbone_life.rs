//! How tunnels come and go: on one node, over IPv6, unused, silent, in numbers, and when an address changes hands.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, Origin, Stage, byte, dial, end_of, eventually, is_reset, port};
use serde_json::Value;
use testkit::{
    Addresses, Daemon, Outcome, http,
    manifests::{Manifests, Port},
};
use tokio::time::Instant;

const ECHO: Port = port("tcp-echo", 7000);
const TUNNELS: &str = "canopy_hbone_tunnels_open";

#[test]
fn where_network_policies_cannot_be_read_pods_of_one_node_speak_by_tunnel() -> Outcome {
    let stage = Stage::new()?;
    let ports = [HTTP, ECHO];
    let client = stage.pod("shop", "client", &[])?;
    let (near, far) = (stage.pod("shop", "near", &ports)?, stage.pod("bank", "far", &ports)?);
    let _origins = [Origin::start(&near, 80)?, Origin::start(&far, 80)?];
    let _echoes = [Listener::echo(&near, near.at(7000))?, Listener::echo(&far, far.at(7000))?];
    for namespace in ["shop", "bank"] {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{namespace: {namespace}, name: odd}}\nspec:\n  podSelector: {{}}\n  ingress: no list\n"
        );
        stage.manifests.write(&format!("{namespace}-odd.yaml"), &text)?;
    }
    let mut daemon = stage.daemon()?;
    for pod in [&near, &far] {
        let answer = http::get(&client, pod.at(80), "any", "/")?;
        assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, pod.name()));
        echoes(&mut dial(&client, pod.at(7000))?)?;
        for at in [pod.at(80), pod.at(7000)] {
            let sent = |line: &Value| line["direction"] == "outbound" && line["dst.addr"] == at.to_string();
            let line = daemon.wait_logged(sent)?;
            let way = (&line["delivery"], &line["delivery_why"], &line["reason"]);
            assert_eq!(way, (&"tunnel".into(), &"network_policy".into(), &Value::Null), "{line}");
        }
        // A kept connection has no line yet.
        let came =
            |line: &Value| line["direction"] == "inbound" && line["dst.addr"] == pod.at(7000).to_string();
        let line = daemon.wait_logged(came)?;
        assert_eq!(line["src.workload"], "shop/client", "{line}");
    }
    Ok(())
}

#[test]
fn tunnels_between_nodes_carry_ipv6() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, ECHO, port("tcp-cut", 7001)];
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
    let vip = mesh.stage.service(("bank", "ledger"), 10, &ports, &[&ledger])?;
    let origin = Origin::start(&ledger, 80)?;
    let _echo = Listener::echo(&ledger, ledger.at_v6(7000))?;
    let _cut = Listener::start(&ledger, ledger.at_v6(7001), |mut stream| {
        stream.read_exact(&mut [0; 4])?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })?;
    let (mut here, mut there) = mesh.daemons()?;
    for to in [vip.at_v6(80), ledger.at_v6(80)] {
        let answer = http::get(&client, to, "ledger.bank", "/")?;
        assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, "ledger"));
        let line = here.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        assert_eq!(
            (&line["delivery"], &line["endpoint"]),
            (&"tunnel".into(), &ledger.at_v6(80).to_string().into())
        );
    }
    let callers: Vec<_> = origin.seen().iter().map(|seen| seen.peer.ip()).collect();
    assert!(callers.iter().all(|ip| *ip == client.v6()), "its true caller: {callers:?}");
    let mut stream = dial(&client, vip.at_v6(7000))?;
    stream.write_all(b"to its end")?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text, "to its end");
    let line = there.wait_logged(|line| line["dst.addr"] == ledger.at_v6(7000).to_string())?;
    assert_eq!((&line["src.workload"], &line["reason"]), (&"shop/client".into(), &Value::Null), "{line}");
    let mut stream = dial(&client, ledger.at_v6(7001))?;
    stream.write_all(b"more")?;
    assert!(is_reset(&byte(&stream)));
    Ok(())
}

#[test]
fn a_node_that_goes_without_a_word_takes_its_tunnels_along() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &[ECHO])?);
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let often = ["--tunnel-keepalive", "1"];
    let (mut here, mut there) = (mesh.daemon_here(&often)?, mesh.daemon_there(&often)?);
    let mut stream = dial(&client, ledger.at(7000))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    echoes(&mut stream)?;
    std::thread::sleep(Duration::from_secs(4));
    echoes(&mut stream)?;
    mesh.second.cut_wire()?;
    let begun = Instant::now();
    let end = byte(&stream);
    assert!(is_reset(&end), "{end:?}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    for daemon in [&mut here, &mut there] {
        let line = daemon.wait_logged(|line| line["dst.addr"] == ledger.at(7000).to_string())?;
        assert_eq!(line["reason"], "peer_silent", "{line}");
        eventually("the tunnel is gone", || open(daemon) == 0.0)?;
    }
    Ok(())
}

#[test]
fn unused_tunnels_go_and_those_in_use_stay() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [ECHO];
    let (client, other) = (mesh.here("shop", "client", &[])?, mesh.here("shop", "other", &[])?);
    let ledger = mesh.there("bank", "ledger", &ports)?;
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let brief = ["--tunnel-idle", "1"];
    let (here, there) = (mesh.daemon_here(&brief)?, mesh.daemon_there(&brief)?);
    let mut used = dial(&client, ledger.at(7000))?;
    let mut unused = dial(&other, ledger.at(7000))?;
    echoes(&mut used)?;
    echoes(&mut unused)?;
    eventually("both are there", || (open(&here), open(&there)) == (2.0, 2.0))?;
    drop(unused);
    eventually("the unused one has gone", || (open(&here), open(&there)) == (1.0, 1.0))?;
    std::thread::sleep(Duration::from_secs(2));
    echoes(&mut used)?;
    drop(used);
    eventually("the last one has gone", || (open(&here), open(&there)) == (0.0, 0.0))?;
    echoes(&mut dial(&other, ledger.at(7000))?)?;
    Ok(())
}

#[test]
fn a_flood_of_handshakes_that_go_no_further_holds_little_memory_and_harms_only_its_target() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [ECHO];
    let client = mesh.here("shop", "client", &[])?;
    let (ledger, second) = (mesh.there("bank", "ledger", &ports)?, mesh.there("bank", "second", &ports)?);
    // Of no mesh.
    let attacker = mesh.second.pod("away", "attacker")?;
    let _echoes = [Listener::echo(&ledger, ledger.at(7000))?, Listener::echo(&second, second.at(7000))?];
    let (_here, there) = mesh.daemons()?;
    let mut stream = dial(&client, ledger.at(7000))?;
    echoes(&mut stream)?;
    let before = resident(&there)?;
    let tunnel = SocketAddr::new(ledger.v4().into(), 15008);
    // Some are reset while they are still being made.
    let held = attacker.run(|| flood(tunnel, FLOOD))?;
    eventually("most of it was refused", || refused(&there, "handshake_limit") >= (FLOOD - 200) as f64)?;
    let grown = resident(&there)?.saturating_sub(before);
    // The 64 handshakes that one address may have, of which each may hold a record, and what the kernel's queues made the daemon
    // touch.
    assert!(grown < 16 << 20, "{grown} bytes for {FLOOD} half-open handshakes");
    echoes(&mut stream)?;
    echoes(&mut dial(&client, second.at(7000))?)?;
    // After their time, there is room again.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(1));
        echoes(&mut stream)?;
    }
    eventually("they were given up", || refused(&there, "handshake_timeout") >= 50.0)?;
    echoes(&mut stream)?;
    eventually("nothing of the flood is left", || open(&there) == 2.0)?;
    drop(held);
    Ok(())
}

/// Half of a first record each, of a length that is not there.
fn flood(to: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut half = vec![0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3];
    half.resize(8 << 10, 7);
    let dial = || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(30)).ok()?;
        let _ = stream.write_all(&half);
        Some(stream)
    };
    (0..connections).filter_map(|_| dial()).collect()
}

#[test]
fn who_takes_over_an_address_on_another_node_gets_nothing_that_was_meant_for_the_one_before() -> Outcome {
    let mesh = Mesh::new()?;
    let client = mesh.here("shop", "client", &[])?;
    let ledger = mesh.there("bank", "ledger", &[ECHO])?;
    let at = ledger.at(7000);
    let echo = Listener::echo(&ledger, at)?;
    // What this node is told comes late.
    let late = Manifests::copy_of(mesh.stage.manifests.path())?;
    let (here, there) = (mesh.daemon_misled(&late, &[])?, mesh.daemon_there(&[])?);
    let mut stream = dial(&client, at)?;
    echoes(&mut stream)?;

    let address = Addresses { v4: ledger.v4(), v6: ledger.v6() };
    drop((echo, ledger));
    let thief = mesh.second.pod_at("den", "thief", address)?;
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let _its = Listener::start(&thief, at, move |mut stream| {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        count.fetch_add(1, Relaxed);
        stream.write_all(&bytes)
    })?;
    mesh.stage.manifests.namespace("den")?;
    mesh.stage.manifests.remove("bank-ledger-pod.yaml")?;
    mesh.stage.manifests.pod_on("second", &thief, &[ECHO])?;
    eventually("it has a tree", || tree(&there).contains("den/thief"))?;
    // On the tunnel of before as on new ones.
    let _ = stream.write_all(b"meant for the ledger");
    let is_told = |line: &Value| line["dst.addr"] == at.to_string() && line["reason"] == "identity_mismatch";
    eventually("its certificate is not the expected one", || {
        if let Ok(mut stream) = dial(&client, at) {
            let _ = stream.write_all(b"said").and_then(|()| byte(&stream).map(drop));
        }
        here.access_log().iter().any(is_told)
    })?;
    for _ in 0..5 {
        let end = end_of(&client, at);
        assert!(is_reset(&end), "{end:?}");
    }
    assert_eq!(heard.load(Relaxed), 0, "the thief heard what was not for it");
    assert!(!is_alive(&mut stream));

    // Told who is there, the caller speaks to it as to itself, on a tunnel of its own.
    late.namespace("den")?;
    late.remove("bank-ledger-pod.yaml")?;
    late.pod_on("second", &thief, &[ECHO])?;
    let to_it = |line: &Value| {
        let is_well = line["reason"].is_null() && line["delivery"] == "tunnel";
        is_well && line["dst.workload"] == "den/thief"
    };
    eventually("the newcomer is called by its own name", || {
        let answered = dial(&client, at).and_then(|mut stream| echoes(&mut stream)).is_ok();
        answered && here.access_log().iter().any(to_it)
    })?;
    Ok(())
}

fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"said")?;
    stream.read_exact(&mut [0; 4])
}

fn is_alive(stream: &mut TcpStream) -> bool {
    stream.write_all(b"said").is_ok() && byte(stream).is_ok_and(|read| read > 0)
}

/// Tunnels of a daemon, both ways.
fn open(daemon: &Daemon) -> f64 {
    daemon.metric(TUNNELS, &[]).unwrap_or(f64::NAN)
}

fn refused(daemon: &Daemon, reason: &str) -> f64 {
    daemon.metric("canopy_refused_total", &[&format!("reason=\"{reason}\"")]).unwrap_or_default()
}

fn tree(daemon: &Daemon) -> String {
    daemon
        .canopy(&["tree"])
        .map(|told| String::from_utf8_lossy(&told.stdout).into_owned())
        .unwrap_or_default()
}

/// What the daemon has in memory.
fn resident(daemon: &Daemon) -> std::io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    Ok(kib.unwrap_or_default() << 10)
}

const FLOOD: usize = 1000;
