//! The same contract where the kernel has no hooks: steering by iptables, asked for with `--redirect iptables`.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    time::Duration,
};

use e2e::{
    HTTP, Listener, Mesh, Origin, Stage, dial, end_of, eventually, files_of, is_reset, port, rules_of,
};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use testkit::{Daemon, KitError, Options, Outcome, Server, http};

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);
/// More than a busy machine needs, and less than a drain may take by default: one that hangs is seen.
const LIMIT: Duration = Duration::from_secs(25);

#[test]
fn http_is_captured_in_both_families_within_and_across_tenants() -> Outcome {
    let stage = Stage::new()?;
    let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
    let web = stage.pod("shop", "web", &[HTTP])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let origin = Origin::start(&web, 80)?;
    let mut daemon = daemon(&stage)?;
    for client in [&near, &far] {
        for to in [vip.at(80), vip.at_v6(80), web.at(80), web.at_v6(80)] {
            let mut stream = dial(client, to)?;
            assert_eq!(stream.peer_addr()?, to);
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            assert!(text.starts_with("HTTP/1.1 200 "), "{} to {to}: {text}", client.name());
            let workload = format!("{}/{}", client.namespace(), client.name());
            daemon.wait_logged(|line| line["workload"] == workload && line["dst.addr"] == to.to_string())?;
        }
    }
    assert_eq!(origin.seen().len(), 8);
    eventually("it says how it steers", || {
        let told = daemon.canopy(&["tree"]);
        told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("iptables"))
    })?;
    Ok(())
}

#[test]
fn opaque_bytes_keep_their_order_their_ends_and_their_resets() -> Outcome {
    let stage = Stage::new()?;
    let (near, far) = (stage.pod("shop", "near", &[])?, stage.pod("bank", "far", &[])?);
    let redis = port("tcp-redis", 6379);
    let server = stage.pod("shop", "server", &[RAW, redis])?;
    let vip = stage.service(("shop", "server"), 10, &[RAW, redis], &[&server])?;
    let _redis = Server::redis(&server, 6379)?;
    let _late = Listener::start(&server, server.at(7000), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        write!(stream, "{} bytes", all.len())
    })?;
    let _daemon = daemon(&stage)?;
    for client in [&near, &far] {
        let mut stream = dial(client, vip.at(6379))?;
        stream.write_all(b"SET gold 12\r\nGET gold\r\nQUIT\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        assert_eq!(text, "+OK\r\n$2\r\n12\r\n+OK\r\n");

        let mut stream = dial(client, vip.at(7000))?;
        stream.write_all(&[7; 100_000])?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        assert_eq!(text, "100000 bytes");

        let end = end_of(client, vip.at_v6(7000));
        assert!(is_reset(&end), "nobody listens there: {end:?}");
    }
    Ok(())
}

#[test]
fn a_pod_of_another_node_is_reached_by_tunnel_in_both_families() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, web) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "web", &[HTTP])?);
    let origin = Origin::start(&web, 80)?;
    let (mut here, mut there) = mesh.daemons_by("iptables")?;
    for to in [web.at(80), web.at_v6(80)] {
        assert_eq!(http::get(&client, to, "any", "/")?.status.as_u16(), 200, "{to}");
        let line = here.wait_logged(|line| line["dst.addr"] == to.to_string())?;
        assert_eq!(
            (&line["delivery"], &line["reason"]),
            (&"tunnel".into(), &serde_json::Value::Null),
            "{line}"
        );
        let seen = origin.seen().pop().ok_or("the application saw a request")?;
        let caller = if to.is_ipv4() { client.at(0) } else { client.at_v6(0) };
        assert_eq!(seen.peer.ip().to_canonical(), caller.ip(), "its true caller");
    }
    drop(here);
    let line = there.wait_logged(|line| line["direction"] == "inbound")?;
    assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/client", "{line}");
    Ok(())
}

