//! What cannot be read is refused by name, alone: what came with it is obeyed, what was in force before stays, and what protects is
//! not opened.

use config::discovery::messages::Action;
use e2e::{Traffic, eventually};
use testkit::{
    Outcome,
    control_plane::{Change, Step},
};

use super::{
    said::{
        ADDRESS, AUTHORIZATION, ROUTE, ROUTE_NAME, host, policy, route, set_policy, set_route, set_workload,
    },
    shop::{Shop, at},
};

/// No message at all: a field that has no end.
const POISON: &[u8] = &[0x0a, 0xff];

#[test]
fn of_a_response_with_one_poison_resource_that_one_is_named_and_the_others_are_obeyed() -> Outcome {
    let mut shop = Shop::silent()?;
    let mut all = shop.mesh();
    all.push(Change::set(ADDRESS, &host("shop", "poison"), POISON));
    shop.plane.change(&all)?;
    let daemon = shop.daemon(&[])?;
    let refusal = shop.plane.answer(ADDRESS, &host("shop", "poison"))?;
    assert_eq!(refusal.step, Step::Nack, "{refusal:?}");
    let why = refusal.error.unwrap_or_default();
    assert!(why.contains(&host("shop", "poison")), "{why}");
    assert!(!why.contains(&host("shop", "web")), "only what is wrong is named: {why}");
    eventually("the others are obeyed", || shop.answers())?;
    eventually("the status names it", || {
        daemon.canopy(&["status"]).is_ok_and(|status| {
            status.status.code() == Some(1) && String::from_utf8_lossy(&status.stdout).contains("poison")
        })
    })?;
    daemon.wait_metric("canopy_configuration_rejected_objects", &[], 1.0)?;

    shop.plane.serve(&[Change::remove(ADDRESS, &host("shop", "poison"))])?;
    eventually("nothing is wrong any more", || {
        daemon.canopy(&["status"]).is_ok_and(|status| status.status.success())
    })?;
    Ok(())
}

#[test]
fn a_resource_that_was_good_stays_as_it_was_while_what_came_with_its_poison_changes() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane.change(&[set_route(&route(&["old"]))])?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    eventually("the route is obeyed", || traffic.next(20).is_ok_and(|tally| tally.of("new") == 0))?;

    shop.plane.change(&[Change::set(ROUTE, ROUTE_NAME, POISON)])?;
    let refusal = shop.plane.answer(ROUTE, ROUTE_NAME)?;
    assert!(refusal.error.is_some_and(|why| why.contains(ROUTE_NAME)));
    shop.plane
        .change(&[Change::set(ADDRESS, &host("shop", "web"), POISON), set_workload(shop.said_of_new())])?;
    let refusal = shop.plane.answer(ADDRESS, &host("shop", "web"))?;
    assert!(refusal.error.is_some_and(|why| why.contains(&host("shop", "web"))));
    let meanwhile = traffic.next(100)?;
    assert_eq!((meanwhile.of("new"), meanwhile.failures), (0, 0), "{meanwhile:?}");

    shop.serve(&daemon, &[set_route(&route(&["new"]))])?;
    traffic.next(1)?;
    let mended = traffic.next(100)?;
    assert_eq!((mended.of("old"), mended.failures), (0, 0), "{mended:?}");
    Ok(())
}

#[test]
fn a_policy_that_cannot_be_read_denies_its_namespace_until_it_can_or_is_gone() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    shop.plane.change(&[
        Change::set(AUTHORIZATION, "shop/poison", POISON),
        set_policy(&policy("client", Action::Allow, "client")),
    ])?;
    let refusal = shop.plane.answer(AUTHORIZATION, "shop/poison")?;
    assert!(refusal.error.is_some_and(|why| why.contains("shop/poison") && !why.contains("shop/client")));
    eventually("it denies", || shop.refusal() == "policy_unreadable")?;

    shop.serve(&daemon, &[set_policy(&policy("poison", Action::Deny, "somebody"))])?;
    assert!(shop.answers(), "{}", shop.refusal());
    // It has a last good version now.
    shop.plane.change(&[Change::set(AUTHORIZATION, "shop/poison", POISON)])?;
    assert_eq!(shop.plane.answer(AUTHORIZATION, "shop/poison")?.step, Step::Nack);
    assert!(shop.answers(), "{}", shop.refusal());
    shop.serve(&daemon, &[set_policy(&policy("poison", Action::Deny, "client"))])?;
    assert_eq!(shop.refusal(), "policy_denied");
    shop.serve(&daemon, &[Change::remove(AUTHORIZATION, "shop/poison")])?;
    assert!(shop.answers(), "{}", shop.refusal());
    Ok(())
}
