//! How soon a policy ends what it forbids, by whichever delivery that goes: 100 ms after it is compiled, before any cell is told
//! of it, at the caller's own end.
//!
//! A promise of time is kept by five tries of seven at least: a busy machine may be late for reasons of its own. So it is for cells that
//! are threads, and for cells that are processes.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, dial, eventually, head, port, prompt};
use testkit::{Daemon, Outcome, Pod, manifests::Port};

const RAW: Port = port("tcp-raw", 7000);

/// A policy, and what it ends.
struct Row {
    what: &'static str,
    policy: String,
    to: &'static str,
    /// What the caller's proxy says of it: by which delivery it went, and why it ended.
    delivery: &'static str,
    reason: &'static str,
}

/// Of a tunnel, NetworkPolicies are the network's own business: it crosses the pods' interfaces.
fn rows() -> [Row; 6] {
    let row = |what, policy, to, delivery, reason| Row { what, policy, to, delivery, reason };
    [
        row("a denial, direct", denied("shop"), "near", "direct", "policy_denied"),
        row("ingress, direct", isolated("shop", "Ingress"), "near", "direct", "network_policy"),
        row("a denial, handoff", denied("bank"), "far", "handoff", "policy_denied"),
        row(
            "the receiver's ingress, handoff",
            isolated("bank", "Ingress"),
            "far",
            "handoff",
            "network_policy",
        ),
        row("the caller's egress, handoff", isolated("shop", "Egress"), "far", "handoff", "network_policy"),
        row("a denial, tunnel", denied("vault"), "ledger", "tunnel", "peer_denied"),
    ]
}

#[test]
fn a_policy_ends_what_it_forbids_within_100_ms_of_being_compiled_by_each_delivery() -> Outcome {
    by_each_delivery("thread")
}

#[test]
fn cells_that_are_processes_are_as_prompt() -> Outcome {
    by_each_delivery("process")
}

/// All rows, with cells of this class on both nodes.
fn by_each_delivery(class: &str) -> Outcome {
    let mesh = Mesh::new()?;
    let client = mesh.here("shop", "client", &[])?;
    let ports = [HTTP, RAW];
    let receivers = [
        ("near", mesh.here("shop", "near", &ports)?),
        ("far", mesh.here("bank", "far", &ports)?),
        ("ledger", mesh.there("vault", "ledger", &ports)?),
    ];
    let tenants = ["shop", "bank", "vault"].map(|namespace| tenant(namespace, class));
    mesh.stage.manifests.write("tenants.yaml", &tenants.join("---\n"))?;
    let apps: Vec<_> = receivers.iter().map(|(_, pod)| Apps::start(pod)).collect::<Result<_, _>>()?;
    let (mut here, there) = mesh.daemons()?;
    for daemon in [&here, &there] {
        let is_of_class = || has_children(daemon).is_ok_and(|has| has == (class == "process"));
        eventually("its cells are of the class that is judged", is_of_class)?;
    }
    for row in rows() {
        let number = receivers.iter().position(|(name, _)| *name == row.to).ok_or("it has a receiver")?;
        let scene = Scene { mesh: &mesh, client: &client, to: &receivers[number].1, apps: &apps[number] };
        // Each is ended by its receiver's node.
        let daemons = if row.delivery == "tunnel" { [&there, &here] } else { [&here, &there] };
        // Opaque bytes, an answer and what is idle.
        prompt::kept(row.what, || scene.cut(&row, daemons))?;
        for (at, protocol) in [(scene.to.at(7000), "tcp"), (scene.to.at(80), "http/1.1")] {
            here.wait_logged(|line| {
                let is_of = line["direction"] == "outbound" && line["dst.addr"] == at.to_string();
                let told = (&line["delivery"], &line["reason"], &line["protocol"]);
                is_of && told == (&row.delivery.into(), &row.reason.into(), &protocol.into())
            })
            .map_err(|error| format!("{}, {protocol}: {error}", row.what))?;
        }
    }
    Ok(())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Fallible<T> = Result<T, Failure>;

/// A caller and whom it calls.
struct Scene<'a> {
    mesh: &'a Mesh,
    client: &'a Pod,
    to: &'a Pod,
    apps: &'a Apps,
}

