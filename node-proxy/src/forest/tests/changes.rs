//! What may change of a pod while it lives, and what makes it another.

use super::*;

#[tokio::test]
async fn a_pod_that_is_the_same_stays_steered_whatever_else_changes_of_it() {
    let mut world = World::new();
    let cart = workload("shop/cart", &own());
    world.apply_workloads([cart.clone()], &Arc::default());
    let before = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut client = world.connect(&before, "shop/cart", world.echo);
    assert!(says(&mut client, "before"));
    let mut edited = cart.clone();
    edited.labels.insert("app".to_owned(), "another".to_owned());
    edited.meshed = !edited.meshed;
    edited.exclusions.outbound_ports.push(5432);
    world.apply_workloads([edited.clone()], &Arc::default());
    let after = world.until("the edit", |forest| forest.configuration_version == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(says(&mut client, "after"));
    assert_eq!((world.redirect.enrolments(), world.redirect.ways_back()), (1, 0));
    let at = |forest: &ForestDescription| -> Vec<_> {
        forest.cells[0].trees[0].listeners.iter().map(|listener| listener.address).collect()
    };
    assert_eq!(at(&after), at(&before));
    // Who it is decides.
    world.apply_workloads([Workload { uid: Some("7".to_owned()), ..edited }], &Arc::default());
    world.until("another tree", |_| world.redirect.enrolments() == 2).await;
    assert!(!matches!(client.read(&mut [0; 8]), Ok(1..)), "it ends with the former tree");
}
