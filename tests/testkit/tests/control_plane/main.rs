//! The control plane of another make, with a client of the tests' own: it is what the daemon's client is judged by, so it has to
//! do the protocol as its specification says, and to tell what happened. Needs root, and what `scripts/control-plane` builds.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use testkit::{
    Netns, Outcome,
    control_plane::{Change, Closed, ControlPlane, Event, Opened, Step},
    unique_name,
};
use tokio::time::Instant;
use tonic::Code;

use self::client::{Client, Failure};

mod client;

const WORD: &str = "type.googleapis.com/testkit.Word";
const OTHER: &str = "type.googleapis.com/testkit.Other";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

#[test]
fn what_is_set_is_sent_to_who_asks_and_changes_follow_each_once() -> Outcome {
    let (netns, mut plane) = plane(0)?;
    plane.change(&[Change::set(WORD, "a", b"one"), Change::set(WORD, "b", b"two")])?;
    let at = plane.address().to_owned();
    let client = Client::dial(&netns, &at)?;
    client.first(WORD, &[], &[])?;
    let first = client.answer()?;
    assert_eq!(first.bodies(), [("a", &b"one"[..]), ("b", b"two")]);
    client.take(&first, None)?;
    assert_eq!(plane.answer(WORD, "a")?.step, Step::Ack);

    plane.change(&[Change::set(WORD, "b", b"three"), Change::set(OTHER, "b", b"unasked")])?;
    let second = client.answer()?;
    assert_eq!(second.bodies(), [("b", &b"three"[..])]);
    client.take(&second, Some("b: not this"))?;
    let refusal = plane.answer(WORD, "b")?;
    assert_eq!((refusal.step, refusal.error.as_deref()), (Step::Nack, Some("b: not this")));
    assert_eq!(refusal.node, "the-node");

    plane.change(&[Change::remove(WORD, "a")])?;
    let third = client.answer()?;
    assert_eq!((third.bodies(), third.removed.as_slice()), (vec![], &["a".to_owned()][..]));
    client.take(&third, None)?;
    plane.answer(WORD, "a")?;
    let totals = plane.totals()?;
    assert_eq!((totals.open, totals.streams, totals.responses), (1, 1, 3));
    assert!(totals.sent > 0 && totals.received > 0, "{totals:?}");
    let sent: u64 = plane.all_events().iter().map(sent_with).sum();
    assert_eq!(sent, totals.sent);
    drop(client);
    let closed = plane.wait("the end of the stream", |events| events.iter().find_map(closed))?;
    assert_eq!((closed.node.as_str(), closed.sent), ("the-node", sent));
    Ok(())
}

#[test]
fn who_comes_back_after_a_restart_gets_only_what_it_does_not_have() -> Outcome {
    let (netns, mut plane) = plane(1)?;
    plane.change(&[Change::set(WORD, "a", b"one"), Change::set(WORD, "b", b"two")])?;
    let at = plane.address().to_owned();
    let client = Client::dial(&netns, &at)?;
    client.first(WORD, &[], &[])?;
    let first = client.answer()?;
    client.take(&first, None)?;
    plane.answer(WORD, "a")?;
    plane.stop()?;
    assert!(client.answer().is_err(), "the connection outlived the server");
    assert!(Client::dial(&netns, &at)?.answer().is_err(), "something listens");
    plane.change(&[Change::set(WORD, "b", b"three")])?;
    plane.listen()?;
    assert_eq!(plane.address(), at);

    plane.mark();
    let again = Client::dial(&netns, &at)?;
    again.first(WORD, &[], &first.versions())?;
    let second = again.answer()?;
    assert_eq!(second.bodies(), [("b", &b"three"[..])]);
    again.take(&second, None)?;
    plane.answer(WORD, "b")?;
    let told = plane.events().iter().find_map(|event| match event {
        Event::Request(request) if request.step == Step::First => Some(request.initial.len()),
        _ => None,
    });
    assert_eq!(told, Some(2));
    Ok(())
}

