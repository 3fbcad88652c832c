//! Two cells on loopback with a tunnel between them: certificates, TLS and HTTP/2 are real; the pods are addresses of
//! 127.0.0.0/8. And raw HTTP/2 against the accepting half.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::AtomicU32,
};

use bytes::Bytes;
use config::{model::Workload, name::Name};
use h2::client::{Connection, SendRequest};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    world::{Made, workload},
    *,
};
use crate::{
    cell::{Bound, Limits},
    identity::{credentials::Sources, testing::TestAuthority},
    telemetry::AccessLog,
    upstream::connect::Kernel,
};

/// A caller's cell and a callee's, which know each other.
pub(super) struct Pair {
    pub(super) caller: World,
    pub(super) callee: World,
    /// The callee's app.
    pub(super) app: TcpListener,
    /// Where it is.
    pub(super) address: SocketAddr,
}

/// An address of this machine that no other test uses: port 15008 of it is this test's own.
pub(super) fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Relaxed);
    let pid = std::process::id();
    IpAddr::V4(Ipv4Addr::from(0x7f00_0000 | (64 + number % 64) << 16 | (pid & 0xffff)))
}

pub(super) fn named(name: &str, address: IpAddr) -> Workload {
    let mut workload = workload();
    workload.pod.name = Name::try_from(name).unwrap();
    workload.identity.service_account = name.try_into().unwrap();
    workload.addresses = vec![address];
    workload.meshed = true;
    workload.uid = Some(format!("{name}-1"));
    workload
}

impl Pair {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(limit: impl Fn(&mut Limits)) -> Self {
        let authority = TestAuthority::new();
        Self::of([authority.sources(), authority.sources()], limit).await
    }

    /// What each end's certificates and trust come from: the caller's, the callee's.
    pub(super) async fn of(sources: [Sources; 2], limit: impl Fn(&mut Limits)) -> Self {
        Self::writing(sources, limit, Default::default()).await
    }

    /// What each end writes its log to.
    pub(super) async fn logging(logs: [AccessLog; 2]) -> Self {
        let authority = TestAuthority::new();
        Self::writing([authority.sources(), authority.sources()], |_| (), logs).await
    }

    async fn writing(
        [ours, theirs]: [Sources; 2],
        limit: impl Fn(&mut Limits),
        [our_log, their_log]: [AccessLog; 2],
    ) -> Self {
        let of = |workload, identity| Made { workload, connect: Rc::new(Kernel), identity };
        let ours = of(named("caller", IpAddr::V4(Ipv4Addr::LOCALHOST)), ours);
        let caller = World::writing(our_log, ours, &limit);
        let ip = own_address();
        let callee = World::writing(their_log, of(named("callee", ip), theirs), &limit);
        callee.serve_inbound(SocketAddr::new(ip, hbone::PORT));
        let app = TcpListener::bind((ip, 0)).await.unwrap();
        let address = app.local_addr().unwrap();
        caller.know(&[named("callee", ip)]);
        callee.know(&[named("caller", IpAddr::V4(Ipv4Addr::LOCALHOST))]);
        Self { caller, callee, app, address }
    }

    /// A connection from the caller to the callee's app: both ends.
    pub(super) async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.caller.dial(self.address).await;
        let (server, _) = self.app.accept().await.unwrap();
        (client, server)
    }

    pub(super) fn tunnels(&self) -> usize {
        self.caller.cell.tunnels.connections()
    }

    /// HTTP/2 to the callee's proxy, as the caller speaks it, but by hand.
    pub(super) async fn by_hand(&self) -> SendRequest<Bytes> {
        let (send, connection) = self.polled_by_hand().await;
        tokio::task::spawn_local(async move { drop(connection.await) });
        send
    }

    /// The same, for who polls its connection, or does not.
    pub(super) async fn polled_by_hand(
        &self,
    ) -> (SendRequest<Bytes>, Connection<TlsStream<TcpStream>, Bytes>) {
        let socket = TcpStream::connect((self.address.ip(), hbone::PORT)).await.unwrap();
        h2::client::handshake(self.tls(socket).await).await.unwrap()
    }

    /// TLS to the callee's proxy, as the caller speaks it.
    pub(super) async fn tls(&self, socket: TcpStream) -> TlsStream<TcpStream> {
        let own = &self.caller.tree.workload.identity;
        let allowed = [self.callee.tree.workload.identity.clone()];
        let config = self.caller.cell.credentials.client(own, &allowed).await.unwrap();
        let name = rustls::pki_types::ServerName::IpAddress(self.address.ip().into());
        TlsConnector::from(config).connect(name, socket).await.unwrap()
    }
}