#[test]
fn rules_are_in_the_pods_while_it_runs_and_gone_when_it_has_ended() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP, RAW])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP, RAW], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let _echo = Listener::echo(&web, web.at(7000))?;
    let before = [rules_of(&client)?, rules_of(&web)?];
    let added = || {
        let now = [rules_of(&client)?, rules_of(&web)?];
        let added = now.iter().zip(&before).flat_map(|(now, before)| now.difference(before).cloned());
        Ok::<_, KitError>(added.collect::<Vec<String>>())
    };
    let mut killed = daemon_of(&stage, "kit-iptables")?;
    assert!(!added()?.is_empty(), "what is looked for afterwards can be found now");
    kill(&mut killed)?;
    let mut killed = daemon_of(&stage, "kit-iptables")?;
    let held = dial(&client, vip.at(7000))?;
    killed.process().signal(Signal::TERM);
    eventually("it waits for a connection", || killed.output().contains("draining"))?;
    std::thread::sleep(Duration::from_millis(300));
    kill(&mut killed)?;
    assert!(!added()?.is_empty(), "the way back of one that was killed while it drained");
    drop(held);

    let mut daemon = daemon_of(&stage, "kit-iptables")?;
    assert_eq!(http::get(&client, vip.at(80), "web", "/")?.status, 200, "{}", daemon.output());
    daemon.process().signal(Signal::TERM);
    let ended = daemon.process().wait(LIMIT);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", daemon.output());
    assert_eq!(added()?, Vec::<String>::new());
    assert!(files_of(&instance("kit-iptables")).is_empty(), "{:?}", files_of(&instance("kit-iptables")));
    assert_eq!(http::get(&client, web.at(80), "web", "/")?.status, 200);
    Ok(())
}

#[test]
fn what_it_does_otherwise_than_the_hooks_is_as_the_operators_guide_says() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[RAW])?);
    let vip = stage.service(("shop", "web"), 10, &[RAW], &[&web])?;
    let (tell, told) = mpsc::channel();
    let _listener = Listener::start(&web, web.at(7000), move |stream| {
        tell.send(stream.peer_addr()?).map_err(io::Error::other)
    })?;
    let daemon = daemon(&stage)?;
    // The application sees its caller's address, and a port of the kernel's choice.
    let streams = (0..3).map(|_| dial(&client, vip.at(7000))).collect::<io::Result<Vec<_>>>()?;
    let seen = streams.iter().map(|_| told.recv_timeout(LIMIT)).collect::<Result<Vec<_>, _>>()?;
    assert!(seen.iter().all(|peer| peer.ip() == client.at(0).ip()), "{seen:?}");
    let own = streams.iter().map(TcpStream::local_addr).collect::<io::Result<Vec<_>>>()?;
    assert!(seen.iter().any(|peer| !own.contains(peer)), "{seen:?} of {own:?}");
    // A socket that is bound to the pod's interface does not hear what answers from loopback.
    let bound = client.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.connect_timeout(&vip.at(7000).into(), Duration::from_secs(2))
    })?;
    assert!(bound.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
    // Single decisions are nobody's to tell.
    let trace = daemon.canopy(&["trace", "--count", "1"])?;
    let said = String::from_utf8(trace.stderr)?;
    assert!(!trace.status.success() && said.contains("steering is by iptables"), "{said}");
    Ok(())
}

fn kill(daemon: &mut Daemon) -> Outcome {
    daemon.process().signal(Signal::KILL);
    daemon.process().wait(LIMIT).ok_or("a killed process ends")?;
    Ok(())
}

fn instance(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn daemon(stage: &Stage) -> Result<Daemon, KitError> {
    let options = Options { redirect: "iptables".into(), ..Options::default() };
    Daemon::start_with(&stage.node, stage.manifests.path(), &options)
}

/// One that can be started again under the same name.
fn daemon_of(stage: &Stage, name: &str) -> Result<Daemon, KitError> {
    let options =
        Options { redirect: "iptables".into(), instance: Some(instance(name)), ..Options::default() };
    Daemon::start_with(&stage.node, stage.manifests.path(), &options)
}
