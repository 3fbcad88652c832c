//! Policies on real connections: who is let in, what a change ends and how soon, what a kubelet may ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use config::{
    model::{Action, AuthorizationPolicy, AuthorizationRule, HttpScheme, Probe, ProbeCheck, Scope, Workload},
    name::{PodName, PolicyName},
};
use tokio::{net::TcpSocket, time::Instant};

use super::{
    world::{LOOPBACK, listen},
    *,
};
use crate::snapshot::policies::{InboundPolicy, PeerRule};

/// What the design promises is 100 ms; a busy machine's scheduler gets the rest.
const SOON: Duration = Duration::from_secs(10);

fn name(text: &str) -> PolicyName {
    PolicyName::new("shop".try_into().unwrap(), text.try_into().unwrap())
}

fn nobody() -> InboundPolicy {
    let policy = AuthorizationPolicy {
        name: name("nobody"),
        scope: Scope::Mesh,
        action: Action::Deny,
        rules: vec![AuthorizationRule::default()],
    };
    InboundPolicy { deny: vec![Arc::new(policy)], ..InboundPolicy::default() }
}

pub(super) fn strict() -> InboundPolicy {
    let peers = PeerRule { strict: Some(name("strict")), ports: Vec::new() };
    InboundPolicy { peers, ..InboundPolicy::default() }
}

impl World {
    pub(super) fn protect(&self, policy: InboundPolicy) {
        self.inbound_policy.replace(Arc::new(policy));
        self.limit(Egress::Any);
    }

    /// A world whose endpoints are pods that the cell has: reached straight, by no other cell.
    fn of_neighbours() -> Self {
        let world = Self::new();
        world.neighbours.set(true);
        world
    }

    /// A client's connection in the clear to the workload's app, from 127.0.0.1.
    pub(super) async fn call(&self, app: SocketAddr) -> TcpStream {
        let listener = listen(&self.cell, &self.tree, Side::Inbound, LOOPBACK);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        self.steer(socket.local_addr().unwrap(), app);
        socket.connect(listener).await.unwrap()
    }

    /// What the kubelet may ask, from 127.0.0.1.
    pub(super) fn probed(&self, port: u16, checks: Vec<ProbeCheck>) {
        let probes = checks.into_iter().map(|check| Probe { port, check }).collect();
        self.node.replace(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        self.know(&[Workload { probes, ..(*self.tree.workload).clone() }]);
    }
}

async fn get(client: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: app\r\nx-of-client: 1\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
}

/// What was read until there are so many bytes, or the end.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_neighbours_policies_are_asked_by_the_callers_cell() {
    on_a_cell(async {
        let world = World::of_neighbours();
        let (tcp, http) = (world.server(AppProtocol::Tcp).await, world.server(AppProtocol::Http1).await);
        world.protect(nobody());
        assert!(reads_reset(&mut world.dial(tcp.vip).await).await, "an opaque connection is reset");
        let mut client = world.dial(http.vip).await;
        get(&mut client, "/").await;
        let answer = head(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("canopy-refused: policy_denied"),
            "{answer}"
        );
        drop(client);
        world.emptied(2).await;
        assert_eq!(world.cell.ledger.refusals(Reason::PolicyDenied), 2);
        let unasked = timeout(Duration::from_millis(50), tcp.listener.accept()).await;
        assert!(unasked.is_err(), "nothing was connected");
    });
}

#[test]
fn a_change_ends_an_opaque_connection_that_it_forbids_though_nothing_is_sent_on_it() {
    on_a_cell(async {
        let world = World::of_neighbours();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        world.protect(strict());
        flows(&mut client, &mut stream).await;
        let changed = Instant::now();
        world.protect(nobody());
        assert!(reads_reset(&mut client).await && reads_reset(&mut stream).await);
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::PolicyDenied), 1);
        assert!(world.cell.shortcuts.is_empty());
    });
}

#[test]
fn a_change_ends_requests_and_kept_connections_to_an_endpoint_that_it_forbids() {
    on_a_cell(async {
        let world = World::of_neighbours();
        let server = world.server(AppProtocol::Http1).await;
        // One connection is kept after its request, another has one under way.
        let mut kept = world.dial(server.vip).await;
        get(&mut kept, "/").await;
        let (mut idle, _) = server.listener.accept().await.unwrap();
        head(&mut idle).await;
        let mut waiting = world.dial(server.vip).await;
        get(&mut waiting, "/").await;
        let (mut busy, _) = server.listener.accept().await.unwrap();
        head(&mut busy).await;
        idle.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert!(head(&mut kept).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(world.cell.shortcuts.len(), 2);
        let changed = Instant::now();
        world.protect(nobody());
        let answer = head(&mut waiting).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("canopy-refused: policy_denied"),
            "{answer}"
        );
        assert_eq!((read_all(&mut idle).await, read_all(&mut busy).await), (Vec::new(), Vec::new()));
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
        get(&mut kept, "/again").await;
        assert!(head(&mut kept).await.contains("canopy-refused: policy_denied"));
        drop((kept, waiting));
        world.emptied(2).await;
        assert_eq!(world.cell.pool.connections(), 0);
    });
}

