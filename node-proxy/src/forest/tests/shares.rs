//! What cells may hold of the process's descriptors while tenants come, one after the other, and go.

use super::*;
use crate::tenancy::Holding;

impl World {
    fn holding(&self, tenant: &str) -> Holding {
        let ledgers = self.forest.ledgers();
        let its = ledgers.iter().find(|(id, _)| id.as_str() == tenant);
        its.map(|(_, ledger)| ledger.holding()).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_cell_that_runs_leaves_room_for_tenants_that_come_later_and_gets_it_back() {
    let names = ["shop/cart", "bank/teller", "mail/box", "news/desk"];
    let tenants = names.map(|name| name.split_once('/').unwrap().0);
    let netns = own();
    let mut world = World::new();
    let mut first = None;
    // Comes and goes: three more, and none of them.
    for count in [1, 2, 3, 4, 1] {
        let pods: Vec<_> = names[..count].iter().map(|name| (*name, netns.as_path())).collect();
        world.apply(&pods);
        let share = (262_144 - 8192) / 2 / (count + 1);
        let share = share.min(262_144 / 6);
        let forest = world
            .until("every cell has its share", |_| {
                tenants[..count].iter().all(|tenant| world.holding(tenant).bound == share)
            })
            .await;
        let client = first.get_or_insert_with(|| world.connect(&forest, "shop/cart", world.echo));
        assert!(says(client, "all the while"), "with {count} tenants");
    }
    world.until("it is told what it holds", |_| world.holding("shop").held == 1).await;
}
