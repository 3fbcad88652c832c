//! Permissions that are taken away from what is under way: it ends soon, at both ends with its reason, and nothing else does.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, Stage, dial, end_of, eventually, head, is_reset, port};
use serde_json::Value;
use testkit::{KitError, Outcome, Pod, http, manifests::Port};
use tokio::time::Instant;

const RAW: Port = port("tcp-raw", 7000);
const OTHER: Port = port("tcp-other", 7001);

#[test]
fn a_caller_on_another_node_that_is_denied_loses_its_streams_and_nobody_else_does() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, RAW, OTHER];
    let (client, other) = (mesh.here("shop", "client", &[])?, mesh.here("shop", "other", &[])?);
    let ledger = mesh.there("bank", "ledger", &ports)?;
    let _apps = apps(&ledger)?;
    let (mut here, mut there) = mesh.daemons()?;
    let (mut opaque, mut beside) =
        (Live::opaque(&client, ledger.at(7000))?, Live::opaque(&client, ledger.at(7001))?);
    let mut others = Live::opaque(&other, ledger.at(7000))?;
    let (mut download, mut others_download) =
        (Live::download(&client, &ledger)?, Live::download(&other, &ledger)?);
    mesh.stage.manifests.write("denied.yaml", &denied("bank", &["80", "7000"]))?;
    let begun = Instant::now();
    opaque.ends()?;
    download.ends()?;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    for live in [&mut beside, &mut others, &mut others_download] {
        live.goes_on()?;
    }
    for (at, protocol) in [(ledger.at(7000), "tcp"), (ledger.at(80), "http/1.1")] {
        let line = here.wait_logged(|line| of(line, &client, at) && line["direction"] == "outbound")?;
        let told = (&line["reason"], &line["delivery"], &line["protocol"]);
        assert_eq!(told, (&"peer_denied".into(), &"tunnel".into(), &protocol.into()), "{line}");
        let line = there.wait_logged(|line| of(line, &client, at) && line["direction"] == "inbound")?;
        assert_eq!(
            (&line["reason"], &line["policy"]),
            (&"policy_denied".into(), &"bank/denied".into()),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn what_one_endpoint_of_another_node_denies_is_asked_of_no_other() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, RAW];
    let client = mesh.here("shop", "client", &[])?;
    let pods = [
        mesh.there("bank", "one", &ports)?,
        mesh.there("bank", "two", &ports)?,
        mesh.there("bank", "three", &ports)?,
    ];
    let vip = mesh.stage.service(("bank", "ledger"), 10, &ports, &pods.each_ref())?;
    mesh.stage.manifests.write("denied.yaml", &denied("bank", &["80", "7000"]))?;
    let (_here, there) = mesh.daemons()?;
    let mut denied = 0;
    for _ in 0..3 {
        let answer = http::get(&client, vip.at(80), "ledger.bank", "/")?;
        assert_eq!((answer.status.as_u16(), answer.header("canopy-refused")), (403, "peer_denied"));
        let end = end_of(&client, vip.at(7000));
        assert!(is_reset(&end), "{end:?}");
        denied += 2;
    }
    let said = || there.access_log().iter().filter(|line| line["reason"] == "policy_denied").count();
    eventually("each has its line", || said() >= denied)?;
    // Long enough for another that should not be there.
    std::thread::sleep(Duration::from_millis(300));
    let lines = there.access_log();
    let lines: Vec<_> = lines.iter().filter(|line| line["reason"] == "policy_denied").collect();
    assert_eq!(lines.len(), denied, "one for each: {lines:?}");
    Ok(())
}

