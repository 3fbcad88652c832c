//! Nobody goes around a waypoint: neither to a Service that names one, nor to a pod that does, nor by a connection of before.

use config::model::Workload;

use super::{
    world::{Server, workload},
    *,
};
use crate::telemetry::Reason;

const WAYPOINT: &str = "shop/gate.shop.svc.cluster.local";

/// A Service that names a waypoint, in the place of one that does not.
async fn behind(world: &World) -> Server {
    world.waypoint.replace(Some(Arc::from(WAYPOINT)));
    world.server(AppProtocol::Tcp).await
}

async fn is_left_alone(server: &Server) -> bool {
    timeout(Duration::from_millis(50), server.listener.accept()).await.is_err()
}

#[test]
fn a_service_that_names_a_waypoint_is_refused_and_its_endpoints_hear_nothing() {
    on_a_cell(async {
        let world = World::new();
        let server = behind(&world).await;
        assert!(reads_reset(&mut world.dial(server.vip).await).await);
        assert!(is_left_alone(&server).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::Waypoint), 1);
    });
}

#[test]
fn a_pod_that_names_a_waypoint_is_refused_by_its_own_address() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.address).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        world.know(&[Workload { waypoint: Some(WAYPOINT.to_owned()), ..workload() }]);
        assert!(reads_reset(&mut client).await, "what was permitted before is cut");
        assert!(reads_reset(&mut world.dial(server.address).await).await);
        assert!(is_left_alone(&server).await);
        world.emptied(2).await;
        assert_eq!(world.cell.ledger.refusals(Reason::Waypoint), 2);
    });
}

#[test]
fn what_is_somebodys_and_not_reached_is_not_taken_for_outside() {
    on_a_cell(async {
        let world = World::new();
        let server = behind(&world).await;
        let other_port = SocketAddr::new(server.vip.ip(), server.vip.port() + 1);
        let of_refused = SocketAddr::from(([203, 0, 113, 7], 80));
        for to in [other_port, of_refused] {
            assert!(reads_reset(&mut world.dial(to).await).await, "{to}");
        }
        world.emptied(2).await;
        assert_eq!(world.cell.ledger.refusals(Reason::DestinationUnknown), 2);
    });
}
