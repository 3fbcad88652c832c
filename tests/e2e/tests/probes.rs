//! The kubelet's probes where plaintext is refused: the declared question is answered, from the node alone, and is no way in. Hooks of a
//! container's life are no questions.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, byte, eventually, port};
use testkit::{Daemon, Netns, Node, Outcome, Pod};

const TCP: testkit::manifests::Port = port("tcp-raw", 7000);
/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pod that declares probes, its applications, and a stranger.
struct Scene {
    web: Pod,
    stranger: Pod,
    origin: Origin,
    heard: Arc<AtomicUsize>,
    _listener: Listener,
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let (web, stranger) = (stage.pod("shop", "web", &[HTTP, TCP])?, stage.node.pod("away", "stranger")?);
        let probes = "    image: none\n    readinessProbe: {httpGet: {path: /healthz, port: http}}\n\
                      \x20   livenessProbe: {tcpSocket: {port: 7000}}\n\
                      \x20   lifecycle: {preStop: {httpGet: {path: /leave, port: http}}}\n";
        let text = stage.manifests.read("shop-web-pod.yaml")?.replacen("    image: none\n", probes, 1);
        stage.manifests.write("shop-web-pod.yaml", &text)?;
        let origin = Origin::start(&web, 80)?;
        let heard = Arc::new(AtomicUsize::new(0));
        let bytes = Arc::clone(&heard);
        let listener = Listener::start(&web, web.at(7000), move |mut stream| {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                bytes.fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(Self { web, stranger, origin, heard, _listener: listener, stage })
    }

    /// Who asks what, and what is said: `+` where the application was asked, `-` where the answer is a refusal.
    fn answers(&self) -> Result<String, testkit::KitError> {
        let (node, stranger) = (self.stage.node.netns(), self.stranger.netns());
        let (v4, v6) = (self.web.at(80), self.web.at_v6(80));
        let questions: [(&Netns, SocketAddr, &str); 9] = [
            (node, v4, "GET /healthz HTTP/1.1"),
            (node, v6, "GET /healthz HTTP/1.1"),
            (node, v4, "GET / HTTP/1.1"),
            (node, v4, "GET /healthz?x=1 HTTP/1.1"),
            (node, v4, "POST /healthz HTTP/1.1"),
            (stranger, v4, "GET /healthz HTTP/1.1"),
            (node, self.web.at(7000), "GET /healthz HTTP/1.1"),
            (node, v4, "GET /leave HTTP/1.1"),
            (stranger, v4, "GET /leave HTTP/1.1"),
        ];
        let answers = questions.into_iter().map(|(from, to, line)| {
            let before = (self.origin.seen().len(), self.heard.load(Ordering::Relaxed));
            let is_answered = from.run(|| ask(to, line))?;
            let asked = (self.origin.seen().len(), self.heard.load(Ordering::Relaxed)) != before;
            assert_eq!(is_answered, asked, "{line} at {to}");
            Ok(if asked { '+' } else { '-' })
        });
        answers.collect()
    }
}

/// Whether a request is answered with 200.
fn ask(to: SocketAddr, line: &str) -> bool {
    e2e::is_answered(to, &format!("{line}\r\nhost: web\r\nx-mine: 1"))
}

fn policy(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: policy, namespace: shop}}\nspec: {spec}\n"
    )
}

fn strict() -> String {
    policy("PeerAuthentication", "{mtls: {mode: STRICT}}")
}