#[test]
fn bytes_go_both_ways_and_each_end_is_passed_on() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        client.write_all(b"over").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await, b"over");
        server.write_all(b"and back").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"and back");
        pair.caller.emptied(1).await;
        let none = |world: &World| Reason::ALL.iter().all(|reason| world.cell.ledger.refusals(*reason) == 0);
        assert!(none(&pair.caller) && none(&pair.callee));
    });
}

#[test]
fn a_caller_is_who_its_certificate_says_and_has_the_address_it_came_from() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let mut seen = Vec::new();
        pair.callee.cell.live.each(|live| seen.push(live.describe()));
        seen.sort_by_key(|live| live.protocol.clone());
        let protocols: Vec<_> = seen.iter().map(|live| live.protocol.as_str()).collect();
        assert_eq!(protocols, ["hbone", "tcp"], "the tunnel and its stream are both connections");
        let client = client.local_addr().unwrap();
        assert_eq!((seen[1].client, seen[1].destination), (client, pair.address));
    });
}

#[test]
fn a_reset_on_one_side_is_a_reset_on_the_other() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        socket::reset(&server);
        drop(server);
        assert!(reads_reset(&mut client).await);

        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        socket::reset(&client);
        drop(client);
        assert!(reads_reset(&mut server).await);
        assert_eq!(pair.tunnels(), 1, "the tunnel outlives its streams");
    });
}

#[test]
fn connections_share_a_tunnel_up_to_its_cap() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut held = Vec::new();
        for _ in 0..hbone::settings::MOST_STREAMS {
            held.push(pair.connect().await);
        }
        assert_eq!(pair.tunnels(), 1);
        held.push(pair.connect().await);
        assert_eq!(pair.tunnels(), 2);
        for (client, server) in &mut held {
            flows(client, server).await;
        }
    });
}

#[test]
fn connections_that_come_at_once_wait_for_one_tunnel() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let clients = futures_util::future::join_all((0..20).map(|_| pair.caller.dial(pair.address))).await;
        let mut servers = Vec::new();
        for _ in &clients {
            servers.push(pair.app.accept().await.unwrap());
        }
        assert_eq!(pair.tunnels(), 1);
    });
}

#[test]
fn an_app_that_does_not_read_stops_its_client_and_nobody_else() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut stuck, mut slow) = pair.connect().await;
        let (mut client, mut server) = pair.connect().await;
        let chunk = vec![7; 1 << 20];
        let mut sent = 0;
        while timeout(Duration::from_millis(300), stuck.write_all(&chunk)).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 64 << 20, "a stream's window, and the sockets' buffers, are the most there is");
        }
        flows(&mut client, &mut server).await;
        let reading = async {
            let mut read = 0;
            let mut bytes = vec![0; 1 << 20];
            while read < sent {
                read += slow.read(&mut bytes).await.unwrap();
            }
        };
        reading.await;
        assert_eq!(pair.tunnels(), 1);
    });
}

#[test]
fn a_draining_peer_takes_no_new_streams_and_keeps_the_old_ones() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        pair.callee.cell.live.finish_tree(pair.callee.tree.id);
        let (mut second, mut other) = pair.connect().await;
        flows(&mut second, &mut other).await;
        flows(&mut client, &mut server).await;
        flows(&mut server, &mut client).await;
        assert_eq!(pair.callee.cell.live.len(), 4, "two tunnels, and a stream in each");
        drop((client, server));
        while pair.callee.cell.live.len() > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn whoever_is_not_who_was_called_is_sent_nothing() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut other = named("callee", pair.address.ip());
        other.identity.service_account = "another".try_into().unwrap();
        pair.caller.know(&[other]);
        let mut client = pair.caller.dial(pair.address).await;
        assert!(reads_reset(&mut client).await);
        pair.caller.emptied(1).await;
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::IdentityMismatch), 1);
        assert_eq!(pair.tunnels(), 0);
    });
}

