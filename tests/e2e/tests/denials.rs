//! Denials that need no identity are the kernel's: it refuses whom the proxy would refuse, nobody else, and for no longer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, eventually, port};
use rustix::process::Signal;
use testkit::{Daemon, Netns, Options, Outcome, Pod, unique_name};

const OTHER: testkit::manifests::Port = port("http-other", 9090);

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Answered by the application: `+`.
    LetIn,
    /// Refused by the proxy: `u`.
    Refused,
    /// Met with silence, that is, refused by the kernel: `k`.
    Silence,
}
use Fate::{LetIn, Refused, Silence};

/// A workload, those who call it, and a node.
struct Scene {
    near: Pod,
    far: Pod,
    peer: Pod,
    web: Pod,
    _origins: [Origin; 2],
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        // The first two are nobody's: their plaintext comes to the workload across its link.
        let (near, far) = (stage.node.pod("away", "near")?, stage.node.pod("away", "far")?);
        let peer = stage.pod("bank", "peer", &[])?;
        let web = stage.pod("shop", "web", &[HTTP, OTHER])?;
        let text = stage.manifests.read("shop-web-pod.yaml")?;
        let labelled = text.replacen(
            "  name: web\n  annotations",
            "  name: web\n  labels: {app: web}\n  annotations",
            1,
        );
        stage.manifests.write("shop-web-pod.yaml", &labelled)?;
        stage.service(("shop", "web"), 10, &[HTTP, OTHER], &[&web])?;
        let origins = [Origin::start(&web, 80)?, Origin::start(&web, 9090)?];
        Ok(Self { near, far, peer, web, _origins: origins, stage })
    }

    /// Every call of the table: `near` at both ports, `far` at both, `near` by IPv6, the node, and a workload of another tenant.
    fn fates(&self) -> Result<String, testkit::KitError> {
        let (web, node) = (&self.web, self.stage.node.netns());
        let calls: [(&Netns, SocketAddr); 7] = [
            (self.near.netns(), web.at(80)),
            (self.near.netns(), web.at(9090)),
            (self.far.netns(), web.at(80)),
            (self.far.netns(), web.at(9090)),
            (self.near.netns(), web.at_v6(80)),
            (node, web.at(80)),
            (self.peer.netns(), web.at(9090)),
        ];
        thread::scope(|scope| {
            let calls = calls.map(|(from, to)| scope.spawn(move || from.run(|| fate(to))));
            let fates = calls
                .into_iter()
                .map(|call| call.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            fates.map(|fate| fate.map(sign)).collect()
        })
    }

    fn refused_by_the_kernel(&self, daemon: &Daemon, verdict: &str) -> f64 {
        let labels = ["pod=\"shop/web\"", "reason=\"denied\"", &format!("verdict=\"{verdict}\"")];
        daemon.metric("canopy_fence_packets_total", &labels).unwrap_or(f64::NAN)
    }

    fn refused_by_the_proxy(&self, daemon: &Daemon) -> f64 {
        daemon.metric("canopy_refused_total", &["tenant=\"ns/shop\""]).unwrap_or(f64::NAN)
    }

    /// A policy that denies `near`, at its IPv4 address.
    fn deny_near(&self) -> String {
        let near = self.near.v4();
        authorization(
            "deny",
            "shop",
            &format!("{{action: DENY, rules: [{{from: [{{source: {{ipBlocks: [{near}]}}}}]}}]}}"),
        )
    }
}

/// Asks for a page. Silence is a second and a half of it: who is answered at all is answered by the kernel, at once.
fn fate(to: SocketAddr) -> Fate {
    let mut stream = match TcpStream::connect_timeout(&to, Duration::from_millis(1500)) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::TimedOut => return Silence,
        Err(_) => return Refused,
    };
    let mut answer = [0; 12];
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    if asked.is_ok() && &answer == b"HTTP/1.1 200" { LetIn } else { Refused }
}

fn sign(fate: Fate) -> char {
    match fate {
        LetIn => '+',
        Refused => 'u',
        Silence => 'k',
    }
}

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn authorization(name: &str, namespace: &str, spec: &str) -> String {
    object("AuthorizationPolicy", name, namespace, spec)
}

