//! A keeper alone, with no supervisor: what its cell is by its tenant's isolation class.

use std::rc::Rc;

use config::name::Namespace;
use ebpf_redirect::fake::FakeRedirect;

use super::*;
use crate::{
    forest::{Lanes, OnStop, lane::Apart},
    identity::{credentials::Sources, testing},
    telemetry::access::{Target, Writer},
    upstream::connect::Kernel,
};

fn settings(identity: Sources) -> Settings {
    Settings {
        instance: "test".to_owned(),
        redirect: Arc::new(FakeRedirect::default()),
        limits: Limits::default(),
        site: Arc::default(),
        descriptors: 262_144,
        access_log: Arc::new(Writer::start(Target::Off).unwrap()),
        connect: || Rc::new(Kernel),
        identity,
        find: None,
        grace: Duration::from_millis(100),
        on_stop: OnStop::Open,
        budgets: false,
        lanes: Lanes::of_cpus(1),
    }
}

fn snapshot(isolation: Isolation) -> Arc<Snapshot> {
    Arc::new(Snapshot { isolation, ..Snapshot::empty(tenant()) })
}

fn tenant() -> TenantId {
    TenantId::Namespace(Namespace::try_from("shop").unwrap())
}

#[tokio::test]
async fn only_a_cell_that_is_a_thread_is_among_those_whose_cpu_the_daemon_divides() {
    let settings = settings(testing::no_sources());
    let first = (snapshot(Isolation::Thread), 16);
    let mut keeper = Keeper::start(tenant(), first, &[], &settings, Instant::now()).unwrap();
    assert!(keeper.cpu_account().is_some() && keeper.account().arena.is_some());
    keeper.reign.as_mut().unwrap().lane.process = Some(Apart::default());
    assert!(keeper.cpu_account().is_none() && keeper.account().arena.is_none());
    keeper.give_up();
}

#[tokio::test]
async fn a_cell_stays_a_thread_where_a_process_would_have_no_certificate() {
    let now = Instant::now();
    // As SPIRE's, this source has nothing for another process.
    let without = settings(testing::no_sources());
    let mut keeper = Keeper::start(tenant(), (snapshot(Isolation::Process), 16), &[], &without, now).unwrap();
    assert_eq!(keeper.class(), Isolation::Thread);
    assert!(!keeper.reign.as_ref().unwrap().lane.is_process());
    keeper.swap(&snapshot(Isolation::Thread), now);
    keeper.swap(&snapshot(Isolation::Process), now);
    assert!(keeper.reign.is_some() && keeper.leaving.is_empty(), "nothing has changed for its connections");
    keeper.give_up();

    let with = settings(testing::TestAuthority::new().sources());
    let mut keeper = Keeper::start(tenant(), (snapshot(Isolation::Thread), 16), &[], &with, now).unwrap();
    keeper.swap(&snapshot(Isolation::Process), now);
    assert_eq!((keeper.class(), keeper.leaving.len()), (Isolation::Process, 1));
    keeper.give_up();
}

#[tokio::test]
async fn a_cell_that_leaves_for_one_of_another_class_obeys_what_is_said_later() {
    let (settings, now) = (settings(testing::TestAuthority::new().sources()), Instant::now());
    let first = (snapshot(Isolation::Thread), 16);
    let mut keeper = Keeper::start(tenant(), first, &[], &settings, now).unwrap();
    // In the place of its cell.
    let (inbox, mut told) = mpsc::channel(8);
    keeper.reign.as_mut().unwrap().inbox = inbox;
    let mut swapped = |to: &Arc<Snapshot>| {
        let all = std::iter::from_fn(|| told.try_recv().ok());
        all.filter(|message| matches!(message, ToCell::Swap(snapshot) if Arc::ptr_eq(snapshot, to))).count()
    };
    let edit = snapshot(Isolation::Process);
    keeper.swap(&edit, now);
    assert_eq!((keeper.reign.is_none(), keeper.leaving.len()), (true, 1));
    assert_eq!(swapped(&edit), 1, "what has changed its class may revoke, too");
    let later = snapshot(Isolation::Process);
    keeper.swap(&later, now);
    assert_eq!(swapped(&later), 1);
    keeper.give_up();
}