#[test]
fn the_declared_question_is_answered_from_the_node_alone_whatever_refuses_the_rest() -> Outcome {
    let scene = Scene::new()?;
    for (what, refusal) in [
        ("STRICT", strict()),
        ("ALLOW nobody", policy("AuthorizationPolicy", "{}")),
        ("DENY everybody", policy("AuthorizationPolicy", "{action: DENY, rules: [{}]}")),
        ("what cannot be read", policy("AuthorizationPolicy", "{action: DENY, rules: 7}")),
    ] {
        scene.stage.manifests.write("policy.yaml", &refusal)?;
        let daemon = scene.stage.daemon()?;
        let before = scene.origin.seen().len();
        assert_eq!(scene.answers()?, "++-------", "{what}");
        for seen in &scene.origin.seen()[before..] {
            let agent = seen.headers.get("user-agent").and_then(|value| value.to_str().ok());
            assert_eq!(seen.uri.path(), "/healthz", "{seen:?}");
            assert_eq!(agent, Some("kube-probe/canopy"), "{seen:?}");
            assert!(!seen.headers.contains_key("x-mine"), "the question is made anew: {seen:?}");
        }
        let refused = || daemon.metric("canopy_refused_total", &["tenant=\"ns/shop\""]);
        eventually(what, || refused().is_ok_and(|count| count >= 4.0))?;
        drop(daemon);
        scene.stage.manifests.remove("policy.yaml")?;
    }
    Ok(())
}

#[test]
fn a_probe_comes_from_the_addresses_that_are_the_nodes_and_from_no_other() -> Outcome {
    let scene = Scene::new()?;
    scene.stage.manifests.write("policy.yaml", &strict())?;
    let own = format!("{},fd77::1", "10.77.0.1");
    for (addresses, expected) in
        [(own.as_str(), "++-------"), ("10.77.0.1", "+--------"), ("10.77.0.200", "---------")]
    {
        let arguments: Vec<_> = addresses.split(',').flat_map(|address| ["--node-ip", address]).collect();
        let _daemon = scene.stage.daemon_with(&arguments)?;
        assert_eq!(scene.answers()?, expected, "--node-ip {addresses}");
    }
    Ok(())
}

#[test]
fn a_tcp_probe_reaches_the_application_and_brings_it_nothing() -> Outcome {
    let scene = Scene::new()?;
    scene.stage.manifests.write("policy.yaml", &strict())?;
    let mut daemon = scene.stage.daemon()?;
    let (node, to) = (scene.stage.node.netns(), scene.web.at(7000));
    // The kubelet connects, and closes.
    node.run(|| TcpStream::connect_timeout(&to, PATIENCE).map(drop))??;
    let answered =
        |daemon: &Daemon| daemon.metric("canopy_accept_connections_total", &["tenant=\"ns/shop\""]);
    eventually("it was dealt with", || answered(&daemon).is_ok_and(|count| count >= 1.0))?;
    let says = |from: &Netns| {
        from.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"let me in")?;
            byte(&stream)
        })
    };
    for from in [node, scene.stranger.netns()] {
        let end = says(from)?;
        assert!(e2e::is_reset(&end) || matches!(end, Ok(0)), "{end:?}");
    }
    assert_eq!(scene.heard.load(Ordering::Relaxed), 0, "the application heard nothing");
    daemon.wait_logged(|line| line["reason"] == "plaintext_refused" && line["dst.addr"] == to.to_string())?;
    Ok(())
}

/// Leads these ports of a node's own addresses to the pod, as kube-proxy does: what comes has the node's address, since the answers
/// have to come back to the node.
fn node_ports(node: &Node, web: &Pod) -> Outcome {
    for (program, pod) in
        [("iptables-restore", IpAddr::from(web.v4())), ("ip6tables-restore", web.v6().into())]
    {
        let lead = |(from, to): (u16, u16)| {
            let to = SocketAddr::new(pod, to);
            format!(
                "-A NODEPORTS -p tcp --dport {from} -j MARK --set-xmark 0x4000/0x4000\n\
                     -A NODEPORTS -p tcp --dport {from} -j DNAT --to-destination {to}\n"
            )
        };
        let rules = format!(
            "*nat\n:NODEPORTS - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j NODEPORTS\n{}\
             -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE\nCOMMIT\n",
            NODE_PORTS.map(lead).concat()
        );
        let status = node.netns().run(|| {
            let mut restore = Command::new(program).arg("--noflush").stdin(Stdio::piped()).spawn()?;
            restore.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(rules.as_bytes()))?;
            restore.wait()
        })??;
        assert!(status.success(), "{program}: {status}");
    }
    Ok(())
}

