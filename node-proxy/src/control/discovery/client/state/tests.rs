//! The conversation of one node, without a connection.

use config::{
    discovery::{Rejection, messages::Any},
    finding::Reason,
};

use super::*;
use crate::control::discovery::testing::{resource, response};

fn state() -> State {
    State::new(Node { id: "me".to_owned(), ..Node::default() }, None)
}

fn on_demand() -> State {
    State::new(Node::default(), Some(9))
}

/// Has a response taken in whole, but for what is refused; gives the batch and the answer.
fn take(state: &mut State, response: Response, refused: &[&str]) -> (Batch, Request) {
    let Step::Take(batch, pending) = state.read(response) else { panic!("it is to be taken in") };
    let rejection = |name: &&str| Rejection {
        kind: batch.kind,
        name: (*name).to_owned(),
        reason: Reason::Malformed,
        message: "is no JSON".to_owned(),
    };
    let answer = state.settle(pending, &refused.iter().map(rejection).collect::<Vec<_>>());
    (batch, answer.unwrap())
}

fn first(state: &mut State, kind: Kind) -> Request {
    state.open().into_iter().find(|request| request.type_url == kind.type_url()).unwrap()
}

fn versions(state: &mut State, kind: Kind) -> BTreeMap<String, String> {
    first(state, kind).initial_versions.into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[test]
fn all_types_are_asked_for_as_wholes_and_the_node_is_named_once() {
    let requests = state().open();
    let types: Vec<_> = requests.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(types, Kind::ALL.map(Kind::type_url));
    assert!(requests.iter().all(|request| request.subscribe.is_empty() && request.unsubscribe.is_empty()));
    let named: Vec<_> = requests.iter().filter_map(|request| request.node.as_ref()).collect();
    assert_eq!(named.len(), 1);
    assert_eq!(requests[0].node.as_ref().unwrap().id, "me");
}

#[test]
fn addresses_on_demand_are_asked_for_by_asking_for_all_and_not() {
    let mut state = on_demand();
    let address = first(&mut state, Kind::Address);
    assert_eq!((address.subscribe, address.unsubscribe), (vec!["*".to_owned()], vec!["*".to_owned()]));
    assert!(first(&mut state, Kind::Authorization).subscribe.is_empty(), "the others are had as wholes");
    assert!(!state.is_wildcard(Kind::Address) && state.is_wildcard(Kind::Authorization));
    assert_eq!(state.open().len(), Kind::ALL.len());
}

#[test]
fn a_response_is_answered_by_its_nonce_and_nothing_else() {
    let mut state = state();
    state.open();
    let (batch, answer) =
        take(&mut state, response(Kind::Route, "n1", &[resource("a", &[], "1")], &["b"]), &[]);
    assert_eq!(
        (batch.kind, batch.set, batch.removed),
        (Kind::Route, vec![resource("a", &[], "1")], vec!["b".to_owned()])
    );
    assert_eq!(answer, Request { nonce: "n1".to_owned(), ..request(Kind::Route) });
    let Step::Take(_, pending) = state.read(response(Kind::Route, "", &[], &[])) else { panic!() };
    assert_eq!(state.settle(pending, &[]), None, "without a nonce it would be a request");
}

#[test]
fn what_is_refused_is_named_and_the_rest_is_held() {
    let mut state = state();
    let resources = [resource("good", &[], "1"), resource("bad", &[], "1"), resource("worse", &[], "1")];
    let (_, answer) = take(&mut state, response(Kind::Route, "n1", &resources, &[]), &["bad", "worse"]);
    let error = answer.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (3, "bad: is no JSON; worse: is no JSON"));
    assert_eq!(answer.nonce, "n1");
    assert_eq!(versions(&mut state, Kind::Route), pairs(&[("good", "1"), ("bad", ""), ("worse", "")]));
}