#[test]
fn an_alias_leads_to_what_has_it_and_to_what_gets_it_later() -> Outcome {
    let (netns, mut plane) = plane(2)?;
    plane.change(&[Change::set(WORD, "a", b"one").called(&["/10.0.0.1"])])?;
    let at = plane.address().to_owned();
    let client = Client::dial(&netns, &at)?;
    client.first(WORD, &["/10.0.0.1", "/10.0.0.2"], &[])?;
    let first = client.answer()?;
    assert_eq!(first.bodies(), [("a", &b"one"[..])]);
    assert_eq!(first.resources[0].aliases, ["/10.0.0.1"]);
    client.take(&first, None)?;
    plane.answer(WORD, "a")?;
    plane.change(&[
        Change::set(WORD, "c", b"nobody's"),
        Change::set(WORD, "b", b"two").found_by(&["/10.0.0.2"]).with_body_of(OTHER),
    ])?;
    let second = client.answer()?;
    assert_eq!(second.bodies(), [("b", &b"two"[..])]);
    assert!(second.resources[0].aliases.is_empty());
    assert_eq!(second.resources[0].body.as_ref().map(|body| body.type_url.as_str()), Some(OTHER));
    Ok(())
}

#[test]
fn it_is_slow_drops_streams_and_refuses_them_when_it_is_told_to() -> Outcome {
    let (netns, mut plane) = plane(3)?;
    let at = plane.address().to_owned();
    plane.delay(Duration::from_millis(300))?;
    let client = Client::dial(&netns, &at)?;
    let asked = Instant::now();
    client.first(WORD, &[], &[])?;
    client.answer()?;
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    plane.delay(Duration::ZERO)?;

    plane.drop_streams()?;
    assert_eq!(client.ending()?.code(), Code::Unavailable);
    // The connection is still good for another.
    client.open()?;
    client.first(WORD, &[], &[])?;
    client.answer()?;

    plane.refuse(16, "who are you?")?;
    plane.drop_streams()?;
    client.ending()?;
    client.open()?;
    assert_eq!(client.ending()?.code(), Code::Unauthenticated);
    plane.refuse(0, "")?;
    plane.mark();
    client.open()?;
    client.first(WORD, &[], &[])?;
    client.answer()?;
    let opened = plane.wait("the stream", |events| events.iter().find_map(opened))?;
    assert_eq!((opened.authorization.as_str(), opened.cluster.as_str()), ("Bearer token", "home"));
    Ok(())
}

#[test]
fn of_types_that_it_is_to_ignore_it_says_nothing() -> Outcome {
    let (netns, mut plane) = plane(5)?;
    plane.change(&[Change::set(WORD, "a", b"one"), Change::set(OTHER, "b", b"two")])?;
    plane.ignore(&[OTHER])?;
    let client = Client::dial(&netns, plane.address())?;
    client.first(OTHER, &[], &[])?;
    client.first(WORD, &[], &[])?;
    let first = client.answer()?;
    assert_eq!((first.type_url.as_str(), first.bodies()), (WORD, vec![("a", &b"one"[..])]));
    client.take(&first, None)?;
    plane.answer(WORD, "a")?;
    assert_eq!(plane.totals()?.responses, 1);
    Ok(())
}

#[test]
fn what_is_no_resource_of_envoy_s_is_not_served_and_the_rest_goes_on() -> Outcome {
    let (_netns, mut plane) = plane(4)?;
    let route = json!({"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"]}]});
    plane.change(&[Change::set_json(ROUTES, "r", &route)])?;
    let wrong = Change::set_json(ROUTES, "r", &json!({"name": "r", "hosts": []}));
    let refusal = plane.change(&[wrong]).err().ok_or("it took a field that there is not")?.to_string();
    assert!(refusal.contains("hosts"), "{refusal}");
    plane.change(&[Change::set_json(ROUTES, "s", &json!({"name": "s"}))])?;
    Ok(())
}

fn plane(number: u32) -> Result<(Netns, ControlPlane), Failure> {
    // Numbers of their own: the other tests' nodes count from 0.
    let netns = Netns::create(&unique_name(9000 + number))?;
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let plane = ControlPlane::start(&netns, &tools, "127.0.0.1:0")?;
    Ok((netns, plane))
}

fn sent_with(event: &Event) -> u64 {
    if let Event::Response(response) = event { response.bytes } else { 0 }
}

fn closed(event: &Event) -> Option<Closed> {
    if let Event::Closed(closed) = event { Some(closed.clone()) } else { None }
}

fn opened(event: &Event) -> Option<Opened> {
    if let Event::Opened(opened) = event { Some(opened.clone()) } else { None }
}