impl Scene<'_> {
    /// Puts the policy in force, and away again: how soon after it was compiled opaque bytes, an answer and, where it goes
    /// straight to the app, an idle connection ended. The first of the daemons decides.
    fn cut(&self, row: &Row, daemons: [&Daemon; 2]) -> Fallible<Vec<Duration>> {
        let is_direct = row.delivery == "direct";
        let (mut opaque, mut download) = (self.opaque()?, self.asking("/")?);
        ask(&mut download, "/endless")?;
        let mut idle = self.asking(if is_direct { "/kept" } else { "/" })?;
        let mut kept = is_direct.then(|| self.apps.kept.recv_timeout(PATIENCE)).transpose()?;
        let streams = [Some(&mut opaque), Some(&mut download), kept.as_mut()];
        let mut streams: Vec<_> = streams.into_iter().flatten().collect();
        let manifests = &self.mesh.stage.manifests;
        let ends = prompt::ends(daemons[0], &mut streams, || manifests.write("policy.yaml", &row.policy))?;
        // What has no end of its own would look complete else.
        assert!(ends[..2].iter().all(|end| end.is_reset), "{}: {ends:?}", row.what);
        // The client's own idle connection is to its proxy, which may speak for it to others.
        if row.reason != "network_policy" {
            let asked = ask(&mut idle, "/");
            let is_refused = |error: &Failure| error.to_string().starts_with("HTTP/1.1 403 ");
            assert!(asked.as_ref().is_err_and(is_refused), "{}: {asked:?}", row.what);
        }
        for daemon in daemons {
            self.mesh.stage.put(daemon, "policy.yaml", "")?;
        }
        Ok(ends.iter().map(|end| end.after).collect())
    }

    fn opaque(&self) -> Fallible<TcpStream> {
        let mut stream = dial(self.client, self.to.at(7000))?;
        stream.write_all(b"life")?;
        stream.read_exact(&mut [0; 4])?;
        Ok(stream)
    }

    /// A connection on which one request was answered, and which is kept for more.
    fn asking(&self, path: &str) -> Fallible<TcpStream> {
        let mut stream = dial(self.client, self.to.at(80))?;
        ask(&mut stream, path)?;
        Ok(stream)
    }
}

/// A request, and its answer's head: the error, if it is not 200.
fn ask(stream: &mut TcpStream, path: &str) -> Fallible<()> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: app\r\n\r\n")?;
    let head = head(stream)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(head.into()) }
}

/// What runs in a receiver: an echo at 7000, and at 80 an application of which an answer may have no end.
struct Apps {
    /// Its ends of connections that are idle from `/kept` on.
    kept: Receiver<TcpStream>,
    _listeners: [Listener; 2],
}

impl Apps {
    fn start(pod: &Pod) -> Fallible<Self> {
        let (keep, kept) = channel();
        let web = Listener::start(pod, pod.at(80), move |mut stream| {
            loop {
                let asked = head(&mut stream)?;
                if asked.is_empty() {
                    return Ok(());
                }
                if asked.starts_with("GET /endless ") {
                    return pour(&mut stream);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
                if asked.starts_with("GET /kept ") {
                    let _ = keep.send(stream);
                    return Ok(());
                }
            }
        })?;
        Ok(Self { kept, _listeners: [web, Listener::echo(pod, pod.at(7000))?] })
    }
}

fn pour(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        stream.write_all(b"4\r\nmore\r\n")?;
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a daemon has processes of its own, as cells are that have one each.
fn has_children(daemon: &Daemon) -> io::Result<bool> {
    let is_its = |stat: &str| {
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(daemon.pid())
    };
    let mut stats = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.path().join("stat"));
    Ok(stats.any(|stat| std::fs::read_to_string(stat).is_ok_and(|stat| is_its(&stat))))
}

fn tenant(namespace: &str, class: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {namespace}}}\n\
         spec: {{namespaces: [{namespace}], isolation: {class}}}\n"
    )
}

/// Denies a namespace's pods to `shop/client`.
fn denied(namespace: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: {namespace}, name: denied}}\nspec:\n  action: DENY\n  rules:\n\
         \x20 - from: [{{source: {{principals: [cluster.local/ns/shop/sa/client]}}}}]\n"
    )
}

/// Keeps a namespace's pods from all that goes this way.
fn isolated(namespace: &str, way: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: isolated}}\n\
         spec: {{podSelector: {{}}, policyTypes: [{way}]}}\n"
    )
}

const PATIENCE: Duration = Duration::from_secs(30);
