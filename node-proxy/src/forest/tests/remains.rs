//! What is left of a pod's steering when its tree is gone: as long as somebody needs it, and no longer.

use std::{collections::HashMap, io::ErrorKind, net::Ipv6Addr};

use super::*;
use crate::snapshot::WorkloadEntry;

/// Longer than any of these tests waits for anything.
const LONG: Duration = Duration::from_secs(60);

impl World {
    async fn ways_back(&self, so_many: usize) {
        let what = format!("{so_many} ways back");
        self.until(&what, |_| self.redirect.ways_back() == so_many).await;
    }
}

#[tokio::test]
async fn a_pods_way_back_is_kept_for_its_last_connection_and_goes_with_it() {
    let mut world = World::with_grace(LONG);
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let (mut one, mut other) =
        (world.connect(&forest, "shop/cart", world.echo), world.connect(&forest, "shop/cart", world.echo));
    assert!(says(&mut one, "before") && says(&mut other, "before"));
    world.apply(&[("bank/teller", &own())]);
    world.ways_back(1).await;
    drop(one);
    // Some looks later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.redirect.ways_back(), 1);
    assert!(says(&mut other, "after"));
    drop(other);
    world.ways_back(0).await;
}

#[tokio::test]
async fn no_way_back_outlives_its_grace() {
    let mut world = World::with_grace(Duration::from_secs(3));
    world.apply(&[("shop/cart", &own())]);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "before"));
    world.apply(&[]);
    world.ways_back(1).await;
    assert!(!matches!(cart.read(&mut [0; 8]), Ok(1..)));
    world.ways_back(0).await;
}

#[tokio::test]
async fn every_way_back_is_kept_while_all_drain() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "before"));
    let handle = world.forest.clone();
    let draining = tokio::spawn(async move { handle.drain(LONG).await });
    world.forest.reached(Phase::Draining).await;
    world.ways_back(1).await;
    assert!(says(&mut cart, "during"), "the other tenant has left by now");
    drop(cart);
    tokio::time::timeout(LONG / 2, draining).await.unwrap().unwrap();
    assert_eq!(world.redirect.ways_back(), 0);
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_not_for_ever() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own())]);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "before"));
    let handle = world.forest.clone();
    let draining = tokio::spawn(async move { handle.drain(Duration::from_secs(3)).await });
    world.forest.reached(Phase::Draining).await;
    assert!(says(&mut cart, "during"));
    tokio::time::timeout(LONG / 2, draining).await.unwrap().unwrap();
    assert!(ends(cart));
    assert_eq!(world.forest.phase(), Phase::Stopped);
}

/// A connection whose ends have heard of each other: the cell has it whole, which `accept` alone, the kernel's doing, does not say.
fn acquainted(client: &mut TcpStream, server: &TcpListener) -> TcpStream {
    let (mut upstream, _) = server.accept().unwrap();
    upstream.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    upstream
}

/// The app that a neighbour's connections go straight to.
fn cart() -> Workload {
    Workload { addresses: vec![Ipv6Addr::LOCALHOST.into()], ..workload("shop/cart", &own()) }
}

/// `web` and its neighbour `cart`, which have a cell in common.
async fn neighbours(grace: Duration, speaks: (u16, AppProtocol)) -> (World, ForestDescription) {
    let mut world = World::with_grace(grace);
    let entry =
        WorkloadEntry { workload: Arc::new(cart()), protocols: HashMap::from([speaks]), answers: Vec::new() };
    let workloads = Arc::new(HashMap::from([(cart().addresses[0], Arc::new(entry))]));
    let directory = Arc::new(Directory { workloads, ..Directory::default() });
    world.apply_workloads([workload("shop/web", &own()), cart()], &directory);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    (world, forest)
}

#[tokio::test]
async fn what_a_caller_had_that_leaves_goes_on_as_long_as_its_grace() {
    let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let app = server.local_addr().unwrap();
    let (mut world, forest) = neighbours(LONG, (app.port(), AppProtocol::Tcp)).await;
    let mut web = world.connect(&forest, "shop/web", app);
    let mut upstream = acquainted(&mut web, &server);
    world.apply_workloads([cart()], &Arc::default());
    world.ways_back(1).await;
    assert_eq!(trees(&world.forest.describe().await), ["shop/cart"]);
    web.write_all(b"within its grace").unwrap();
    upstream.read_exact(&mut [0; 16]).unwrap();
    drop((web, upstream));
    world.ways_back(0).await;
}

#[tokio::test]
async fn a_neighbours_connection_is_the_receivers_as_well() {
    let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let app = server.local_addr().unwrap();
    let (mut world, forest) = neighbours(Duration::from_secs(4), (app.port(), AppProtocol::Tcp)).await;
    let mut web = world.connect(&forest, "shop/web", app);
    let mut upstream = acquainted(&mut web, &server);
    world.apply(&[("shop/web", &own())]);
    world.ways_back(1).await;
    assert_eq!(trees(&world.forest.describe().await), ["shop/web"]);
    web.write_all(b"within its grace").unwrap();
    upstream.read_exact(&mut [0; 16]).unwrap();
    let end = web.read(&mut [0; 8]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");
    world.ways_back(0).await;
}

#[tokio::test]
async fn a_neighbours_request_is_cut_when_the_receivers_grace_is_over() {
    let server = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let app = server.local_addr().unwrap();
    let (mut world, forest) = neighbours(Duration::from_secs(3), (app.port(), AppProtocol::Http1)).await;
    let mut web = world.connect(&forest, "shop/web", app);
    web.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let (mut upstream, _) = server.accept().unwrap();
    assert!(upstream.read(&mut [0; 4096]).unwrap() > 0);
    world.apply(&[("shop/web", &own())]);
    world.ways_back(1).await;
    let mut heard = [0; 4096];
    let length = web.read(&mut heard).unwrap();
    let answer = String::from_utf8_lossy(&heard[..length]);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("canopy-refused: draining"), "{answer}");
    world.ways_back(0).await;
}