#[test]
fn a_version_that_is_refused_leaves_the_one_before() {
    let mut state = state();
    take(&mut state, response(Kind::Route, "n1", &[resource("a", &[], "1")], &[]), &[]);
    take(&mut state, response(Kind::Route, "n2", &[resource("a", &[], "2")], &[]), &["a"]);
    assert_eq!(versions(&mut state, Kind::Route), pairs(&[("a", "1")]));
    take(&mut state, response(Kind::Route, "n3", &[resource("a", &[], "3")], &[]), &[]);
    assert_eq!(versions(&mut state, Kind::Route), pairs(&[("a", "3")]));
}

#[test]
fn the_message_about_many_is_bounded_and_says_how_many_more_there_are() {
    let mut state = state();
    let names: Vec<String> = (0..5000).map(|number| format!("resource-{number}")).collect();
    let resources: Vec<_> = names.iter().map(|name| resource(name, &[], "1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, answer) = take(&mut state, response(Kind::Route, "n", &resources, &[]), &names);
    let message = answer.error.unwrap().message;
    assert!(message.len() < LONGEST + 200 && message.ends_with(" more"), "{}", message.len());
}

#[test]
fn a_resource_without_a_message_is_a_sign_of_life() {
    let mut state = state();
    take(&mut state, response(Kind::Route, "n1", &[resource("a", &[], "1")], &[]), &[]);
    let mut alive = response(Kind::Route, "n2", &[resource("a", &[], "2")], &[]);
    alive.resources[0].resource = None;
    let (batch, answer) = take(&mut state, alive, &[]);
    assert!(batch.set.is_empty() && answer.error.is_none());
    assert_eq!(versions(&mut state, Kind::Route), pairs(&[("a", "1")]));
}

#[test]
fn a_message_of_another_type_is_refused_alone_whoever_takes_it_in() {
    let mut state = state();
    let mut mixed = response(Kind::Route, "n1", &[resource("a", &[], "1"), resource("b", &[], "1")], &[]);
    let other = Any { type_url: Kind::Tenant.type_url().to_owned(), value: b"x".to_vec() };
    mixed.resources[1].resource = Some(other);
    let Step::Take(batch, pending) = state.read(mixed) else { panic!() };
    let bodies: Vec<_> = batch.set.iter().map(|resource| resource.body.len()).collect();
    assert_eq!(bodies[1], 0, "what stands in for a broken one has to know that it is there");
    assert_eq!(pending.refused().collect::<Vec<_>>(), ["b"]);
    let message = state.settle(pending, &[]).unwrap().error.unwrap().message;
    assert!(
        message.starts_with("b: its message is a \"type.googleapis.com/canopy.mesh.v1alpha1.Tenant\""),
        "{message}"
    );
    assert_eq!(versions(&mut state, Kind::Route), pairs(&[("a", "1"), ("b", "")]));
}

#[test]
fn a_resource_without_a_name_is_refused() {
    let mut state = state();
    let (batch, answer) = take(&mut state, response(Kind::Route, "n", &[resource("", &[], "1")], &[]), &[]);
    assert!(batch.set.is_empty());
    assert!(answer.error.unwrap().message.contains("has to have a name"));
}

#[test]
fn a_type_that_nobody_asked_for_is_refused() {
    let mut state = state();
    let stranger = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let of = |nonce: &str| Response {
        type_url: stranger.to_owned(),
        nonce: nonce.to_owned(),
        ..response(Kind::Route, "", &[], &[])
    };
    let Step::Answer(answer) = state.read(of("n1")) else { panic!("it is only answered") };
    assert_eq!((answer.type_url.as_str(), answer.nonce.as_str()), (stranger, "n1"));
    assert_eq!(answer.error.unwrap().code, 3);
    assert_eq!(state.read(of("")), Step::Nothing);
}

#[test]
fn what_was_never_held_may_go_and_what_is_set_and_removed_at_once_is_set() {
    let mut state = state();
    let (batch, answer) = take(&mut state, response(Kind::Tenant, "n1", &[], &["nobody"]), &[]);
    assert!(answer.error.is_none() && batch.removed == ["nobody"]);
    let both = response(Kind::Tenant, "n2", &[resource("a", &[], "1")], &["a", "b"]);
    assert_eq!(take(&mut state, both, &[]).0.removed, ["b"]);
    assert_eq!(versions(&mut state, Kind::Tenant), pairs(&[("a", "1")]));
}

#[test]
fn a_new_stream_goes_on_from_what_is_held_until_it_is_said_to_be_gone() {
    let mut state = state();
    state.retain(Kind::Tenant, &resource("old", &[], "7"));
    take(
        &mut state,
        response(Kind::Tenant, "n1", &[resource("a", &[], "1"), resource("b", &[], "2")], &[]),
        &[],
    );
    assert_eq!(versions(&mut state, Kind::Tenant), pairs(&[("a", "1"), ("b", "2"), ("old", "7")]));
    take(&mut state, response(Kind::Tenant, "n2", &[], &["b"]), &[]);
    assert_eq!(versions(&mut state, Kind::Tenant), pairs(&[("a", "1"), ("old", "7")]));
    assert_eq!(state.held(Kind::Tenant), 2);
}

#[test]
fn names_are_asked_for_in_requests_of_their_own_and_again_with_a_new_stream() {
    let mut state = on_demand();
    state.open();
    assert_eq!(state.want("/10.0.0.1"), (true, None));
    state.want("/10.0.0.1");
    let asked = state.subscriptions().unwrap();
    assert_eq!((asked.subscribe, asked.nonce), (vec!["/10.0.0.1".to_owned()], String::new()));
    assert_eq!(state.subscriptions(), None, "once");
    state.want("/10.0.0.2");
    let here = [resource("pod-a", &["/10.0.0.1"], "1")];
    let (_, answer) = take(&mut state, response(Kind::Address, "n1", &here, &[]), &[]);
    assert!(answer.subscribe.is_empty(), "an answer is an answer");
    let again = first(&mut state, Kind::Address);
    assert_eq!(
        (again.subscribe, again.unsubscribe.len()),
        (vec!["/10.0.0.1".to_owned(), "/10.0.0.2".to_owned()], 0)
    );
    assert_eq!(
        again.initial_versions,
        HashMap::from([("pod-a".to_owned(), "1".to_owned())]),
        "in one request"
    );
    assert_eq!(state.subscriptions(), None, "all is said with the beginning");
}

#[test]
fn a_name_is_answered_by_a_resource_of_that_name_or_alias_or_by_its_absence() {
    let mut state = on_demand();
    for name in ["/10.0.0.1", "/10.0.0.2", "shop/cart.shop.svc"] {
        state.want(name);
    }
    let there = [
        resource("c//Pod/shop/a", &["/10.0.0.1"], "1"),
        resource("shop/cart.shop.svc", &["/10.96.0.1"], "1"),
    ];
    let (batch, _) = take(&mut state, response(Kind::Address, "n", &there, &["/10.0.0.2", "/10.0.0.9"]), &[]);
    let answers: BTreeMap<_, _> =
        batch.answers.into_iter().map(|answer| (answer.wanted, answer.resource)).collect();
    let expected = [
        ("/10.0.0.1", Some("c//Pod/shop/a")),
        ("/10.0.0.2", None),
        ("shop/cart.shop.svc", Some("shop/cart.shop.svc")),
    ];
    let expected = expected.map(|(wanted, resource)| (wanted.to_owned(), resource.map(str::to_owned)));
    assert_eq!(answers, expected.into());
}

#[test]
fn a_name_whose_resource_goes_is_absent_and_one_that_moves_is_there() {
    let mut state = on_demand();
    state.want("/10.0.0.1");
    take(&mut state, response(Kind::Address, "n1", &[resource("pod-a", &["/10.0.0.1"], "1")], &[]), &[]);
    let moved = response(Kind::Address, "n2", &[resource("pod-b", &["/10.0.0.1"], "1")], &["pod-a"]);
    let (batch, _) = take(&mut state, moved, &[]);
    assert_eq!(
        batch.answers,
        [Answered { wanted: "/10.0.0.1".to_owned(), resource: Some("pod-b".to_owned()) }]
    );
    let (batch, _) = take(&mut state, response(Kind::Address, "n3", &[], &["pod-b"]), &[]);
    assert_eq!(batch.answers, [Answered { wanted: "/10.0.0.1".to_owned(), resource: None }]);
}

#[test]
fn a_name_of_what_is_held_already_is_answered_at_once() {
    let mut state = on_demand();
    state.retain(Kind::Address, &resource("pod-a", &["/10.0.0.1"], "1"));
    let answer = Answered { wanted: "/10.0.0.1".to_owned(), resource: Some("pod-a".to_owned()) };
    assert_eq!(state.want("/10.0.0.1"), (true, Some(answer)));
    let asked = first(&mut state, Kind::Address);
    assert_eq!(
        asked.subscribe,
        ["/10.0.0.1", "pod-a"],
        "what is held is asked for, so that its end is heard of"
    );
}

#[test]
fn there_is_room_for_so_many_names() {
    let mut state = State::new(Node::default(), Some(2));
    assert!(state.want("a").0 && state.want("b").0);
    assert!(!state.want("c").0);
    assert!(state.want("b").0, "what is asked for already needs no room");
    state.unwant("a");
    assert!(state.want("c").0);
}

#[test]
fn what_nobody_wants_any_more_is_unsubscribed_and_dropped() {
    let mut state = on_demand();
    state.want("/10.0.0.1");
    state.want("/10.0.0.2");
    state.subscriptions();
    let both = resource("pod-a", &["/10.0.0.1", "/10.0.0.2"], "1");
    take(&mut state, response(Kind::Address, "n1", &[both], &[]), &[]);
    assert_eq!(state.unwant("/10.0.0.1"), Vec::<String>::new(), "it is wanted by its other name");
    assert_eq!(state.subscriptions().unwrap().unsubscribe, ["/10.0.0.1"]);
    assert_eq!(state.unwant("/10.0.0.2"), ["pod-a"]);
    assert_eq!(state.held(Kind::Address), 0);
    assert_eq!(state.unwant("nobody"), Vec::<String>::new());
    state.want("/10.0.0.3");
    state.unwant("/10.0.0.3");
    assert_eq!(
        state.subscriptions().unwrap().unsubscribe,
        ["/10.0.0.2"],
        "what was never said is not taken back"
    );
}

#[test]
fn a_pod_behind_a_service_that_is_asked_for_stays_when_nobody_asks_for_the_pod() {
    use config::discovery::messages::{Address, PortList, Workload, address};
    let mut state = on_demand();
    let services = [("shop/web.shop.svc".to_owned(), PortList::default())].into();
    let workload = Workload { services, ..Workload::default() };
    let body = prost::Message::encode_to_vec(&Address { r#type: Some(address::Type::Workload(workload)) });
    let pod = Resource { body, ..resource("pod", &["/10.0.0.1"], "1") };
    state.retain(Kind::Address, &pod);
    state.retain(Kind::Address, &resource("shop/web.shop.svc", &["/10.96.0.1"], "1"));
    state.want("/10.96.0.1");
    assert_eq!(state.unwant("shop/web.shop.svc"), Vec::<String>::new(), "it is asked for by its address");
    assert_eq!(state.unwant("pod"), Vec::<String>::new(), "the Service is held, and its pods with it");
    assert_eq!(state.unwant("/10.96.0.1"), ["shop/web.shop.svc"]);
    state.want("pod");
    assert_eq!(state.unwant("pod"), ["pod"], "nobody wants either");
}

mod unsaid;
