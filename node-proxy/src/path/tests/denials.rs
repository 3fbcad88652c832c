//! A caller that the receiver does not let in, or not any longer: asked once, ended at once, told why; nobody else is touched.

use config::{
    model::{Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Scope},
    name::PolicyName,
};

use super::{tunnels::Pair, *};
use crate::snapshot::policies::InboundPolicy;

/// Nobody may call these ports.
fn closed(ports: Vec<u16>) -> InboundPolicy {
    let port = ConnectionMatch { ports, ..ConnectionMatch::default() };
    let policy = AuthorizationPolicy {
        name: PolicyName::new("shop".try_into().unwrap(), "closed".try_into().unwrap()),
        scope: Scope::Mesh,
        action: Action::Deny,
        rules: vec![AuthorizationRule { clauses: vec![Clause { any: vec![port] }] }],
    };
    InboundPolicy { deny: vec![Arc::new(policy)], ..InboundPolicy::default() }
}

impl Pair {
    fn close(&self, ports: &[u16]) {
        self.callee.inbound_policy.replace(Arc::new(closed(ports.to_vec())));
        self.callee.limit(Egress::Any);
    }

    /// Another app of the callee's.
    async fn second_app(&self) -> (TcpListener, SocketAddr) {
        let app = TcpListener::bind((self.address.ip(), 0)).await.unwrap();
        let address = app.local_addr().unwrap();
        (app, address)
    }

    fn refusals(&self, reason: Reason) -> (u64, u64) {
        (self.caller.cell.ledger.refusals(reason), self.callee.cell.ledger.refusals(reason))
    }
}

#[test]
fn a_permission_that_is_taken_away_ends_its_stream_at_both_ends_and_none_beside_it() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (other_app, other_address) = pair.second_app().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let mut second = pair.caller.dial(other_address).await;
        let (mut other, _) = other_app.accept().await.unwrap();
        flows(&mut second, &mut other).await;
        pair.close(&[pair.address.port()]);
        assert!(reads_reset(&mut client).await && reads_reset(&mut server).await);
        flows(&mut second, &mut other).await;
        flows(&mut other, &mut second).await;
        assert_eq!(pair.tunnels(), 1);
        drop((second, other));
        pair.caller.emptied(2).await;
        assert_eq!(pair.refusals(Reason::PolicyDenied), (0, 1));
        assert_eq!(pair.refusals(Reason::PeerDenied), (1, 0));
    });
}

#[test]
fn a_caller_that_only_writes_is_told_why_too() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let writing = tokio::task::spawn_local(async move {
            while client.write_all(&[7; 16 << 10]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let reading = tokio::task::spawn_local(async move {
            let mut bytes = vec![0; 1 << 20];
            while server.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        pair.close(&[pair.address.port()]);
        writing.await.unwrap();
        reading.await.unwrap();
        pair.caller.emptied(1).await;
        assert_eq!(
            (pair.refusals(Reason::PolicyDenied), pair.refusals(Reason::PeerDenied)),
            ((0, 1), (1, 0))
        );
    });
}

#[test]
fn a_caller_that_one_endpoint_denies_asks_no_other() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (app, open) = pair.second_app().await;
        let (_closed_app, closed) = pair.second_app().await;
        pair.close(&[closed.port(), pair.address.port()]);
        // Whichever is picked first: where it is the one that denies, that is the answer.
        for (protocol, asked) in [(AppProtocol::Tcp, "opaque"), (AppProtocol::Http1, "http")] {
            let vip = pair.caller.service(protocol, &[closed, pair.address, open]);
            let before = pair.refusals(Reason::PolicyDenied).1;
            let (mut denied, mut served) = (0, 0);
            for _ in 0..30 {
                let mut client = pair.caller.dial(vip).await;
                client.write_all(b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n").await.unwrap();
                let mut answer = [0; 12];
                let answered = tokio::select! {
                    read = client.read_exact(&mut answer) => read.map(|_| answer),
                    Ok((mut server, _)) = app.accept() => {
                        served += 1;
                        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
                        client.read_exact(&mut answer).await.map(|_| answer)
                    }
                };
                denied += u64::from(!answered.is_ok_and(|answer| answer == *b"HTTP/1.1 200"));
            }
            assert!(denied > 0 && served > 0, "{asked}: both were picked ({denied}, {served})");
            let lines = pair.refusals(Reason::PolicyDenied).1 - before;
            assert_eq!(lines, denied, "{asked}: each was asked for once");
        }
    });
}

#[test]
fn an_endpoint_that_is_only_unavailable_is_passed_over() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let dead = TcpListener::bind((pair.address.ip(), 0)).await.unwrap().local_addr().unwrap();
        let vip = pair.caller.service(AppProtocol::Tcp, &[dead, pair.address]);
        for _ in 0..10 {
            let mut client = pair.caller.dial(vip).await;
            let (mut server, _) = pair.app.accept().await.unwrap();
            flows(&mut client, &mut server).await;
        }
        assert_eq!(pair.refusals(Reason::PeerUnavailable), (0, 0));
        assert!(pair.refusals(Reason::ConnectRefused).1 > 0, "it was tried");
    });
}