#[test]
fn a_denial_by_address_is_the_kernels_is_counted_and_follows_every_edit() -> Outcome {
    let scene = Scene::new()?;
    let daemon = scene.stage.daemon()?;
    assert_eq!(scene.fates()?, "+++++++");
    scene.stage.put(&daemon, "deny.yaml", &scene.deny_near())?;
    assert_eq!(scene.fates()?, "kk+++++");
    assert!(scene.refused_by_the_kernel(&daemon, "dropped") >= 2.0, "{}", daemon.scrape("/metrics")?.text());
    assert_eq!(scene.refused_by_the_proxy(&daemon), 0.0, "the proxy never saw it");

    let narrower =
        scene.deny_near().replace("rules: [{", "rules: [{to: [{operation: {ports: [\"9090\"]}}], ");
    scene.stage.put(&daemon, "deny.yaml", &narrower)?;
    assert_eq!(scene.fates()?, "+k+++++");
    scene.stage.put(&daemon, "deny.yaml", "")?;
    assert_eq!(scene.fates()?, "+++++++");
    Ok(())
}

/// What a policy does to each call, and whose refusal it is where the kernel may refuse.
#[test]
fn the_kernel_refuses_nobody_whom_the_proxy_would_let_in() -> Outcome {
    let scene = Scene::new()?;
    for fence in ["on", "off", "observe"] {
        let daemon = scene.stage.daemon_with(&["--fence", fence])?;
        for (number, (what, policies, expected)) in TABLE.iter().enumerate() {
            // What the kernel does not refuse, the proxy does: the same callers, another refusal.
            let expected = if fence == "on" { (*expected).to_owned() } else { expected.replace('k', "u") };
            scene.stage.put(&daemon, "policy.yaml", &manifests(&scene, number, policies))?;
            let mut fates = String::new();
            // Cells take up their policies each for itself.
            let settled = eventually(what, || {
                scene.fates().is_ok_and(|now| {
                    fates = now;
                    fates == expected
                })
            });
            assert!(settled.is_ok(), "--fence {fence}, {what}: {fates}, not {expected}");
            scene.stage.put(&daemon, "policy.yaml", "")?;
        }
        assert_eq!(scene.fates()?, "+++++++", "--fence {fence}");
        assert_eq!(scene.refused_by_the_kernel(&daemon, "dropped") > 0.0, fence == "on");
        assert_eq!(scene.refused_by_the_kernel(&daemon, "observed") > 0.0, fence == "observe");
    }
    Ok(())
}

