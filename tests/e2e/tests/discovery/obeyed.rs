//! What is told is obeyed, and what is told no more is not.

use config::discovery::messages::Action;
use e2e::{Traffic, eventually};
use testkit::{Outcome, control_plane::Change};

use super::{
    said::{
        ADDRESS, AUTHORIZATION, ROUTE, ROUTE_NAME, host, policy, route, set_policy, set_route, set_workload,
        uid, workload,
    },
    shop::{Shop, at},
};

#[test]
fn pods_and_services_of_which_istio_s_words_tell_are_reached() -> Outcome {
    let shop = Shop::told()?;
    let mut daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    shop.both_answer(&traffic)?;
    let line = daemon.wait_logged(|line| line["dst.addr"] == at(10).to_string())?;
    assert_eq!(line["delivery"], "direct", "{line}");
    Ok(())
}

#[test]
fn a_route_of_the_model_s_own_type_shifts_requests_from_the_next_on_and_goes_with_its_resource() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane.change(&[set_route(&route(&["old"]))])?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    eventually("the route is obeyed", || traffic.next(20).is_ok_and(|tally| tally.of("new") == 0))?;

    shop.serve(&daemon, &[set_route(&route(&["new"]))])?;
    // What was under way when the cell took it up may be answered by whom it was sent to.
    traffic.next(1)?;
    let shifted = traffic.next(200)?;
    assert_eq!((shifted.of("old"), shifted.failures), (0, 0), "{shifted:?}");

    shop.serve(&daemon, &[Change::remove(ROUTE, ROUTE_NAME)])?;
    shop.both_answer(&traffic)?;
    Ok(())
}

#[test]
fn an_endpoint_that_leaves_a_service_gets_no_more_requests_and_one_that_comes_back_does() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    shop.both_answer(&traffic)?;
    shop.serve(&daemon, &[set_workload(workload(&shop.new, &["new"], &[]))])?;
    traffic.next(1)?;
    let moved = traffic.next(200)?;
    assert_eq!((moved.of("new"), moved.failures), (0, 0), "{moved:?}");
    drop(traffic);
    shop.serve(&daemon, &[Change::remove(ADDRESS, &uid(&shop.old))])?;
    assert!(!shop.answers(), "the last one is gone");
    let back = set_workload(shop.said_of_new());
    shop.serve(&daemon, &[back])?;
    assert_eq!(shop.get()?.text().trim(), "new");
    Ok(())
}

#[test]
fn a_policy_is_obeyed_until_its_resource_is_removed() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    shop.serve(&daemon, &[set_policy(&policy("others", Action::Allow, "somebody"))])?;
    assert_eq!(shop.refusal(), "no_policy_allows");
    shop.serve(&daemon, &[set_policy(&policy("client", Action::Allow, "client"))])?;
    assert!(shop.answers(), "{}", shop.refusal());
    shop.serve(&daemon, &[Change::remove(AUTHORIZATION, "shop/client")])?;
    assert_eq!(shop.refusal(), "no_policy_allows");
    shop.serve(&daemon, &[Change::remove(AUTHORIZATION, "shop/others")])?;
    assert!(shop.answers(), "{}", shop.refusal());
    Ok(())
}

#[test]
fn a_service_that_is_removed_is_nobody_s_address_any_more() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    shop.serve(&daemon, &[Change::remove(ADDRESS, &host("shop", "web"))])?;
    assert!(!shop.answers(), "its VIP leads somewhere");
    assert_eq!(shop.ask(11)?.text().trim(), "old", "the others are as they were");
    Ok(())
}
