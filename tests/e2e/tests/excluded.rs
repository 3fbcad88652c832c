//! A pod's author may leave a port alone; whether anybody may come in by it in the clear is for the mesh to say, and follows every edit.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use e2e::{HTTP, Listener, Stage, eventually, is_reset, port};
use testkit::{Netns, Outcome};

const LEFT: u16 = 7000;
const OPEN: &str = "portLevelMtls: {'7000': {mode: PERMISSIVE}}";

#[test]
fn a_port_that_a_pod_leaves_alone_takes_plaintext_only_where_peer_authentication_does() -> Outcome {
    let stage = Stage::new()?;
    let web = stage.pod("shop", "web", &[HTTP, port("tcp-left", LEFT)])?;
    let text = stage.manifests.read("shop-web-pod.yaml")?;
    let text = text.replacen("  name: web\n", "  name: web\n  labels: {app: web}\n", 1);
    let left = format!("annotations: {{canopy.mesh/exclude-inbound-ports: \"{LEFT}\", ");
    stage.manifests.write("shop-web-pod.yaml", &text.replacen("annotations: {", &left, 1))?;
    let stranger = stage.node.pod("away", "stranger")?;
    let _echo = Listener::echo(&web, web.at(LEFT))?;
    let (from, to) = (stranger.netns(), web.at(LEFT));
    let daemon = stage.daemon()?;
    let mut live = open(from, to)?;
    assert!(says(&mut live), "nobody closes it");

    stage.put(&daemon, "peers.yaml", &peers(""))?;
    assert!(is_refused(from, to), "STRICT closes it");
    eventually("what came in before is cut", || is_reset(&live.read(&mut [0; 8])))?;
    let status = daemon.canopy(&["status"])?;
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("not obeyed for port 7000, since PeerAuthentication shop/peers"), "{said}");

    stage.put(&daemon, "peers.yaml", &peers(OPEN))?;
    assert!(says(&mut open(from, to)?), "its own rule opens it");

    // What the kernel can tell by addresses alone it denies there too.
    let deny = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: deny, namespace: shop}}\n\
         spec: {{action: DENY, rules: [{{from: [{{source: {{ipBlocks: [{}]}}}}]}}]}}\n",
        stranger.v4()
    );
    stage.put(&daemon, "deny.yaml", &deny)?;
    assert!(is_refused(from, to), "a denial holds there");
    stage.put(&daemon, "deny.yaml", "")?;
    assert!(says(&mut open(from, to)?), "and goes with its policy");
    Ok(())
}

fn peers(ports: &str) -> String {
    let ports = if ports.is_empty() { String::new() } else { format!(", {ports}") };
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: peers, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: STRICT}}{ports}}}\n"
    )
}

fn open(from: &Netns, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = from
        .run(|| TcpStream::connect_timeout(&to, Duration::from_millis(1500)))
        .map_err(std::io::Error::other)??;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Whether what is said comes back.
fn says(stream: &mut TcpStream) -> bool {
    let mut heard = [0; 5];
    stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut heard)).is_ok() && &heard == b"hello"
}

/// By the proxy, with a reset, or by the kernel, with silence.
fn is_refused(from: &Netns, to: SocketAddr) -> bool {
    match open(from, to) {
        Ok(mut stream) => !says(&mut stream),
        Err(error) => matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionReset),
    }
}
