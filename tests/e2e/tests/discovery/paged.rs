//! Who tells takes no request so large, and says all in several responses: what protects is not let go before the last of them.

use std::{collections::BTreeSet, time::Duration};

use config::discovery::messages::Action;
use e2e::eventually;
use testkit::{
    Outcome,
    control_plane::{Event, Step},
};

use super::{
    said::{AUTHORIZATION, policy, set_policy},
    shop::Shop,
};

#[test]
fn a_policy_that_comes_in_the_last_of_many_responses_denies_all_the_while() -> Outcome {
    let mut shop = Shop::told()?;
    let mut policies = vec![set_policy(&policy("denies", Action::Deny, "client"))];
    let name = |number: usize| {
        format!("{number}-of-those-that-allow-the-client-and-have-a-name-that-is-rather-long")
    };
    policies.extend((1..POLICIES).map(|number| set_policy(&policy(&name(number), Action::Allow, "client"))));
    shop.plane.change(&policies)?;
    let daemon = shop.daemon(&[])?;
    eventually("it denies", || shop.refusal() == "policy_denied")?;

    shop.plane.stop()?;
    // What the node has is more than that; what it says of itself alone is less.
    shop.plane.receive(700)?;
    shop.plane.page(1)?;
    shop.plane.delay(Duration::from_millis(100))?;
    shop.plane.mark();
    shop.plane.listen()?;
    let mut taken = BTreeSet::new();
    let mut asked = 0;
    eventually("all has come, one after the other", || {
        taken.extend(shop.plane.events().iter().filter_map(nonce));
        asked += 1;
        assert_eq!(shop.refusal(), "policy_denied", "after {taken:?}");
        taken.len() >= POLICIES
    })?;
    assert!(asked >= POLICIES, "{asked}");
    daemon.wait_metric("canopy_discovery_oversized_messages_total", &["what=\"request\""], 2.0)?;
    Ok(())
}

/// What answered a part of the policies.
fn nonce(event: &Event) -> Option<String> {
    match event {
        Event::Request(request) if request.type_url == AUTHORIZATION && request.step == Step::Ack => {
            Some(request.nonce.clone())
        }
        _ => None,
    }
}

/// How many there are, each in a response of its own.
const POLICIES: usize = 9;