#[tokio::test]
async fn a_cell_that_leaves_and_does_not_take_what_it_has_to_obey_is_given_up() {
    let (settings, now) = (settings(testing::TestAuthority::new().sources()), Instant::now());
    let first = (snapshot(Isolation::Thread), 16);
    let mut keeper = Keeper::start(tenant(), first, &[], &settings, now).unwrap();
    // Room for what it is told as it leaves, and for nothing later.
    let (inbox, _told) = mpsc::channel(2);
    keeper.reign.as_mut().unwrap().inbox = inbox;
    keeper.swap(&snapshot(Isolation::Process), now);
    assert_eq!((keeper.leaving.len(), keeper.abandoned.len()), (1, 0));
    keeper.swap(&snapshot(Isolation::Process), now);
    assert_eq!((keeper.leaving.len(), keeper.abandoned.len()), (0, 1));
    keeper.give_up();
}

#[tokio::test]
async fn further_lanes_of_a_cell_that_leaves_for_one_of_another_class_have_as_long_as_it_has() {
    let mut settings = settings(testing::TestAuthority::new().sources());
    settings.lanes = Lanes { least: 2, most: 2 };
    let now = Instant::now();
    let first = (snapshot(Isolation::Thread), 16);
    let mut keeper = Keeper::start(tenant(), first, &[], &settings, now).unwrap();
    keeper.grow(&settings, now);
    keeper.swap(&snapshot(Isolation::Process), now);
    let hands: Vec<&Keeper> = keeper.hands.all().collect();
    assert_eq!((hands.len(), hands[0].draining), (1, true));
    assert!(hands[0].reign.is_some() && hands[0].leaving.is_empty(), "it is one that ends, and no more");
    keeper.give_up();
}

#[tokio::test]
async fn a_further_lane_that_fails_is_replaced_alone_and_what_it_had_counted_stays() {
    let (mut keeper, settings, now) = with_two_lanes();
    assert_eq!((keeper.grow(&settings, now), keeper.grow(&settings, now)), (Some(Change::Began(1)), None));
    assert_eq!(keeper.cpu_account().unwrap().lanes.len(), 2);
    keeper.ledger.refused(Reason::NoRoute);
    let hand = keeper.hands.serving_mut().next().unwrap();
    hand.ledger.refused(Reason::NoRoute);
    hand.depose("is stuck", now);
    assert_eq!(keeper.look(now), Outcome::Same, "the first lane serves");
    assert!(keeper.revive(&settings, now).is_empty(), "there is a pause");
    let later = now + Duration::from_secs(60);
    assert_eq!(keeper.revive(&settings, later), [1]);
    assert_eq!((keeper.further_lanes(), keeper.restarts), (vec![1], 1));
    keeper.look(later);
    assert_eq!(keeper.ledger().refusals(Reason::NoRoute), 2);
    keeper.give_up();
}

#[tokio::test]
async fn a_tenant_whose_lanes_are_to_end_has_ended_when_all_have_and_keeps_its_totals() {
    let (mut keeper, settings, now) = with_two_lanes();
    keeper.grow(&settings, now);
    keeper.hands.serving_mut().next().unwrap().ledger.refused(Reason::NoRoute);
    keeper.drain(Duration::ZERO, now);
    let ended = || {
        let outcome = keeper.look(now);
        (outcome == Outcome::Ended).then(|| (keeper.further_lanes(), keeper.ended_lanes()))
    };
    let (lanes, ended) = wait_for(ended).await;
    assert!(lanes.is_empty() && !ended.is_zero());
    assert_eq!(keeper.ledger().refusals(Reason::NoRoute), 1);
}

/// A keeper that is to have two lanes, and has the first.
fn with_two_lanes() -> (Keeper, Settings, Instant) {
    let mut settings = settings(testing::no_sources());
    settings.lanes = Lanes { least: 2, most: 2 };
    let now = Instant::now();
    let keeper = Keeper::start(tenant(), (snapshot(Isolation::Thread), 16), &[], &settings, now).unwrap();
    (keeper, settings, now)
}

async fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(it) = what() {
            return it;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_tenant_that_comes_back_while_its_cell_ends_counts_on_from_where_it_was() {
    let (settings, now) = (settings(testing::no_sources()), Instant::now());
    let first = (snapshot(Isolation::Thread), 16);
    let mut earlier = Keeper::start(tenant(), first.clone(), &[], &settings, now).unwrap();
    earlier.ledger.carried(3, 4);
    earlier.put_down_the_past();
    earlier.ledger.works_beside(7_000);
    let before = earlier.ledger.cpu_in_all();
    let mut keepers = [earlier];
    let mut keeper = Keeper::start(tenant(), first, &keepers, &settings, now).unwrap();
    assert_eq!(keeper.ledger.bytes_sent.load(Relaxed), 4);
    keeper.put_down_the_past();
    assert!(keeper.ledger.cpu_in_all() >= before, "{} after {before}", keeper.ledger.cpu_in_all());
    keeper.give_up();
    keepers[0].give_up();
}
