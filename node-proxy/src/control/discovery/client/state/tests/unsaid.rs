//! A server that does not take all that a node could say of what it has.

use super::*;
use crate::control::discovery::client::unsaid::LITTLE;

/// Bytes of a request that gRPC's servers take unless they are told otherwise.
const TAKEN: usize = 4 << 20;

fn bytes(requests: &[Request]) -> usize {
    requests.iter().map(prost::Message::encoded_len).max().unwrap()
}

/// Holds so many routes, whose names are of a hundred bytes.
fn holding(count: usize) -> State {
    let mut state = state();
    for number in 0..count {
        state.retain(Kind::Route, &resource(&format!("{number:0100}"), &[], "1"));
    }
    state
}

#[test]
fn a_server_that_takes_no_large_request_is_told_a_part_of_it_and_then_nothing() {
    let mut state = holding(50_000);
    assert!(bytes(&state.open()) > TAKEN);
    assert!(state.say_less());
    let little = state.open();
    assert!(bytes(&little) < TAKEN && bytes(&little) > LITTLE / 2, "{}", bytes(&little));
    assert!(state.say_less());
    assert!(versions(&mut state, Kind::Route).is_empty());
    assert!(!state.say_less(), "nothing was said: that was not too much");
    assert_eq!(versions(&mut state, Kind::Route).len(), 50_000, "so there is no reason to hold back");
}

#[test]
fn what_is_little_is_said_whole() {
    let mut state = holding(3);
    state.say_less();
    assert_eq!(versions(&mut state, Kind::Route).len(), 3);
    let (batch, _) = take(&mut state, response(Kind::Route, "1", &[], &[]), &[]);
    assert_eq!(batch.removed, Vec::<String>::new(), "the server would have said so");
}

#[test]
fn what_was_not_said_is_gone_when_the_server_has_sent_all_and_not_that() {
    let mut state = state();
    for name in ["a", "b", "c"] {
        state.retain(Kind::Route, &resource(name, &[], "1"));
    }
    assert!(state.say_less() && state.say_less());
    state.open();
    let (batch, _) = take(&mut state, response(Kind::Tenant, "1", &[], &[]), &[]);
    assert_eq!(batch.removed, Vec::<String>::new(), "of another type");
    let refused = whole(response(Kind::Route, "2", &[resource("a", &[], "2"), resource("b", &[], "2")], &[]));
    let (batch, _) = take(&mut state, refused, &["b"]);
    assert_eq!(batch.removed, ["c"], "what cannot be read is there all the same");
    let (batch, _) = take(&mut state, response(Kind::Route, "3", &[], &[]), &[]);
    assert_eq!(batch.removed, Vec::<String>::new(), "from then on it says what is gone");
    assert_eq!(state.held(Kind::Route), 2);
}

fn whole(mut response: Response) -> Response {
    response.say_whole();
    response
}

#[test]
fn a_server_that_sends_all_of_a_type_in_several_responses_takes_nothing_back_by_what_one_has_not() {
    for kind in Kind::ALL {
        let mut state = state();
        for name in ["a", "b", "c"] {
            state.retain(kind, &resource(name, &[], "1"));
        }
        assert!(state.say_less() && state.say_less());
        state.open();
        // By another's word for its version, which may be any.
        for (name, version) in [("a", "42"), ("b", "whole"), ("z", "")] {
            let mut page = response(kind, name, &[resource(name, &[], "2")], &[]);
            version.clone_into(&mut page.system_version);
            let (batch, _) = take(&mut state, page, &[]);
            assert_eq!(batch.removed, Vec::<String>::new(), "{kind:?}: {name} says nothing of c");
        }
        let (batch, _) = take(&mut state, response(kind, "3", &[], &["c"]), &[]);
        assert_eq!(batch.removed, ["c"], "{kind:?}: it says so itself");
        assert_eq!(state.held(kind), 3);
    }
}

#[test]
fn our_own_server_says_with_the_last_of_several_responses_that_it_was_all() {
    let mut state = state();
    for name in ["a", "b", "c"] {
        state.retain(Kind::Route, &resource(name, &[], "1"));
    }
    assert!(state.say_less() && state.say_less());
    state.open();
    let (batch, _) = take(&mut state, response(Kind::Route, "1", &[resource("a", &[], "2")], &[]), &[]);
    assert_eq!(batch.removed, Vec::<String>::new());
    let last = whole(response(Kind::Route, "2", &[resource("b", &[], "2")], &[]));
    let (batch, _) = take(&mut state, last, &[]);
    assert_eq!(batch.removed, ["c"]);
}

#[test]
fn names_that_are_too_many_for_a_request_are_asked_for_in_several_and_nothing_is_gone_before_all_are_answered()
 {
    let mut state = State::new(Node::default(), Some(100_000));
    let name = |number: usize| format!("{number:0100}");
    for number in 0..30_000 {
        state.want(&name(number));
    }
    state.retain(Kind::Address, &resource("pod", &[&name(0)], "1"));
    state.retain(Kind::Address, &resource("behind", &[], "1"));
    state.unwant("behind");
    state.retain(Kind::Address, &resource("gone", &[], "1"));
    assert!(state.say_less() && state.say_less());
    let mut requests = state.open();
    requests.extend(std::iter::from_fn(|| state.subscriptions()));
    assert!(bytes(&requests) < TAKEN, "{}", bytes(&requests));
    let asked =
        |requests: &[Request]| -> usize { requests.iter().map(|request| request.subscribe.len()).sum() };
    assert_eq!(asked(&requests), 30_002, "those of what is held are asked for, too");
    let there = resource("pod", &[&name(0)], "2");
    let (batch, _) = take(&mut state, response(Kind::Address, "1", &[there], &["gone"]), &[]);
    assert_eq!(batch.removed, ["gone"]);
    let rest: Vec<String> = (1..30_000).map(name).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let (batch, _) = take(&mut state, response(Kind::Address, "2", &[], &rest), &[]);
    assert_eq!(batch.removed.len(), rest.len(), "nothing is held that was not told of");
    assert_eq!(state.held(Kind::Address), 1);
}
