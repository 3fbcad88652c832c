//! Who burns CPU pays for it: a cell that serves, and one that was given up.

use super::*;

#[tokio::test]
async fn a_stuck_cell_is_replaced_while_its_thread_still_spins() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let mut teller = world.connect(&forest, "bank/teller", world.echo);
    let mut earlier = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut earlier, "hello"));
    let mut stuck = world.connect(&forest, "shop/cart", World::to(SPIN));
    stuck.write_all(b"\0\0\0\0").unwrap();

    world.until("a restart", |forest| cell(forest, "shop").is_some_and(|cell| cell.restarts == 1)).await;
    assert!(ends(stuck), "its connections are ended from outside");
    assert!(ends(earlier));
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "served by the successor"));
    assert!(says(&mut teller, "undisturbed"));
    let used = |forest: &ForestDescription| cell(forest, "shop").map_or(0.0, |cell| cell.usage.cpu_seconds);
    let before = used(&world.until("a cell", |forest| used(forest) > 0.0).await);
    // Its successor is at rest.
    world.until("what it burns is its tenant's", |forest| used(forest) > before + 0.5).await;
    RELEASED.store(true, Relaxed);
    world
        .until("the thread ends", |forest| cell(forest, "shop").is_some_and(|cell| cell.state == "running"))
        .await;
    assert!(says(&mut cart, "still here"));
}

#[tokio::test]
async fn what_a_cell_burns_is_in_its_ledger_and_in_no_other() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let cpu =
        |forest: &ForestDescription, tenant| cell(forest, tenant).map_or(0.0, |cell| cell.usage.cpu_seconds);
    assert!(ends(world.connect(&forest, "shop/cart", World::to(BURN))));
    let forest = world.until("it shows", |forest| cpu(forest, "shop") >= 0.15).await;
    assert!(cpu(&forest, "bank") < 0.05, "{}", cpu(&forest, "bank"));
    assert!(cpu(&forest, "shop") + cpu(&forest, "bank") <= clock::process_cpu().as_secs_f64());
    world.until("heap", |forest| cell(forest, "shop").is_some_and(|cell| cell.usage.heap_bytes > 0)).await;
}