#[test]
fn a_network_policy_ends_deliveries_past_the_network_and_the_next_ones_go_by_tunnel() -> Outcome {
    let stage = Stage::new()?;
    let ports = [HTTP, RAW];
    let client = stage.pod("shop", "client", &[])?;
    let (near, far) = (stage.pod("shop", "near", &ports)?, stage.pod("bank", "far", &ports)?);
    let _apps = [apps(&near)?, apps(&far)?];
    let mut daemon = stage.daemon()?;
    let mut direct = Live::opaque(&client, near.at(7000))?;
    let mut handoff = Live::opaque(&client, far.at(7000))?;
    let mut downloads = [Live::download(&client, &near)?, Live::download(&client, &far)?];
    // One that allows it changes nothing.
    for namespace in ["shop", "bank"] {
        stage.manifests.write(&format!("{namespace}.yaml"), &isolated(namespace, "[{}]"))?;
    }
    std::thread::sleep(Duration::from_secs(1));
    for live in downloads.iter_mut().chain([&mut direct, &mut handoff]) {
        live.goes_on()?;
    }
    for namespace in ["shop", "bank"] {
        stage.manifests.write(&format!("{namespace}.yaml"), &isolated(namespace, "[]"))?;
    }
    let begun = Instant::now();
    for live in downloads.iter_mut().chain([&mut direct, &mut handoff]) {
        live.ends()?;
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    for (pod, delivery) in [(&near, "direct"), (&far, "handoff")] {
        for at in [pod.at(7000), pod.at(80)] {
            let line = daemon.wait_logged(|line| of(line, &client, at) && line["direction"] == "outbound")?;
            let told = (&line["delivery"], &line["reason"]);
            assert_eq!(told, (&delivery.into(), &"network_policy".into()), "{line}");
        }
    }
    let line =
        daemon.wait_logged(|line| of(line, &client, far.at(7000)) && line["direction"] == "inbound")?;
    assert_eq!(line["reason"], "network_policy", "{line}");
    // Here nobody enforces it on the network, where the next ones go: across the pods' interfaces.
    for pod in [&near, &far] {
        Live::opaque(&client, pod.at(7000))?.goes_on()?;
        let by_tunnel = |line: &Value| of(line, &client, pod.at(7000)) && line["delivery"] == "tunnel";
        let line = daemon.wait_logged(by_tunnel)?;
        assert_eq!(
            (&line["delivery_why"], &line["reason"]),
            (&"network_policy".into(), &Value::Null),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn an_answer_in_plaintext_that_is_forbidden_halfway_is_reset_and_never_looks_whole() -> Outcome {
    let stage = Stage::new()?;
    let server = stage.pod("shop", "server", &[HTTP])?;
    let outside = stage.node.pod("away", "outside")?;
    let _app = Listener::start(&server, server.at(80), |mut stream| {
        head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf")?;
        stream.read_exact(&mut [0])
    })?;
    let mut daemon = stage.daemon()?;
    // To HTTP/1.0, what has no length ends with its connection.
    let mut stream = dial(&outside, server.at(80))?;
    stream.write_all(b"GET / HTTP/1.0\r\nhost: app\r\n\r\n")?;
    assert!(head(&mut stream)?.starts_with("HTTP/1."));
    let mut live = Live { stream, echoes: false };
    live.stream.read_exact(&mut [0; 4])?;
    stage.manifests.write(
        "strict.yaml",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {namespace: shop, name: default}\nspec: {mtls: {mode: STRICT}}\n",
    )?;
    live.ends()?;
    let line = daemon.wait_logged(|line| line["dst.addr"] == server.at(80).to_string())?;
    let told = (&line["direction"], &line["protocol"], &line["reason"]);
    assert_eq!(told, (&"inbound".into(), &"http/1.1".into(), &"plaintext_refused".into()), "{line}");
    assert_eq!(line["src.principal"], Value::Null, "nobody was proven: {line}");
    Ok(())
}

/// Something under way.
struct Live {
    stream: TcpStream,
    echoes: bool,
}

impl Live {
    fn opaque(from: &Pod, to: SocketAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut live = Self { stream: dial(from, to)?, echoes: true };
        live.goes_on()?;
        Ok(live)
    }

    /// A response that has no end.
    fn download(from: &Pod, to: &Pod) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut stream = dial(from, to.at(80))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")?;
        let head = head(&mut stream)?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut live = Self { stream, echoes: false };
        live.goes_on()?;
        Ok(live)
    }

    fn goes_on(&mut self) -> std::io::Result<()> {
        // What came before is not what comes now.
        for _ in 0..3 {
            if self.echoes {
                self.stream.write_all(b"life")?;
            }
            self.stream.read_exact(&mut [0; 4])?;
        }
        Ok(())
    }

    /// It ends in a reset: what has no end of its own would look complete else.
    fn ends(&mut self) -> Outcome {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("it looked complete".into()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An echo at 7000 and 7001, and an endless response at 80.
fn apps(pod: &Pod) -> Result<[Listener; 3], KitError> {
    let endless = Listener::start(pod, pod.at(80), |mut stream| {
        head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            stream.write_all(b"4\r\nmore\r\n")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    })?;
    Ok([endless, Listener::echo(pod, pod.at(7000))?, Listener::echo(pod, pod.at(7001))?])
}

/// Denies `shop/client` these ports of a namespace.
fn denied(namespace: &str, ports: &[&str]) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: {namespace}, name: denied}}\nspec:\n  action: DENY\n  rules:\n\
         \x20 - from: [{{source: {{principals: [cluster.local/ns/shop/sa/client]}}}}]\n\
         \x20   to: [{{operation: {{ports: [{}]}}}}]\n",
        ports.iter().map(|port| format!("\"{port}\"")).collect::<Vec<_>>().join(", ")
    )
}

/// Lets a namespace's pods take in what these rules say.
fn isolated(namespace: &str, ingress: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: isolated}}\n\
         spec:\n  podSelector: {{}}\n  policyTypes: [Ingress]\n  ingress: {ingress}\n"
    )
}

fn of(line: &Value, from: &Pod, to: SocketAddr) -> bool {
    line["src.workload"] == format!("{}/{}", from.namespace(), from.name())
        && line["dst.addr"] == to.to_string()
}

/// The design's bound is 100 ms from the moment a change is read, and `prompt.rs` holds it; a directory is looked at a little
/// later, and a busy machine takes its time.
const SOON: Duration = Duration::from_secs(20);
