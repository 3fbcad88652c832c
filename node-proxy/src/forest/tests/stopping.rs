//! How pods are left when the forest ends, and who is served until then.

use config::name::PolicyName;
use ebpf_redirect::Parting;

use super::*;
use crate::snapshot::policies::{InboundPolicy, PeerRule};

const LONG: Duration = Duration::from_secs(60);

fn drain(world: &World, grace: Duration) -> tokio::task::JoinHandle<()> {
    let forest = world.forest.clone();
    tokio::spawn(async move { forest.drain(grace).await })
}

async fn ended(draining: tokio::task::JoinHandle<()>) {
    tokio::time::timeout(LONG / 2, draining).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_new_is_served_until_what_was_there_has_finished_and_then_all_is_closed() {
    let mut world = World::stopping(OnStop::Close, LONG);
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let mut old = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut old, "before"));
    let draining = drain(&world, LONG);
    world.forest.reached(Phase::Draining).await;
    // Some looks later.
    tokio::time::sleep(Duration::from_millis(400)).await;
    for pod in ["shop/cart", "bank/teller"] {
        let mut new = world.connect(&forest, pod, world.echo);
        assert!(says(&mut new, "during"), "{pod}: another tenant's connection is what it waits for");
    }
    assert!(says(&mut old, "during"));
    assert_eq!(world.redirect.left(), []);
    drop(old);
    ended(draining).await;
    assert_eq!(world.redirect.left(), [Parting::Closed, Parting::Closed]);
    assert_eq!(world.redirect.ways_back(), 0, "nobody was let go");
}

#[tokio::test]
async fn clients_that_keep_connections_without_a_request_are_not_waited_for() {
    let (vip, server) = (SocketAddr::from(([192, 0, 2, 1], 80)), TcpListener::bind("127.0.0.1:0").unwrap());
    let directory = Arc::new(http_service(vip, server.local_addr().unwrap()));
    let mut world = World::stopping(OnStop::Close, LONG);
    world.apply_with(&[("shop/cart", &own())], &directory);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut kept = world.connect(&forest, "shop/cart", vip);
    let answering = thread::spawn(move || answer_one(&server));
    assert!(asks(&mut kept));
    let _upstream = answering.join().unwrap();
    let mut silent = world.connect(&forest, "shop/cart", vip);
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert!(silent.read(&mut [0; 9]).unwrap() > 0);
    let unused = world.connect(&forest, "shop/cart", vip);
    world.until("three connections", |forest| forest.cells[0].trees[0].connections_open == 3).await;
    // Long before the grace is over, and before HTTP/2 or a head's time would end them.
    tokio::time::timeout(Duration::from_secs(9), drain(&world, LONG)).await.unwrap().unwrap();
    drop((kept, silent, unused));
}

#[tokio::test]
async fn a_pod_that_goes_just_before_the_daemon_does_not_hold_it_up() {
    for on_stop in [OnStop::Open, OnStop::Close] {
        let directory = tempfile::tempdir().unwrap();
        let netns = directory.path().join("netns");
        std::os::unix::fs::symlink(own(), &netns).unwrap();
        let mut world = World::stopping(on_stop, LONG);
        world.apply(&[("shop/cart", &netns)]);
        let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
        let mut old = world.connect(&forest, "shop/cart", world.echo);
        assert!(says(&mut old, "before"));
        std::fs::remove_file(&netns).unwrap();
        let draining = drain(&world, LONG);
        tokio::time::timeout(Duration::from_secs(20), draining).await.unwrap().unwrap();
        assert!(ends(old));
    }
}

#[tokio::test]
async fn what_does_not_finish_is_cut_in_time_and_what_came_meanwhile_has_had_its_own() {
    let mut world = World::stopping(OnStop::Close, LONG);
    world.apply(&[("shop/cart", &own())]);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut old = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut old, "before"));
    let draining = drain(&world, Duration::from_secs(6));
    world.until("closed", |_| world.redirect.left() == [Parting::Closed]).await;
    assert!(says(&mut old, "still within its time"));
    ended(draining).await;
    assert!(ends(old));
}

#[tokio::test]
async fn a_second_word_closes_at_once() {
    let mut world = World::stopping(OnStop::Close, LONG);
    world.apply(&[("shop/cart", &own())]);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut old = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut old, "before"));
    let _draining = drain(&world, LONG);
    world.forest.reached(Phase::Draining).await;
    ended(drain(&world, Duration::ZERO)).await;
    assert!(ends(old));
    assert_eq!(world.redirect.left(), [Parting::Closed]);
}

/// Pods in a snapshot that knows these policies of them; of the others it knows nothing yet.
fn protect(world: &World, policies: [(&str, Option<InboundPolicy>); 3]) {
    let mut mesh = Mesh { version: 1, ..Mesh::default() };
    let mut snapshots = BTreeMap::new();
    for (pod, policy) in policies {
        let workload = workload(pod, &own());
        let mut snapshot = Snapshot::empty(workload.tenant.clone());
        let known = policy.map(|policy| (workload.pod.clone(), Arc::new(policy)));
        snapshot.policies = Arc::new(known.into_iter().collect());
        snapshots.insert(workload.tenant.clone(), Arc::new(snapshot));
        mesh.workloads.insert(workload.pod.clone(), Arc::new(workload));
    }
    world.forest.apply(Configuration { mesh: Arc::new(mesh), snapshots, rejected: Rejected::default() });
}

#[tokio::test]
async fn who_is_protected_stays_closed_to_what_comes_where_others_are_let_go() {
    let world = World::stopping(OnStop::Open, LONG);
    let strict = Some(PolicyName::new("shop".try_into().unwrap(), "peers".try_into().unwrap()));
    let protected =
        InboundPolicy { peers: PeerRule { strict, ports: Vec::new() }, ..InboundPolicy::default() };
    assert!(protected.protects() && !InboundPolicy::default().protects());
    protect(
        &world,
        [("bank/open", Some(InboundPolicy::default())), ("shop/closed", Some(protected)), ("till/new", None)],
    );
    let forest = world.until("three trees", |forest| trees(forest).len() == 3).await;
    let mut old = world.connect(&forest, "bank/open", world.echo);
    assert!(says(&mut old, "before"));
    let draining = drain(&world, LONG);
    world.until("one is let go", |_| world.redirect.ways_back() == 1).await;
    assert_eq!(world.redirect.left(), []);
    drop(old);
    ended(draining).await;
    assert_eq!(world.redirect.left(), [Parting::OutboundOpen, Parting::OutboundOpen]);
    assert_eq!(world.redirect.ways_back(), 0);
}
