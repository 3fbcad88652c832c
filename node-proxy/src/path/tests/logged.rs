//! What the log says of how a connection was to be reached, also where it was not; and of what a tunnel's peer asked for.

use ::http::{Method, Request};
use serde_json::{Value, json};

use super::{
    log::{Log, logged_pair},
    *,
};

/// These fields of a line; `-` for one that it does not have.
fn of<const N: usize>(line: &Value, fields: [&str; N]) -> [String; N] {
    fields.map(|field| match &line[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

const WAY: [&str; 4] = ["endpoint", "delivery", "delivery_why", "reason"];

/// The line of a connection that is refused, to a Service with this endpoint, which is or was this pod.
async fn refused(endpoint: SocketAddr, pod: Option<&str>, egress: Egress) -> Value {
    let log = Log::new();
    let world = World::logging(&log, |_| ());
    let pod = pod.map(|pod| PodName::new(world::namespace(), pod.try_into().unwrap()));
    world.left_behind.replace(pod);
    let vip = world.service(AppProtocol::Tcp, &[endpoint]);
    world.limit(egress);
    let mut client = world.dial(vip).await;
    assert!(reads_reset(&mut client).await);
    world.emptied(1).await;
    log.line(&world)
}

#[test]
fn a_refused_connection_s_line_says_by_which_delivery_and_why() {
    on_a_cell(async {
        let closed = closed_port();
        let address = closed.to_string();
        let line = refused(closed, None, Egress::Any).await;
        assert_eq!(of(&line, WAY), [&address, "network", "not_meshed", "connect_refused"], "{line}");
        // Policy stands against it, and nobody was asked; which way it would have gone is known all the same.
        let line = refused(closed, None, Egress::Mesh).await;
        assert_eq!(of(&line, WAY), [&address, "network", "not_meshed", "egress_forbidden"], "{line}");
        // Nothing was chosen: the address is another's.
        let line = refused(closed, Some("gone"), Egress::Any).await;
        assert_eq!(of(&line, WAY), [&address, "-", "-", "endpoint_gone"], "{line}");
    });
}

#[test]
fn a_tunnel_that_cannot_be_made_is_a_delivery_all_the_same_and_a_connection_in_it_too() {
    on_a_cell(async {
        let (pair, ours, _theirs) = logged_pair().await;
        let closed = SocketAddr::new(pair.address.ip(), 9);
        let mut client = pair.caller.dial(closed).await;
        assert!(reads_reset(&mut client).await);
        pair.caller.emptied(1).await;
        let line = ours.line(&pair.caller);
        let expected = [&closed.to_string(), "tunnel", "other_node", "peer_unavailable"];
        assert_eq!(of(&line, WAY), expected, "{line}");
    });
}

#[test]
fn a_refused_connect_s_line_says_what_was_asked_for_as_far_as_it_is_an_authority() {
    on_a_cell(async {
        let (pair, _ours, theirs) = logged_pair().await;
        let mut send = pair.by_hand().await;
        let long = format!("{}.shop.svc:80", "a".repeat(5000));
        let table = [
            (Method::CONNECT, "nobody.shop.svc:80", json!("nobody.shop.svc:80"), 503, "unknown_host"),
            (Method::CONNECT, "10.9.9.9:81", json!("10.9.9.9:81"), 400, "invalid_connect"),
            (Method::CONNECT, "u:secret@10.9.9.9:81", json!("10.9.9.9:81"), 400, "invalid_connect"),
            (Method::CONNECT, &long, json!("a".repeat(259)), 400, "invalid_connect"),
            (Method::GET, "https://other/secret", json!("other"), 400, "invalid_connect"),
        ];
        for (method, target, ..) in &table {
            let request = Request::builder().method(method.clone()).uri(*target).body(()).unwrap();
            let (response, _stream) = send.send_request(request, false).unwrap();
            response.await.unwrap();
        }
        let lines = theirs.lines(&pair.callee);
        assert_eq!(lines.len(), table.len(), "{lines:#?}");
        for (line, (method, target, authority, status, reason)) in lines.iter().zip(table) {
            assert_eq!(line["method"], method.as_str(), "{target}: {line}");
            assert_eq!((&line["authority"], &line["status"]), (&authority, &json!(status)), "{target}");
            assert_eq!(line["reason"], reason, "{target}");
            assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/caller", "{target}");
            assert!(!line.to_string().contains("secret"), "{line}");
        }
    });
}