/// From outside the node, to one of its ports: all that is answered, or nothing.
fn from_outside(outside: &Pod, to: SocketAddr, line: &str) -> Result<String, testkit::KitError> {
    outside.run(|| {
        let mut answer = Vec::new();
        let said = TcpStream::connect_timeout(&to, PATIENCE).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "{line}\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            stream.read_to_end(&mut answer)
        });
        // However it ends.
        drop(said);
        String::from_utf8_lossy(&answer).to_ascii_lowercase()
    })
}

#[test]
fn what_comes_by_a_node_port_has_the_nodes_address_and_is_let_in_no_more_for_it() -> Outcome {
    let scene = Scene::new()?;
    let beside = scene.stage.node.beside()?;
    let outside = beside.pod("away", "outside")?;
    node_ports(&scene.stage.node, &scene.web)?;
    let nodes: [SocketAddr; 2] = ["10.77.0.1:30080".parse()?, "[fd77::1]:30080".parse()?];
    let raw: SocketAddr = "10.77.0.1:30070".parse()?;
    // Where plaintext is taken, a NodePort leads to the app: what is refused below is not what never comes.
    let mut daemon = scene.stage.daemon()?;
    for to in nodes {
        let answer = from_outside(&outside, to, "GET / HTTP/1.1")?;
        assert!(answer.starts_with("http/1.1 200 ") && answer.contains("x-pod: web"), "{to}: {answer}");
    }
    let peers: Vec<_> = scene.origin.seen().iter().map(|seen| seen.peer.ip().to_canonical()).collect();
    assert_eq!(peers, nodes.map(|node| node.ip()), "the app, too, sees the node's address");
    scene.stage.put(&daemon, "policy.yaml", &strict())?;

    let before = scene.origin.seen().len();
    let mut refused = 0.0;
    for to in nodes {
        for line in ["GET /", "POST /healthz", "GET /healthz?x=1", "GET /leave"] {
            let answer = from_outside(&outside, to, &format!("{line} HTTP/1.1"))?;
            let is_told = answer.contains("\r\ncanopy-refused: plaintext_refused\r\n");
            assert!(answer.starts_with("http/1.1 403 ") && is_told, "{line} at {to}: {answer}");
            refused += 1.0;
            let of = ["reason=\"plaintext_refused\"", "tenant=\"ns/shop\""];
            daemon.wait_metric("canopy_refused_total", &of, refused)?;
        }
        // The kubelet's own question, from the same address.
        let pod = if to.is_ipv4() { scene.web.at(80) } else { scene.web.at_v6(80) };
        assert!(scene.stage.node.netns().run(|| ask(pod, "GET /healthz HTTP/1.1"))?, "{pod}");
        let line = daemon.wait_logged(|line| {
            let from = line["src.addr"].as_str().and_then(|addr| addr.parse::<SocketAddr>().ok());
            from.is_some_and(|from| from.ip() == to.ip()) && line["reason"] == "plaintext_refused"
        });
        line.map_err(|error| format!("{to}: {error}"))?;
    }
    assert_eq!(from_outside(&outside, raw, "let me in")?, "", "a TCP probe's port takes no word");
    let seen = scene.origin.seen().split_off(before);
    assert!(seen.len() == nodes.len() && seen.iter().all(|seen| seen.uri.path() == "/healthz"), "{seen:#?}");
    assert_eq!(scene.heard.load(Ordering::Relaxed), 0, "nothing of what was refused came to the application");

    // Nothing tells the kubelet's question from the same one of others: who asks it learns whether the app is well, and nothing more.
    let answer = from_outside(&outside, nodes[0], "GET /healthz HTTP/1.1")?;
    assert!(answer.starts_with("http/1.1 200 ") && answer.ends_with("\r\n\r\n"), "no body: {answer}");
    assert!(!answer.contains("x-pod"), "nothing of the app's: {answer}");
    let agent = scene.origin.seen().pop().and_then(|seen| seen.headers.get("user-agent").cloned());
    assert_eq!(agent.as_ref().and_then(|agent| agent.to_str().ok()), Some("kube-probe/canopy"));
    Ok(())
}

/// NodePorts, and the pod's own.
const NODE_PORTS: [(u16, u16); 2] = [(30080, 80), (30070, 7000)];
