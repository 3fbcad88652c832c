//! Pods whose network namespace is not there yet, is something else, or is another's.

use super::*;

#[tokio::test]
async fn a_pod_without_a_namespace_is_reported_and_planted_when_it_appears() {
    let directory = tempfile::tempdir().unwrap();
    let netns = directory.path().join("netns");
    let mut world = World::new();
    world.apply(&[("shop/cart", &netns), ("bank/teller", &own())]);
    world.forest.reached(Phase::Ready).await;
    let forest = world.until("one tree", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
    assert!(forest.waiting[0].problem.contains("canopy.mesh/netns"), "{}", forest.waiting[0].problem);

    std::os::unix::fs::symlink(own(), &netns).unwrap();
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    assert!(forest.waiting.is_empty());

    std::fs::remove_file(&netns).unwrap();
    let forest = world.until("one tree again", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_namespace_is_called_that() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut world = World::new();
    world.apply(&[("shop/cart", file.path())]);
    let forest = world.until("it waits", |forest| !forest.waiting.is_empty()).await;
    assert!(forest.waiting[0].problem.contains("is not a network namespace"));
    assert!(forest.cells.is_empty(), "no cell without a tree");
}

#[tokio::test]
async fn a_fifo_holds_up_no_other_pod() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut world = World::new();
    world.apply(&[("bank/teller", &fifo), ("shop/cart", &own())]);
    let forest = world.until("one tree", |forest| trees(forest) == ["shop/cart"]).await;
    assert!(forest.waiting[0].problem.contains("is not a network namespace"));
}

#[tokio::test]
async fn a_pod_whose_address_is_not_in_the_namespace_it_names_gets_no_tree_there() {
    let mut world = World::new();
    let thief = Workload {
        addresses: vec!["127.0.0.1".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        ..workload("shop/thief", &own())
    };
    world.apply_workloads([thief, workload("bank/teller", &own())], &Arc::default());
    let forest = world.until("one tree", |forest| trees(forest) == ["bank/teller"]).await;
    assert_eq!(forest.waiting.len(), 1);
    assert!(forest.waiting[0].problem.contains("2001:db8::7 (status.podIPs) is on no interface"));
}
