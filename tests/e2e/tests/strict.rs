//! Plaintext to a pod that takes none: whoever sends it, from wherever, to whichever port, no application hears it.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{HTTP, Listener, Stage, byte, dial, prompt};
use testkit::{Netns, Outcome, Pod, manifests::Port};

/// A protected pod with applications at a declared port and at one that nobody knows of, and callers.
struct Scene {
    web: Pod,
    stranger: Pod,
    excluded: Pod,
    peer: Pod,
    heard: Arc<AtomicUsize>,
    _listeners: [Listener; 2],
    stage: Stage,
}

const UNKNOWN: u16 = 7001;
const PATIENCE: Duration = Duration::from_secs(30);

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let web = stage.pod("shop", "web", &[HTTP])?;
        let text = stage.manifests.read("shop-web-pod.yaml")?;
        let labelled = text.replacen(
            "  name: web\n  annotations",
            "  name: web\n  labels: {app: web}\n  annotations",
            1,
        );
        stage.manifests.write("shop-web-pod.yaml", &labelled)?;
        let (stranger, peer) = (stage.node.pod("away", "stranger")?, stage.pod("bank", "peer", &[])?);
        // In the mesh, but not steered to where the pod is: what it sends there is its own plaintext.
        let excluded = stage.pod("bank", "excluded", &[] as &[Port])?;
        let text = stage.manifests.read("bank-excluded-pod.yaml")?;
        let around = format!(
            "annotations: {{canopy.mesh/exclude-outbound-cidrs: \"{}/32, {}/128\", ",
            web.v4(),
            web.v6()
        );
        stage.manifests.write("bank-excluded-pod.yaml", &text.replacen("annotations: {", &around, 1))?;
        let heard = Arc::new(AtomicUsize::new(0));
        let listen = |port| {
            let heard = Arc::clone(&heard);
            Listener::start(&web, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), move |mut stream| {
                heard.fetch_add(1, Ordering::Relaxed);
                let _asked = stream.read(&mut [0; 256])?;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                let _end = byte(&stream)?;
                Ok(())
            })
        };
        let listeners = [listen(80)?, listen(UNKNOWN)?];
        Ok(Self { web, stranger, excluded, peer, heard, _listeners: listeners, stage })
    }
}

fn peers(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: peers, namespace: shop}}\nspec: {spec}\n"
    )
}

fn strict() -> String {
    peers("{mtls: {mode: STRICT}}")
}

/// Whether an application answers.
fn is_answered(from: &Netns, to: SocketAddr) -> Result<bool, testkit::KitError> {
    from.run(|| {
        let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) else { return false };
        ask(&mut stream)
    })
}

fn ask(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 12];
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && &answer == b"HTTP/1.1 200"
}

#[test]
fn no_application_hears_plaintext_from_anybody_at_any_port_in_any_family() -> Outcome {
    let scene = Scene::new()?;
    scene.stage.manifests.write("policy.yaml", &strict())?;
    let web = &scene.web;
    let outsiders = [
        ("a stranger", scene.stranger.netns()),
        ("the node", scene.stage.node.netns()),
        ("a peer around its proxy", scene.excluded.netns()),
    ];
    for fence in ["on", "observe", "off"] {
        let mut daemon = scene.stage.daemon_with(&["--fence", fence])?;
        for (who, from) in outsiders {
            for to in [web.at(80), web.at_v6(80), web.at(UNKNOWN), web.at_v6(UNKNOWN)] {
                assert!(!is_answered(from, to)?, "--fence {fence}: {who} was answered at {to}");
            }
        }
        assert_eq!(scene.heard.swap(0, Ordering::Relaxed), 0, "--fence {fence}");
        let line = daemon.wait_logged(|line| line["reason"] == "plaintext_refused")?;
        assert_eq!(
            (&line["policy"], &line["direction"]),
            (&"shop/peers".into(), &"inbound".into()),
            "{line}"
        );
        // Three callers at four addresses.
        let labels = ["tenant=\"ns/shop\"", "reason=\"plaintext_refused\""];
        daemon.wait_metric("canopy_refused_total", &labels, 12.0)?;
        // Who proves itself is answered, and so is the pod by itself.
        for from in [scene.peer.netns(), web.netns()] {
            assert!(is_answered(from, web.at(80))? && is_answered(from, web.at_v6(UNKNOWN))?);
        }
        assert_eq!(scene.heard.swap(0, Ordering::Relaxed), 4);
    }
    Ok(())
}

#[test]
fn datagrams_are_no_business_of_the_fences() -> Outcome {
    let scene = Scene::new()?;
    scene.stage.manifests.write("policy.yaml", &strict())?;
    let _daemon = scene.stage.daemon_with(&["--fence", "on"])?;
    let to = scene.web.at(7002);
    let server = scene.web.run(|| UdpSocket::bind(to))??;
    let client = scene.stranger.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    client.send_to(b"hello", to)?;
    let mut said = [0; 5];
    let (_, from) = server.recv_from(&mut said)?;
    server.send_to(&said, from)?;
    assert_eq!(client.recv_from(&mut said)?, (5, to));
    Ok(())
}

#[test]
fn a_live_connection_in_the_clear_ends_when_plaintext_is_refused() -> Outcome {
    let scene = Scene::new()?;
    let mut daemon = scene.stage.daemon_with(&["--fence", "on"])?;
    prompt::kept("plaintext under STRICT", || {
        scene.stage.put(&daemon, "policy.yaml", &peers("{mtls: {mode: PERMISSIVE}}"))?;
        let mut live = dial(&scene.stranger, scene.web.at(UNKNOWN))?;
        live.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")?;
        assert!(e2e::head(&mut live)?.starts_with("HTTP/1.1 200"));
        let is_forbidden = || scene.stage.manifests.write("policy.yaml", &strict());
        Ok(prompt::ends(&daemon, &mut [&mut live], is_forbidden)?.iter().map(|end| end.after).collect())
    })?;
    daemon.wait_logged(|line| line["reason"] == "plaintext_refused" && line["policy"] == "shop/peers")?;
    Ok(())
}

/// As the documentation says of gateways that are not in the mesh and speak in the clear.
#[test]
fn a_gateway_outside_the_mesh_is_let_in_at_its_port_by_its_address_and_nobody_else_is() -> Outcome {
    let scene = Scene::new()?;
    let gateway = &scene.stranger;
    let text = peers(
        "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}}",
    ) + &format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: ingress, namespace: shop}}\n\
             spec:\n  selector: {{matchLabels: {{app: web}}}}\n  rules:\n  - from: [{{source: {{ipBlocks: [{}]}}}}]\n    \
             to: [{{operation: {{ports: [\"80\"]}}}}]\n  - from: [{{source: {{namespaces: [bank]}}}}]\n",
        gateway.v4()
    );
    scene.stage.manifests.write("policy.yaml", &text)?;
    let _daemon = scene.stage.daemon()?;
    let (http, other) = (scene.web.at(80), scene.web.at(UNKNOWN));
    for (who, from, at_80, at_other) in [
        ("the gateway", gateway.netns(), true, false),
        ("the node", scene.stage.node.netns(), false, false),
        ("a peer around its proxy", scene.excluded.netns(), false, false),
        ("a peer", scene.peer.netns(), true, true),
    ] {
        assert_eq!((is_answered(from, http)?, is_answered(from, other)?), (at_80, at_other), "{who}");
    }
    assert!(!is_answered(gateway.netns(), scene.web.at_v6(80))?, "its other address is another");
    Ok(())
}