#[test]
fn what_is_under_way_at_a_pod_that_leaves_ends_with_its_tree_and_not_before() {
    on_a_cell(async {
        let world = World::of_neighbours();
        let (tcp, http) = (world.server(AppProtocol::Tcp).await, world.server(AppProtocol::Http1).await);
        let mut client = world.dial(tcp.vip).await;
        let (mut stream, _) = tcp.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        let (mut answered, mut unanswered) = (world.dial(http.vip).await, world.dial(http.vip).await);
        get(&mut answered, "/").await;
        let (mut app, _) = http.listener.accept().await.unwrap();
        head(&mut app).await;
        get(&mut unanswered, "/").await;
        let (mut silent, _) = http.listener.accept().await.unwrap();
        head(&mut silent).await;
        let mut inbound = world.call(tcp.address).await;
        inbound.write_all(b"x").await.unwrap();
        let (mut plain, _) = tcp.listener.accept().await.unwrap();
        assert_eq!(plain.read_u8().await.unwrap(), b'x');
        world.left.set(true);
        world.limit(Egress::Any);
        flows(&mut client, &mut stream).await;
        flows(&mut inbound, &mut plain).await;
        app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert!(head(&mut answered).await.starts_with("HTTP/1.1 200 "), "what was under way is answered");
        world.cell.live.close_tree(world.tree.id, Reason::Draining);
        world.cell.shortcuts.close_to(world.tree.id, Reason::Draining);
        assert!(reads_reset(&mut client).await && reads_reset(&mut stream).await);
        assert_eq!(read_all(&mut silent).await, b"");
        drop((answered, unanswered, inbound));
        world.emptied(4).await;
        assert_eq!(world.cell.ledger.refusals(Reason::NetworkPolicy), 0);
    });
}

fn is_not_taken_for_whole(end_it: impl FnOnce(&World) + 'static, reason: Reason) {
    on_a_cell(async move {
        let world = World::of_neighbours();
        let server = world.server(AppProtocol::Http1).await;
        let mut client = world.dial(server.vip).await;
        get(&mut client, "/").await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        head(&mut stream).await;
        // No length: the body goes on until the connection ends.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        end_it(&world);
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest).await;
        let complete = rest.ends_with(b"0\r\n\r\n");
        assert!(end.is_err() || !complete, "{:?}", String::from_utf8_lossy(&rest));
        drop(client);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(reason), 1);
    });
}

#[test]
fn nobody_gets_a_byte_that_was_meant_for_a_pod_which_had_his_address() {
    on_a_cell(async {
        let world = World::new();
        let gone = PodName::new("shop".try_into().unwrap(), "gone".try_into().unwrap());
        world.left_behind.replace(Some(gone));
        let http = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for (protocol, request) in [(AppProtocol::Tcp, "x"), (AppProtocol::Http1, http)] {
            let server = world.server(protocol).await;
            let mut client = world.dial(server.vip).await;
            client.write_all(request.as_bytes()).await.unwrap();
            let _answer = head(&mut client).await;
            let unasked = timeout(Duration::from_millis(50), server.listener.accept()).await;
            assert!(unasked.is_err(), "{protocol:?}: nothing was connected");
        }
        assert_eq!(world.cell.ledger.refusals(Reason::EndpointGone), 2);
    });
}

#[test]
fn a_response_that_ends_with_its_connection_is_not_taken_for_whole_when_a_change_ends_it() {
    is_not_taken_for_whole(|world| world.protect(nobody()), Reason::PolicyDenied);
}

#[test]
fn a_response_that_ends_with_its_connection_is_not_taken_for_whole_when_its_pod_has_left() {
    let leave = |world: &World| world.cell.shortcuts.close_to(world.tree.id, Reason::Draining);
    is_not_taken_for_whole(leave, Reason::Draining);
}

