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

#[tokio::test]
async fn a_pod_whose_namespace_goes_by_another_name_stays_planted_until_that_name_is_another_s() {
    let directory = tempfile::tempdir().unwrap();
    let link = |name: &str, to: &str| {
        let path = directory.path().join(name);
        std::os::unix::fs::symlink(to, &path).unwrap();
        path
    };
    let (one, two) = (link("one", "/proc/self/ns/net"), link("two", "/proc/self/ns/net"));
    let mut world = World::new();
    world.apply(&[("shop/cart", &one)]);
    let forest = world.until("a tree", |forest| trees(forest).len() == 1).await;
    let mut client = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut client, "by its first name"));
    world.apply(&[("shop/cart", &two)]);
    world.until("the edit", |forest| forest.configuration_version == 2).await;
    // It is looked for by the name that it has now.
    std::fs::remove_file(one).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(says(&mut client, "by its second"));
    assert_eq!((world.redirect.enrolments(), world.redirect.ways_back()), (1, 0));
    // A namespace of another type is no place for it.
    let elsewhere = link("three", "/proc/self/ns/uts");
    world.apply(&[("shop/cart", &elsewhere)]);
    world.until("it waits", |forest| trees(forest).is_empty() && forest.waiting.len() == 1).await;
    assert!(!matches!(client.read(&mut [0; 8]), Ok(1..)), "it ends with its tree");
}
