//! Pods that were left refused and cannot be planted, or are planted anew: who is let go, and who is not.

use std::os::fd::AsFd as _;

use ebpf_redirect::Parting;

use super::*;
use crate::sys::netns::Netns;

impl World {
    /// As after a daemon that has ended and left whoever is in the namespace of these tests refused.
    fn after_another() -> Self {
        let world = Self::new();
        world.redirect.leave_behind(Netns::current().unwrap().as_fd());
        world
    }
}

/// Whose address is not there.
fn displaced(pod: &str, netns: &Path) -> Workload {
    Workload { addresses: vec!["2001:db8::7".parse().unwrap()], ..workload(pod, netns) }
}

#[tokio::test]
async fn a_pod_that_was_left_refused_and_cannot_be_planted_stays_so_until_it_can_or_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    // By another path than it was known by.
    let netns = directory.path().join("netns");
    std::os::unix::fs::symlink(own(), &netns).unwrap();
    let mut world = World::after_another();
    world.apply_workloads([displaced("shop/cart", &netns)], &Arc::default());
    world.forest.reached(Phase::Ready).await;
    let forest = world.until("it waits", |forest| forest.waiting.len() == 1).await;
    assert!(forest.waiting[0].problem.contains("is on no interface"), "{}", forest.waiting[0].problem);
    assert_eq!((world.redirect.unclaimed(), world.redirect.enrolments()), (1, 0));
    // Its address is back.
    world.apply(&[("shop/cart", &netns)]);
    world.until("planted", |forest| trees(forest) == ["shop/cart"]).await;
    assert_eq!((world.redirect.unclaimed(), world.redirect.enrolments()), (0, 1));

    let mut world = World::after_another();
    world.apply_workloads([displaced("shop/cart", &netns)], &Arc::default());
    world.until("it waits", |forest| forest.waiting.len() == 1).await;
    world.apply(&[]);
    world.until("it is gone", |forest| forest.waiting.is_empty()).await;
    assert_eq!(world.redirect.unclaimed(), 0);
}

#[tokio::test]
async fn a_pod_whose_object_is_rejected_stays_refused_and_so_does_everybody_where_it_is_not_known_who_is() {
    let known = |netns: &[PathBuf]| Rejected { netns: netns.iter().cloned().collect(), may_be_more: false };
    for (rejected, refused) in [
        (known(&[own()]), 1),
        (known(&["/proc/self/ns/uts".into(), "/nowhere".into()]), 0),
        (Rejected { may_be_more: true, ..Rejected::default() }, 1),
    ] {
        let world = World::after_another();
        let said = format!("{rejected:?}");
        world.forest.apply(Configuration { mesh: Arc::default(), snapshots: BTreeMap::new(), rejected });
        world.forest.reached(Phase::Ready).await;
        assert_eq!(world.redirect.unclaimed(), refused, "{said}");
    }
}

#[tokio::test]
async fn a_pod_that_moves_to_another_tenant_is_never_let_go_even_where_it_cannot_be_planted_there() {
    let mut world = World::new();
    let cart = workload("shop/cart", &own());
    world.apply_workloads([cart.clone()], &Arc::default());
    world.until("planted", |forest| trees(forest) == ["shop/cart"]).await;
    let kept = TenantId::Namespace(Namespace::try_from("kept").unwrap());
    world.apply_workloads([Workload { tenant: kept.clone(), ..cart }], &Arc::default());
    world.until("moved", |forest| cell(forest, "kept").is_some_and(|cell| cell.trees.len() == 1)).await;
    assert_eq!(world.redirect.left(), [Parting::Closed]);
    assert_eq!((world.redirect.enrolments(), world.redirect.ways_back()), (2, 0));
    assert_eq!(world.redirect.unclaimed(), 0);

    let displaced = Workload { tenant: kept, ..displaced("shop/cart", &own()) };
    world.apply_workloads([displaced], &Arc::default());
    world.until("it waits", |forest| forest.waiting.len() == 1).await;
    assert_eq!((world.redirect.unclaimed(), world.redirect.ways_back()), (1, 0));
}