#[test]
fn a_change_ends_what_a_request_was_upgraded_to() {
    on_a_cell(async {
        let world = World::of_neighbours();
        let server = world.server(AppProtocol::Http1).await;
        let mut client = world.dial(server.vip).await;
        let asked = b"GET / HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        client.write_all(asked).await.unwrap();
        let (mut stream, _) = server.listener.accept().await.unwrap();
        head(&mut stream).await;
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(agreed).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        flows(&mut client, &mut stream).await;
        world.protect(nobody());
        assert!(timeout(SOON, reads_reset(&mut client)).await.unwrap());
        assert!(timeout(SOON, reads_reset(&mut stream)).await.unwrap());
        world.emptied(1).await;
        assert!(world.cell.ledger.refusals(Reason::PolicyDenied) > 0);
    });
}

#[test]
fn plaintext_is_let_in_refused_and_ended_as_the_policies_of_the_receiver_say() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.call(server.address).await;
        client.write_all(b"x").await.unwrap();
        let (mut stream, _) = server.listener.accept().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        let changed = Instant::now();
        world.protect(strict());
        assert!(reads_reset(&mut client).await && reads_reset(&mut stream).await);
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
        let mut refused = world.call(server.address).await;
        refused.write_all(b"x").await.unwrap();
        assert!(reads_reset(&mut refused).await);
        assert_eq!(world.cell.ledger.refusals(Reason::PlaintextRefused), 2);
    });
}

const HTTP: HttpScheme = HttpScheme::Http;

pub(super) fn healthz() -> ProbeCheck {
    let headers = vec![("x-declared".to_owned(), "yes".to_owned())];
    ProbeCheck::Http { scheme: HTTP, path: "/healthz".to_owned(), headers }
}

#[test]
fn a_declared_http_probe_is_asked_anew_and_everything_else_from_the_node_is_refused() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http1).await;
        world.probed(server.address.port(), vec![healthz()]);
        world.protect(strict());
        let mut kubelet = world.call(server.address).await;
        get(&mut kubelet, "/healthz").await;
        let (mut app, _) = server.listener.accept().await.unwrap();
        let asked = head(&mut app).await;
        assert!(
            asked.starts_with("GET /healthz HTTP/1.1\r\n") && asked.contains("x-declared: yes"),
            "{asked}"
        );
        assert!(!asked.contains("x-of-client"), "nothing of the client's reaches the app: {asked}");
        app.write_all(b"HTTP/1.1 500 Down\r\nx-secret: yes\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        let answer = String::from_utf8(read_all(&mut kubelet).await).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 500 ")
                && answer.ends_with("\r\n\r\n")
                && !answer.contains("x-secret"),
            "the app's own status, and nothing else of its answer: {answer}"
        );
        for path in ["/", "/healthz?a", "/healthz/", "/admin"] {
            let mut other = world.call(server.address).await;
            get(&mut other, path).await;
            let answer = head(&mut other).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
            assert!(answer.contains("canopy-refused: plaintext_refused"), "{path}: {answer}");
        }
        let unasked = timeout(Duration::from_millis(50), server.listener.accept()).await;
        assert!(unasked.is_err(), "none of these reached the app");
    });
}

#[test]
fn a_declared_tcp_probe_connects_and_relays_nothing() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        world.probed(server.address.port(), vec![ProbeCheck::Tcp]);
        world.protect(strict());
        // Silent, as the kubelet is: the detection's deadline passes first.
        let mut kubelet = world.call(server.address).await;
        let (mut app, _) = server.listener.accept().await.unwrap();
        assert_eq!(read_all(&mut app).await, b"", "connected, and closed");
        assert_eq!(read_all(&mut kubelet).await, b"");
        let mut talker = world.call(server.address).await;
        talker.write_all(b"\x00\x01steal").await.unwrap();
        assert!(reads_reset(&mut talker).await);
        let unasked = timeout(Duration::from_millis(50), server.listener.accept()).await;
        assert!(unasked.is_err(), "who talks is no probe");
    });
}

#[test]
fn from_elsewhere_or_to_another_port_nothing_passes_as_a_probe() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http1).await;
        let port = server.address.port();
        world.probed(port ^ 1, vec![healthz()]);
        world.protect(strict());
        let mut other_port = world.call(server.address).await;
        get(&mut other_port, "/healthz").await;
        assert!(reads_reset(&mut other_port).await);
        world.probed(port, vec![healthz()]);
        world.node.replace(vec!["192.0.2.1".parse().unwrap()]);
        world.protect(strict());
        let mut elsewhere = world.call(server.address).await;
        get(&mut elsewhere, "/healthz").await;
        assert!(reads_reset(&mut elsewhere).await);
        assert_eq!(world.cell.ledger.refusals(Reason::PlaintextRefused), 2);
    });
}
