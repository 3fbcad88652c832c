//! Tunnels that break off before the other end has answered: the caller's proxy cannot know more than that.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    tunnels::{named, own_address},
    world::Made,
    *,
};
use crate::{identity::testing::TestAuthority, upstream::connect::Kernel};

/// Takes one CONNECT, and is gone.
async fn breaks_off(callee: &World, listener: &TcpListener) {
    let config = callee.cell.credentials.server(&callee.tree.workload.identity).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(config).accept(socket).await.unwrap();
    let mut http = h2::server::handshake(tls).await.unwrap();
    let asked = http.accept().await.unwrap().unwrap();
    drop((http, asked));
}

#[test]
fn a_tunnel_that_breaks_off_before_its_answer_resets_the_client_and_is_counted_as_that() {
    on_a_cell(async {
        let authority = TestAuthority::new();
        let of = |name, ip| {
            let made =
                Made { workload: named(name, ip), connect: Rc::new(Kernel), identity: authority.sources() };
            World::of(made, |_| ())
        };
        let ip = own_address();
        let (caller, callee) = (of("caller", IpAddr::V4(Ipv4Addr::LOCALHOST)), of("callee", ip));
        let listener = TcpListener::bind((ip, hbone::PORT)).await.unwrap();
        caller.know(&[named("callee", ip)]);
        let dialled = caller.dial(SocketAddr::new(ip, 80));
        let ((), mut client) = tokio::join!(breaks_off(&callee, &listener), dialled);
        assert!(reads_reset(&mut client).await);
        caller.emptied(1).await;
        let refusals =
            Reason::ALL.iter().map(|reason| (reason.as_str(), caller.cell.ledger.refusals(*reason)));
        let refusals: Vec<_> = refusals.filter(|(_, count)| *count > 0).collect();
        assert_eq!(refusals, [("tunnel_failed", 1)]);
    });
}
