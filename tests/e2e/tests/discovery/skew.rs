//! A control plane that is newer than the node, or knows nothing of it.

use config::discovery::{Kind, messages::Action};
use e2e::{Traffic, eventually};
use serde_json::json;
use testkit::{
    Outcome,
    control_plane::{Change, Event, Step},
    http,
};

use super::{
    said::{
        AUTHORIZATION, ROUTE, ROUTE_NAME, policy, route, set_facts, set_policy, set_route,
        with_a_new_condition,
    },
    shop::{Shop, at},
};

#[test]
fn a_route_with_a_field_that_is_not_known_is_refused_whole_and_the_one_before_stays() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane.change(&[set_route(&route(&["old"]))])?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    eventually("the route is obeyed", || traffic.next(20).is_ok_and(|tally| tally.of("new") == 0))?;
    let mut newer = route(&["new"]);
    newer["rules"][0]["only_at_full_moon"] = json!(true);
    shop.plane.change(&[set_route(&newer)])?;
    let refusal = shop.plane.answer(ROUTE, ROUTE_NAME)?;
    assert_eq!(refusal.step, Step::Nack);
    let why = refusal.error.unwrap_or_default();
    assert!(why.contains(ROUTE_NAME) && why.contains("only_at_full_moon"), "{why}");
    let meanwhile = traffic.next(100)?;
    assert_eq!((meanwhile.of("new"), meanwhile.failures), (0, 0), "{meanwhile:?}");
    assert!(daemon.output().contains("only_at_full_moon"), "the log says it, too: {}", daemon.output());
    Ok(())
}

#[test]
fn a_policy_of_the_model_s_own_with_a_field_that_is_not_known_closes_and_never_opens() -> Outcome {
    let mut shop = Shop::told()?;
    let _daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    // Who is nobody's calls in the clear.
    let stranger = shop.stage.node.pod("away", "stranger")?;
    let stranger_gets_in =
        || http::get(&stranger, shop.old.at(80), "old", "/").is_ok_and(|answer| answer.status == 200);
    assert!(stranger_gets_in(), "before anything is said");
    let newer = json!({
        "name": {"namespace": "shop", "name": "newer"}, "created": null, "scope": {"namespace": "shop"},
        "mode": "disable", "ports": [], "unreadable": false, "only_at_full_moon": true,
    });
    shop.plane.change(&[set_facts(Kind::PeerAuthentication, "shop/newer", &newer)])?;
    let refusal = shop.plane.answer(Kind::PeerAuthentication.type_url(), "shop/newer")?;
    let why = refusal.error.unwrap_or_default();
    assert!(why.contains("shop/newer") && why.contains("only_at_full_moon"), "{why}");
    eventually("no plaintext is taken", || !stranger_gets_in())?;
    assert!(shop.answers(), "who proves who it is gets in: {}", shop.refusal());
    Ok(())
}

#[test]
fn a_condition_that_is_not_known_denies_where_it_would_deny_and_allows_nothing() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    // It would deny the client if the condition held.
    let newer = with_a_new_condition(&policy("newer", Action::Deny, "client"));
    shop.serve(&daemon, &[Change::set(AUTHORIZATION, "shop/newer", &newer)])?;
    assert_eq!(shop.refusal(), "policy_denied");
    // It does not deny others, whom the condition beside it does not mean.
    let newer = with_a_new_condition(&policy("newer", Action::Deny, "somebody"));
    shop.serve(&daemon, &[Change::set(AUTHORIZATION, "shop/newer", &newer)])?;
    assert!(shop.answers(), "{}", shop.refusal());
    // It would allow the client if the condition held.
    let newer = with_a_new_condition(&policy("newer", Action::Allow, "client"));
    shop.serve(&daemon, &[Change::set(AUTHORIZATION, "shop/newer", &newer)])?;
    assert_eq!(shop.refusal(), "no_policy_allows");
    shop.serve(&daemon, &[set_policy(&policy("client", Action::Allow, "client"))])?;
    assert!(shop.answers(), "{}", shop.refusal());
    Ok(())
}

#[test]
fn a_resource_whose_body_is_of_another_type_is_refused_and_nothing_else_is_disturbed() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    let other = "type.googleapis.com/canopy.mesh.v2.Route";
    shop.plane.change(&[
        set_route(&route(&["new"])).with_body_of(other),
        // What nobody asks for is not sent.
        Change::set(other, ROUTE_NAME, b"whatever"),
    ])?;
    let refusal = shop.plane.answer(ROUTE, ROUTE_NAME)?;
    let why = refusal.error.unwrap_or_default();
    assert!(why.contains(ROUTE_NAME) && why.contains(other), "{why}");
    shop.both_answer(&traffic)?;
    shop.serve(&daemon, &[set_route(&route(&["old"]))])?;
    traffic.next(1)?;
    assert_eq!(traffic.next(100)?.of("new"), 0);
    Ok(())
}

#[test]
fn a_control_plane_that_knows_none_of_the_model_s_own_types_is_enough() -> Outcome {
    let mut shop = Shop::told()?;
    // istiod answers nothing to what it does not know.
    let own: Vec<&str> =
        Kind::ALL.into_iter().map(Kind::type_url).filter(|url| url.contains("canopy")).collect();
    assert_eq!(own.len(), 6);
    shop.plane.ignore(&own)?;
    let _daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let answered = shop.plane.events().iter().any(|event| match event {
        Event::Response(response) => own.contains(&response.type_url.as_str()),
        _ => false,
    });
    assert!(!answered, "{:?}", shop.plane.events());
    Ok(())
}