#[test]
fn a_caller_of_an_unknown_authority_is_refused_and_told_so() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let stranger = TestAuthority::new();
        let made = Made {
            workload: named("caller", IpAddr::V4(Ipv4Addr::LOCALHOST)),
            connect: Rc::new(Kernel),
            identity: stranger.sources(),
        };
        let caller = World::of(made, |_| ());
        caller.know(&[named("callee", pair.address.ip())]);
        let mut client = caller.dial(pair.address).await;
        assert!(reads_reset(&mut client).await);
        caller.emptied(1).await;
        // The server's certificate comes first in a handshake.
        assert_eq!(caller.cell.ledger.refusals(Reason::UnknownAuthority), 1);
        pair.callee.emptied(1).await;
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::CertificateRefused), 1);
    });
}

#[test]
fn a_pod_that_takes_over_an_address_is_never_reached_by_the_old_one_s_tunnel() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let mut next = named("callee", pair.address.ip());
        next.uid = Some("callee-2".to_owned());
        pair.caller.know(&[next]);
        assert_eq!(pair.tunnels(), 0);
        let (mut second, mut other) = pair.connect().await;
        flows(&mut second, &mut other).await;
        flows(&mut client, &mut server).await;
        assert_eq!((pair.tunnels(), pair.callee.cell.live.len()), (1, 4));
    });
}

#[test]
fn an_app_that_is_not_there_is_the_peer_s_word_not_a_broken_tunnel() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let nobody = TcpListener::bind((pair.address.ip(), 0)).await.unwrap().local_addr().unwrap();
        let mut client = pair.caller.dial(nobody).await;
        assert!(reads_reset(&mut client).await);
        pair.caller.emptied(1).await;
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::PeerUnavailable), 1);
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::ConnectRefused), 1);
        assert_eq!(pair.tunnels(), 1);
    });
}

#[test]
fn a_client_without_a_certificate_gets_no_answer_in_http() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut client = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
        client.write_all(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        // A TLS alert, then the end, whichever way.
        let _ended = client.read_to_end(&mut bytes).await;
        assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
        pair.callee.emptied(1).await;
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::TlsFailed), 1);
    });
}

#[test]
fn handshakes_take_no_longer_than_they_may_and_are_not_more_than_they_may() {
    on_a_cell(async {
        let pair = Pair::with(|limits| {
            limits.handshake = Duration::from_secs(2);
            limits.handshakes = Bound { all: 1, each: 1 };
        })
        .await;
        let mut silent = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut second = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
        assert!(reads_reset(&mut silent).await, "it makes room");
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::HandshakeLimit), 1);
        let _end = second.read_to_end(&mut Vec::new()).await;
        pair.callee.emptied(2).await;
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::HandshakeTimeout), 1);
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
    });
}

#[test]
fn streams_are_connections_and_count_as_such() {
    on_a_cell(async {
        // The tunnel takes one seat, and its only stream the other.
        let pair = Pair::with(|limits| limits.connections = 2).await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let mut second = pair.caller.dial(pair.address).await;
        assert!(reads_reset(&mut second).await);
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::ConnectionLimit), 1);
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::PeerUnavailable), 1);
        assert_eq!(pair.tunnels(), 1);
        flows(&mut client, &mut server).await;
    });
}

#[test]
fn a_renewed_certificate_cuts_no_stream() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let own = pair.caller.tree.workload.identity.clone();
        let before = pair.caller.cell.credentials.describe(&own).unwrap().serial;
        // Nobody holds the identity for a moment, and its next certificate is a new one.
        pair.caller.cell.uproot(&pair.caller.tree.workload.pod);
        pair.caller.cell.plant(Rc::clone(&pair.caller.tree));
        pair.caller.cell.credentials.client(&own, &[]).await.unwrap();
        assert_ne!(pair.caller.cell.credentials.describe(&own).unwrap().serial, before);
        flows(&mut client, &mut server).await;
        let (mut second, mut other) = pair.connect().await;
        flows(&mut second, &mut other).await;
        assert_eq!(pair.tunnels(), 1);
    });
}
