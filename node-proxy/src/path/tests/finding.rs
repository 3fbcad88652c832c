//! Destinations that the cell's snapshot does not have are asked for before anything is connected.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
};

use config::name::TenantId;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::*;
use crate::{
    cell::{Find, Found},
    telemetry::Reason,
};

/// Answers when a test says so.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<(IpAddr, oneshot::Sender<Found>)>>);

impl Find for Told {
    fn find(&self, _tenant: &TenantId, address: IpAddr) -> BoxFuture<'static, Found> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap().push((address, answer));
        Box::pin(async { answered.await.unwrap_or(Found::Unanswered) })
    }
}

impl Told {
    async fn asked(&self) -> (IpAddr, oneshot::Sender<Found>) {
        loop {
            if let Some(question) = self.0.lock().unwrap().pop() {
                return question;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn world() -> (Arc<Told>, World) {
    let told = Arc::new(Told::default());
    (Arc::clone(&told), World::asking(told))
}

#[test]
fn a_destination_that_becomes_known_is_reached_as_what_it_is() {
    on_a_cell(async {
        let (told, world) = world();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vip = SocketAddr::from(([192, 0, 2, 1], 80));
        let mut client = world.dial(vip).await;
        let (address, answer) = told.asked().await;
        assert_eq!(address, vip.ip());
        answer.send(Found::Known).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(world.service(AppProtocol::Tcp, &[listener.local_addr().unwrap()]), vip);
        let (mut server, _) = listener.accept().await.unwrap();
        flows(&mut client, &mut server).await;
        let mut again = world.dial(vip).await;
        let (mut server, _) = listener.accept().await.unwrap();
        flows(&mut again, &mut server).await;
        assert!(told.0.lock().unwrap().is_empty(), "what is known is not asked for");
    });
}

#[test]
fn a_destination_is_taken_for_outside_only_when_that_is_said() {
    on_a_cell(async {
        let (told, world) = world();
        world.limit(Egress::Mesh);
        let outside = SocketAddr::from(([198, 51, 100, 1], 80));
        for (found, reason) in [
            (Some(Found::Unanswered), Reason::DestinationUnknown),
            (None, Reason::DestinationUnknown),
            (Some(Found::Outside), Reason::EgressForbidden),
        ] {
            let before = world.cell.ledger.refusals(reason);
            let mut client = world.dial(outside).await;
            let (_, answer) = told.asked().await;
            assert_eq!(world.cell.ledger.refusals(reason), before, "it waits for an answer");
            match found {
                Some(found) => answer.send(found).unwrap(),
                None => drop(answer),
            }
            assert!(reads_reset(&mut client).await);
            world.emptied_but(0).await;
            assert_eq!(world.cell.ledger.refusals(reason), before + 1, "{found:?}");
        }
        let mut again = world.dial(outside).await;
        assert!(reads_reset(&mut again).await);
        assert!(told.0.lock().unwrap().is_empty(), "it was said a moment ago");
    });
}
