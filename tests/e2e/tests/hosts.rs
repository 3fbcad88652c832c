//! A tenant that is kept to the mesh reaches the hosts that a ServiceEntry names, at the addresses that a real resolver gives
//! for them, for as long as it does.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

use e2e::{Dns, Listener, Stage, byte, dial, eventually, is_reset};
use testkit::{Daemon, Options, Outcome, Pod};

/// Looked up every second, and kept for longer than a busy machine takes to see that.
const PACE: [&str; 4] = ["--resolve-every", "1", "--resolve-keep", "8"];

struct Scene {
    daemon: Daemon,
    client: Pod,
    outside: [Pod; 2],
    dns: Dns,
    _echoes: Vec<Listener>,
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let outside = [stage.node.pod("away", "one")?, stage.node.pod("away", "two")?];
        let mut echoes = Vec::new();
        for pod in &outside {
            for port in [7000, 7001] {
                echoes.push(Listener::echo(pod, SocketAddr::new([0_u16; 8].into(), port))?);
            }
        }
        stage.manifests.write(
            "tenant.yaml",
            "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: shop}\n\
             spec: {namespaces: [shop], egress: mesh}\n",
        )?;
        let dns = Dns::start(&stage.node)?;
        let arguments = PACE.map(str::to_owned).to_vec();
        let options = Options { binary: Some(dns.asked_by_daemon()?), arguments, ..Options::default() };
        let daemon = Daemon::start_with(&stage.node, stage.manifests.path(), &options)?;
        Ok(Self { daemon, client, outside, dns, _echoes: echoes, stage })
    }

    /// Puts a ServiceEntry for port 7000 in place of the one that was, with these further fields; none, if they are empty.
    fn entry(&self, more: &str) -> Result<(), testkit::KitError> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: pay, namespace: shop}}\n\
             spec: {{ports: [{{number: 7000, name: tcp, protocol: TCP}}], {more}}}\n"
        );
        self.stage.put(&self.daemon, "entry.yaml", if more.is_empty() { "" } else { &text })
    }

    /// Whether the first outsider is reached at port 7000, at 7001, and the second at 7000.
    fn reached(&self) -> [bool; 3] {
        let [one, two] = &self.outside;
        [one.at(7000), one.at(7001), two.at(7000)]
            .map(|to| dial(&self.client, to).is_ok_and(|mut stream| echoes(&mut stream)))
    }

    fn settles(&self, what: &str, expected: [bool; 3]) {
        let mut reached = [false; 3];
        let settled = eventually(what, || {
            reached = self.reached();
            reached == expected
        });
        assert!(settled.is_ok(), "{what}: {reached:?}, not {expected:?}\n{}", self.daemon.output());
    }

    fn addresses(&self) -> [Ipv4Addr; 2] {
        [self.outside[0].v4(), self.outside[1].v4()]
    }
}

/// Whether both ends hear each other.
fn echoes(stream: &mut std::net::TcpStream) -> bool {
    let mut back = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"hello"
}

#[test]
fn a_host_opens_at_the_addresses_it_has_follows_them_and_cuts_what_is_connected_when_they_go() -> Outcome {
    let mut scene = Scene::new()?;
    let [one, two] = scene.addresses();
    scene.dns.say("pay.example.org", &[one]);
    assert_eq!(scene.reached(), [false; 3]);
    scene.entry("hosts: [Pay.Example.org], resolution: DNS")?;
    scene.settles("it opens", [true, false, false]);
    let mut live = dial(&scene.client, scene.outside[0].at(7000))?;
    assert!(echoes(&mut live));

    scene.dns.say("pay.example.org", &[two]);
    scene.settles("answers rotate: both are open", [true, false, true]);
    assert!(echoes(&mut live), "a connection is not cut while its address is kept");
    scene.settles("the first has not been seen for long", [false, false, true]);
    let end = byte(&live);
    assert!(is_reset(&end), "{end:?}");
    let cut = |line: &serde_json::Value| line["bytes_received"] == 10 && line["reason"] == "egress_forbidden";
    scene.daemon.wait_logged(cut)?;

    let mut live = dial(&scene.client, scene.outside[1].at(7000))?;
    assert!(echoes(&mut live));
    scene.dns.say("pay.example.org", &[]);
    scene.settles("there is no such host any more", [false; 3]);
    assert!(is_reset(&byte(&live)));
    eventually("it says so", || scene.daemon.output().contains("cannot be looked up"))?;

    scene.dns.say("pay.example.org", &[one]);
    scene.settles("it is back", [true, false, false]);
    let mut live = dial(&scene.client, scene.outside[0].at(7000))?;
    assert!(echoes(&mut live));
    scene.entry("")?;
    assert!(is_reset(&byte(&live)), "the entry's end needs no answer");
    scene.settles("it is closed", [false; 3]);
    Ok(())
}

#[test]
fn each_resolution_opens_what_it_says_and_nothing_else() -> Outcome {
    let scene = Scene::new()?;
    let [one, two] = scene.addresses();
    scene.dns.say("pay.example.org", &[one]);
    scene.dns.say("any.example.org", &[two]);
    // The node's own address is nobody's answer.
    scene.dns.say("node.example.org", &[Ipv4Addr::LOCALHOST, two]);
    let table = [
        ("DNS", "hosts: [pay.example.org], resolution: DNS".to_owned(), [true, false, false]),
        (
            "NONE without addresses",
            "hosts: [pay.example.org], resolution: NONE".to_owned(),
            [true, false, false],
        ),
        (
            "NONE with addresses: names are names",
            format!("hosts: [pay.example.org], resolution: NONE, addresses: [{two}]"),
            [false, false, true],
        ),
        (
            "DNS with addresses",
            format!("hosts: [pay.example.org], resolution: DNS, addresses: [{two}]"),
            [true, false, true],
        ),
        (
            "STATIC",
            format!(
                "hosts: [any.example.org], resolution: STATIC, endpoints: [{{address: {one}, ports: {{tcp: 7001}}}}]"
            ),
            [false, true, false],
        ),
        (
            "several",
            "hosts: [pay.example.org, node.example.org], resolution: DNS".to_owned(),
            [true, false, true],
        ),
        ("a pattern", "hosts: ['*.example.org'], resolution: NONE".to_owned(), [false; 3]),
        ("a pattern beside a name", "hosts: ['*.org', any.example.org]".to_owned(), [false, false, true]),
    ];
    for (what, more, expected) in table {
        scene.entry(&more)?;
        scene.settles(what, expected);
        scene.entry("")?;
        scene.settles("it is closed again", [false; 3]);
    }
    Ok(())
}
