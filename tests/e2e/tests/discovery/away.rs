//! Who tells is away, slow, or comes and goes: what was told last is in force, and nobody who calls notices.

use std::{collections::BTreeMap, thread, time::Duration};

use config::discovery::messages::Action;
use e2e::{Traffic, eventually};
use testkit::{
    Outcome,
    control_plane::{Event, Request, Response, Step},
};

use super::{
    said::{ADDRESS, AUTHORIZATION, ROUTE, policy, route, set_policy, set_route},
    shop::{Shop, at},
};

#[test]
fn after_a_restart_of_who_tells_the_node_says_what_it_knows_and_nothing_is_sent_twice() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane
        .change(&[set_route(&route(&["old"])), set_policy(&policy("client", Action::Allow, "client"))])?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    eventually("the route is obeyed", || traffic.next(20).is_ok_and(|tally| tally.of("new") == 0))?;

    shop.plane.stop()?;
    traffic.next(200)?;
    shop.plane.mark();
    shop.plane.listen()?;
    let known = known(&mut shop, &[ADDRESS, AUTHORIZATION, ROUTE])?;
    assert_eq!(known, BTreeMap::from([(ADDRESS, 6), (AUTHORIZATION, 1), (ROUTE, 1)]));
    shop.serve(&daemon, &[set_route(&route(&["new"]))])?;
    let sent = sent(shop.plane.all_events(), 2);
    assert_eq!(sent.iter().map(|response| response.count).sum::<u64>(), 1, "{sent:?}");
    traffic.next(1)?;
    let shifted = traffic.next(50)?;
    assert_eq!((shifted.of("old"), shifted.failures), (0, 0), "{shifted:?}");
    Ok(())
}

#[test]
fn ten_restarts_of_who_tells_within_seconds_are_not_noticed_and_the_next_change_is_obeyed() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    for _ in 0..10 {
        shop.plane.stop()?;
        thread::sleep(Duration::from_millis(100));
        shop.plane.listen()?;
        thread::sleep(Duration::from_millis(200));
    }
    for _ in 0..10 {
        shop.plane.drop_streams()?;
        thread::sleep(Duration::from_millis(50));
    }
    shop.serve(&daemon, &[set_route(&route(&["new"]))])?;
    traffic.next(1)?;
    let shifted = traffic.next(100)?;
    assert_eq!((shifted.of("old"), shifted.failures), (0, 0), "{shifted:?}");
    assert_eq!(traffic.tally().failures, 0, "{:?}", traffic.tally());
    assert!(!daemon.output().contains("panicked"), "{}", daemon.output());
    Ok(())
}

#[test]
fn who_tells_slowly_is_waited_for_and_what_is_in_force_stays() -> Outcome {
    let mut shop = Shop::told()?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    shop.plane.delay(Duration::from_secs(2))?;
    // Counted from before the change on: on a machine that stands still for a while, the delay may be over at the next line.
    let before = traffic.tally();
    shop.plane.change(&[set_route(&route(&["new"]))])?;
    traffic.next(200)?;
    let meanwhile = traffic.tally().since(&before);
    assert!(meanwhile.of("old") > 0 && meanwhile.failures == 0, "{meanwhile:?}");
    eventually("it is obeyed in the end", || traffic.next(20).is_ok_and(|tally| tally.of("old") == 0))?;
    // A stream that ends while a response is on its way, and one that begins so slowly.
    shop.plane.drop_streams()?;
    shop.plane.delay(Duration::ZERO)?;
    shop.serve(&daemon, &[set_route(&route(&["old"]))])?;
    traffic.next(1)?;
    let shifted = traffic.next(100)?;
    assert_eq!((shifted.of("new"), traffic.tally().failures), (0, 0), "{shifted:?}");
    Ok(())
}

#[test]
fn a_node_whose_control_plane_is_away_starts_with_what_it_was_told_last() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane
        .change(&[set_route(&route(&["new"])), set_policy(&policy("client", Action::Allow, "client"))])?;
    let folder = tempfile::tempdir()?;
    let cache = folder.path().display().to_string();
    let arguments = ["--discovery-cache", &cache];
    let daemon = shop.daemon(&arguments)?;
    eventually("the Service answers", || shop.answers())?;
    eventually("the route is obeyed", || shop.get().is_ok_and(|answer| answer.text().trim() == "new"))?;
    drop(daemon);
    shop.plane.stop()?;

    let daemon = shop.daemon(&arguments)?;
    let traffic = Traffic::start(&shop.client, at(10), "web.shop")?;
    let cached = traffic.next(100)?;
    assert_eq!((cached.of("old"), cached.failures), (0, 0), "{cached:?}");
    shop.plane.mark();
    shop.plane.listen()?;
    let known = known(&mut shop, &[ADDRESS, ROUTE])?;
    assert_eq!(known, BTreeMap::from([(ADDRESS, 6), (ROUTE, 1)]), "what is in the cache is known");
    shop.serve(&daemon, &[set_route(&route(&["old"]))])?;
    traffic.next(1)?;
    let shifted = traffic.next(100)?;
    assert_eq!((shifted.of("new"), traffic.tally().failures), (0, 0), "{shifted:?}");
    Ok(())
}

/// How many resources the node says to have, by type, in the first request of each on a stream.
fn known<'a>(shop: &mut Shop, types: &[&'a str]) -> Result<BTreeMap<&'a str, usize>, testkit::KitError> {
    shop.plane.wait("what the node knows", |events| {
        let first = |url: &&'a str| {
            let mut requests = events.iter().filter_map(request);
            let found = requests.find(|request| request.type_url == *url && request.step == Step::First)?;
            Some((*url, found.initial.len()))
        };
        types.iter().map(first).collect()
    })
}

fn request(event: &Event) -> Option<&Request> {
    if let Event::Request(request) = event { Some(request) } else { None }
}

/// What was sent on streams from this one on.
fn sent(events: &[Event], from: u64) -> Vec<Response> {
    let response = |event: &Event| match event {
        Event::Response(response) if response.stream >= from => Some(response.clone()),
        _ => None,
    };
    events.iter().filter_map(response).collect()
}