/// Policies (each on a line: kind, namespace, spec), and what becomes of the calls of [`Scene::fates`] in their order.
const TABLE: [(&str, &str, &str); 29] = [
    ("DENY an address", "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}", "kk+++++"),
    ("DENY a port", "A shop {action: DENY, rules: [{to: [{operation: {ports: ['9090']}}]}]}", "+k+k++u"),
    (
        "DENY an address at a port",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}], to: [{operation: {ports: ['9090']}}]}]}",
        "+k+++++",
    ),
    (
        "DENY a network but an address",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [10.77.0.0/24], notIpBlocks: [FAR]}}]}]}",
        "uu+++uu",
    ),
    ("DENY everybody", "A shop {action: DENY, rules: [{}]}", "kkkkkuu"),
    // Rejected, as Istio does: whoever wrote it meant somebody.
    ("DENY without a rule", "A shop {action: DENY, rules: []}", "uuuuuuu"),
    (
        "DENY all of IPv6",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: ['::/0']}}]}]}",
        "++++k++",
    ),
    (
        "DENY the IPv6 around IPv4",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: ['::fffe:0:0/95']}}]}]}",
        "+++++++",
    ),
    (
        "DENY an address or a namespace",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}, {source: {namespaces: [bank]}}]}]}",
        "kk++++u",
    ),
    (
        "DENY an address in a namespace",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR], namespaces: [bank]}}]}]}",
        "+++++++",
    ),
    (
        "DENY an address not in a namespace",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR], notNamespaces: [bank]}}]}]}",
        "uu+++++",
    ),
    (
        "DENY an address and a path",
        "A shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}], to: [{operation: {paths: [/x]}}]}]}",
        "uu+++++",
    ),
    (
        "DENY by condition",
        "A shop {action: DENY, rules: [{when: [{key: source.ip, values: [NEAR]}]}]}",
        "kk+++++",
    ),
    (
        "DENY by selector",
        "A shop {action: DENY, selector: {matchLabels: {app: web}}, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kk+++++",
    ),
    (
        "DENY others by selector",
        "A shop {action: DENY, selector: {matchLabels: {app: else}}, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "+++++++",
    ),
    (
        "DENY by the Service",
        "A shop {action: DENY, targetRefs: [{kind: Service, name: web}], rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kk+++++",
    ),
    (
        "DENY in the mesh",
        "A istio-system {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kk+++++",
    ),
    (
        "DENY in another namespace",
        "A bank {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "+++++++",
    ),
    ("ALLOW an address", "A shop {rules: [{from: [{source: {ipBlocks: [FAR]}}]}]}", "uu++uuu"),
    (
        "ALLOW an address, DENY it a port",
        "A shop {rules: [{from: [{source: {ipBlocks: [FAR]}}]}]}\nA shop {action: DENY, rules: [{from: [{source: {ipBlocks: [FAR]}}], to: [{operation: {ports: ['9090']}}]}]}",
        "uu+kuuu",
    ),
    (
        "ALLOW and DENY the same",
        "A shop {rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}\nA shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kkuuuuu",
    ),
    (
        "CUSTOM, where nobody is asked",
        "A shop {action: CUSTOM, provider: {name: ask}, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kk+++++",
    ),
    (
        "CUSTOM by path, where nobody is asked",
        "A shop {action: CUSTOM, provider: {name: ask}, rules: [{to: [{operation: {paths: [/x]}}]}]}",
        "uuuuuuu",
    ),
    ("AUDIT", "A shop {action: AUDIT, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}", "+++++++"),
    ("a dry run", "DRY shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}", "+++++++"),
    ("what cannot be read", "A shop {action: DENY, rules: 7}", "uuuuuuu"),
    ("STRICT", "P shop {mtls: {mode: STRICT}}", "uuuuuu+"),
    (
        "STRICT at a port",
        "P shop {selector: {matchLabels: {app: web}}, portLevelMtls: {9090: {mode: STRICT}}}",
        "+u+u+++",
    ),
    (
        "STRICT, DENY an address",
        "P shop {mtls: {mode: STRICT}}\nA shop {action: DENY, rules: [{from: [{source: {ipBlocks: [NEAR]}}]}]}",
        "kkuuuu+",
    ),
];

/// The manifests of a line of the table: their names are new ones, so that nothing of an earlier line is kept for them.
fn manifests(scene: &Scene, number: usize, policies: &str) -> String {
    let policies =
        policies.replace("NEAR", &scene.near.v4().to_string()).replace("FAR", &scene.far.v4().to_string());
    let objects = policies.lines().enumerate().map(|(line, policy)| {
        let mut words = policy.splitn(3, ' ');
        let [kind, namespace, spec] = [(); 3].map(|()| words.next().unwrap_or_default());
        let name = format!("p{number}-{line}");
        match kind {
            "P" => object("PeerAuthentication", &name, namespace, spec),
            "A" => authorization(&name, namespace, spec),
            _ => {
                authorization(&name, &format!("{namespace}, annotations: {{istio.io/dry-run: 'true'}}"), spec)
            }
        }
    });
    objects.collect()
}

#[test]
fn what_a_dead_daemon_denied_is_denied_until_the_next_one_knows_better() -> Outcome {
    let scene = Scene::new()?;
    let options = Options { instance: Some(unique_name(900)), ..Options::default() };
    let start = || Daemon::start_with(&scene.stage.node, scene.stage.manifests.path(), &options);
    scene.stage.manifests.write("deny.yaml", &scene.deny_near())?;
    let kill = |mut daemon: Daemon| -> Outcome {
        daemon.process().signal(Signal::KILL);
        daemon.process().wait(Duration::from_secs(30)).ok_or("a killed process ends")?;
        Ok(())
    };
    let daemon = start()?;
    assert_eq!(scene.fates()?, "kk+++++");
    kill(daemon)?;
    assert_eq!(&scene.fates()?[..2], "kk");
    let daemon = start()?;
    assert_eq!(scene.fates()?, "kk+++++", "it says the same");
    kill(daemon)?;
    scene.stage.manifests.remove("deny.yaml")?;
    let _daemon = start()?;
    assert_eq!(scene.fates()?, "+++++++", "nobody says so any more");
    Ok(())
}
