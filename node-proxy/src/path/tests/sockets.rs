//! Sockets that a cell makes, by whatever delivery: within its share, and given back with the last byte.

use super::{tunnels::Pair, *};

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn an_opaque_connection_that_finds_no_socket_left_is_reset_and_says_why() {
    on_a_cell(async {
        let world = World::new();
        world.cell.share.change(1);
        let server = world.server(AppProtocol::Tcp).await;
        let other = world.cell.share.socket();
        let mut client = world.dial(server.vip).await;
        assert!(reads_reset(&mut client).await);
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectionLimit), 1);
        world.emptied(1).await;
        drop(other);
        let mut client = world.dial(server.vip).await;
        let (mut held, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut held).await;
        assert_eq!(world.cell.share.held(), 1);
        drop((client, held));
        world.emptied(2).await;
        until(|| world.cell.share.held() == 0).await;
    });
}

#[test]
fn an_endpoint_that_cannot_be_reached_costs_no_socket_for_longer() {
    on_a_cell(async {
        let world = World::new();
        let vip = world.service(AppProtocol::Tcp, &[closed_port()]);
        for dialled in 1..4 {
            assert!(reads_reset(&mut world.dial(vip).await).await);
            world.emptied(dialled).await;
        }
        until(|| world.cell.share.held() == 0).await;
    });
}

#[test]
fn a_tunnel_takes_one_socket_whatever_it_carries_and_gives_way_when_it_carries_nothing() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut app) = pair.connect().await;
        let (second, other) = pair.connect().await;
        flows(&mut client, &mut app).await;
        assert_eq!((pair.tunnels(), pair.caller.cell.share.sockets()), (1, 1));
        pair.caller.cell.share.change(2);
        let elsewhere = pair.caller.cell.share.socket();
        let server = pair.caller.server(AppProtocol::Tcp).await;
        assert!(reads_reset(&mut pair.caller.dial(server.vip).await).await, "it is in use");
        flows(&mut client, &mut app).await;
        drop((client, app, second, other));
        until(|| pair.caller.cell.live.is_empty() && pair.callee.cell.live.len() <= 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut client = pair.caller.dial(server.vip).await;
        let (mut held, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut held).await;
        assert_eq!((pair.tunnels(), pair.caller.cell.share.sockets()), (0, 2));
        drop((client, held, elsewhere));
        until(|| pair.caller.cell.share.held() == 0 && pair.callee.cell.share.held() == 0).await;
    });
}
