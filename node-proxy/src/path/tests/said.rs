//! What is said with a tunnel's stream is in the log of both ends, as what it is: a trace, a Service that the pod answers for, and
//! claims that nobody has to believe.

use std::collections::BTreeMap;

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use config::name::ServiceName;
use h2::client::SendRequest;
use serde_json::{Value, json};

use super::{
    log::logged_pair,
    tunnels::{Pair, named},
    *,
};
use crate::{hbone::fields::TraceId, snapshot::Answers};

/// The callee answers for the Service `shop/NAME`, at its app's port.
fn answers_for(pair: &Pair, name: &str) {
    let service = ServiceName::new("shop".try_into().unwrap(), name.try_into().unwrap());
    let answers = [Answers { service, port: 80, at: pair.address.port() }];
    pair.callee.know_answering(&[named("callee", pair.address.ip())], &answers);
}

/// Waits until so many connections have come to the callee, and none is left but the tunnel.
async fn settled(pair: &Pair, came: u64) {
    let callee = &pair.callee.cell;
    while callee.ledger.connections.load(Relaxed) < came || callee.live.len() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A CONNECT with these fields, by hand, that is over when this returns.
async fn say(send: &mut SendRequest<Bytes>, target: &str, fields: &[(&str, &[u8])]) -> StatusCode {
    let mut request = Request::builder().method(Method::CONNECT).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (response, _stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    response.await.unwrap().status()
}

/// The fields of a line whose names begin so.
fn beginning<'a>(line: &'a Value, prefix: &str) -> BTreeMap<&'a str, &'a str> {
    let fields = line.as_object().unwrap().iter();
    let fields = fields.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str()?)));
    fields.collect()
}

fn trace(line: &Value) -> &str {
    let trace = line["trace_id"].as_str().unwrap_or_default();
    let is_one = TraceId::parse(&format!("00-{trace}-0000000000000001-00")).is_some();
    assert!(is_one, "{line}");
    trace
}

#[test]
fn both_ends_log_one_trace_and_the_service_and_the_far_end_what_it_was_told() {
    on_a_cell(async {
        let (pair, ours, theirs) = logged_pair().await;
        answers_for(&pair, "service-1");
        let vip = pair.caller.service(AppProtocol::Tcp, &[pair.address]);
        for destination in [vip, pair.address] {
            let mut client = pair.caller.dial(destination).await;
            let (mut server, _) = pair.app.accept().await.unwrap();
            flows(&mut client, &mut server).await;
        }
        pair.caller.emptied(2).await;
        settled(&pair, 3).await;
        let (ours, theirs) = (ours.lines(&pair.caller), theirs.lines(&pair.callee));
        assert_eq!((ours.len(), theirs.len()), (2, 2), "{ours:#?} {theirs:#?}");
        let find = |own: &Value| theirs.iter().find(|line| line["trace_id"] == own["trace_id"]).unwrap();
        for line in &ours {
            let is_service = line["dst.addr"] == vip.to_string();
            let its = find(line);
            let service = if is_service { json!("shop/service-1") } else { Value::Null };
            assert_eq!((&line["dst.service"], &its["dst.service"]), (&service, &service), "{its}");
            assert!(beginning(line, "src.claimed.").is_empty(), "of our own pod we know: {line}");
            let claimed = BTreeMap::from([("namespace", "shop"), ("workload", "caller")]);
            assert_eq!(beginning(its, "src.claimed."), claimed, "{its}");
        }
        assert_ne!(trace(&ours[0]), trace(&ours[1]), "each connection has its own");
    });
}

#[test]
fn requests_in_one_stream_of_a_tunnel_are_of_its_trace_which_the_far_end_logs_once() {
    on_a_cell(async {
        let (pair, ours, theirs) = logged_pair().await;
        answers_for(&pair, "service-1");
        let vip = pair.caller.service(AppProtocol::Http1, &[pair.address]);
        let mut client = pair.caller.dial(vip).await;
        let serve = async {
            let (mut server, _) = pair.app.accept().await.unwrap();
            for _ in 0..2 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(server.read_u8().await.unwrap());
                }
                server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
            }
            server
        };
        let ask = async {
            for _ in 0..2 {
                client.write_all(b"GET / HTTP/1.1\r\nhost: service-1.shop\r\n\r\n").await.unwrap();
                while client.read_u8().await.unwrap() != b'x' {}
            }
        };
        let (server, ()) = tokio::join!(serve, ask);
        drop((client, server));
        pair.caller.emptied(1).await;
        pair.caller.cell.pool.close();
        settled(&pair, 2).await;
        let (ours, theirs) = (ours.lines(&pair.caller), theirs.lines(&pair.callee));
        assert_eq!((ours.len(), theirs.len()), (2, 1), "{ours:#?} {theirs:#?}");
        for line in ours.iter().chain(&theirs) {
            assert_eq!((trace(line), &line["dst.service"]), (trace(&ours[0]), &json!("shop/service-1")));
        }
    });
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn what_can_be_read_is_logged_and_what_cannot_be_is_as_if_it_was_not_said() {
    on_a_cell(async {
        type Row<'a> = (&'a [(&'a str, &'a [u8])], &'a [(&'a str, &'a str)], Option<&'a str>, bool);
        let long = [b"service.name=".as_slice(), &[b'a'; 254]].concat();
        let table: &[Row<'_>] = &[
            (&[], &[], None, false),
            (&[("traceparent", TRACEPARENT)], &[], None, true),
            (&[("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331")], &[], None, false),
            (&[("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)], &[], None, false),
            (
                &[("baggage", b"k8s.cluster.name=east,cloud.region=r1"), ("baggage", b"k8s.job.name=j")],
                &[("cluster", "east"), ("region", "r1"), ("workload", "j")],
                None,
                false,
            ),
            (&[("baggage", b"service.name=a\"b,service.version=<1>,k8s.pod.name=\xff")], &[], None, false),
            (&[("baggage", &long)], &[], None, false),
            (&[("forwarded", b"host=ledger.shop.svc.cluster.local")], &[], Some("shop/ledger"), false),
            (&[("forwarded", b"host=vault.shop.svc.cluster.local")], &[], None, false),
        ];
        let (pair, _ours, theirs) = logged_pair().await;
        answers_for(&pair, "ledger");
        let mut send = pair.by_hand().await;
        let target = pair.address.to_string();
        for (number, (fields, ..)) in table.iter().enumerate() {
            assert_eq!(say(&mut send, &target, fields).await, StatusCode::OK, "{fields:?}");
            settled(&pair, number as u64 + 2).await;
        }
        let lines = theirs.lines(&pair.callee);
        assert_eq!(lines.len(), table.len(), "{lines:#?}");
        for (line, (fields, claimed, service, is_it)) in lines.iter().zip(table) {
            let claimed: BTreeMap<_, _> = claimed.iter().copied().collect();
            assert_eq!(beginning(line, "src.claimed."), claimed, "{fields:?}");
            assert_eq!(line["dst.service"].as_str(), *service, "{fields:?}");
            // Where none came, one begins.
            assert_eq!(trace(line) == TRACE, *is_it, "{fields:?}: {line}");
            assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/caller", "{fields:?}");
        }
    });
}

#[test]
fn a_service_is_not_named_at_a_port_at_which_the_pod_does_not_answer_for_it() {
    on_a_cell(async {
        let (pair, _ours, theirs) = logged_pair().await;
        answers_for(&pair, "ledger");
        let other = TcpListener::bind((pair.address.ip(), 0)).await.unwrap();
        let target = other.local_addr().unwrap().to_string();
        let fields: [(&str, &[u8]); 1] = [("forwarded", b"host=ledger.shop.svc")];
        assert_eq!(say(&mut pair.by_hand().await, &target, &fields).await, StatusCode::OK);
        settled(&pair, 2).await;
        let line = theirs.line(&pair.callee);
        assert_eq!((&line["dst.addr"], &line["dst.service"]), (&json!(target), &Value::Null), "{line}");
    });
}

#[test]
fn a_stream_that_is_refused_is_logged_with_what_was_said_too() {
    on_a_cell(async {
        let (pair, _ours, theirs) = logged_pair().await;
        answers_for(&pair, "ledger");
        pair.callee.cell.share.change(1);
        let mut send = pair.by_hand().await;
        let fields: [(&str, &[u8]); 3] = [
            ("traceparent", TRACEPARENT),
            ("baggage", b"k8s.pod.name=somebody"),
            ("forwarded", b"host=ledger.shop.svc"),
        ];
        // To nowhere; and to here, where there is no seat left.
        for target in ["10.9.9.9:80", &pair.address.to_string()] {
            assert_ne!(say(&mut send, target, &fields).await, StatusCode::OK, "{target}");
        }
        let lines = theirs.lines(&pair.callee);
        let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["invalid_connect", "connection_limit"]);
        for line in &lines {
            assert_eq!((trace(line), &line["src.claimed.workload"]), (TRACE, &json!("somebody")), "{line}");
        }
        let services = [&lines[0]["dst.service"], &lines[1]["dst.service"]];
        assert_eq!(services, [&Value::Null, &json!("shop/ledger")]);
    });
}

#[test]
fn nothing_is_kept_of_claims_that_nobody_logs() {
    on_a_cell(async {
        let pair = Pair::new().await;
        answers_for(&pair, "ledger");
        let mut send = pair.by_hand().await;
        let fields: [(&str, &[u8]); 2] =
            [("baggage", b"k8s.pod.name=somebody"), ("forwarded", b"host=ledger.shop.svc")];
        let mut request = Request::builder().method(Method::CONNECT).uri(pair.address.to_string());
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let (response, _stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        let mut kept = Vec::new();
        pair.callee.cell.live.each(|live| kept.push(live.claimed().cloned()));
        assert_eq!(kept, [None, None], "the tunnel, and its stream");
    });
}
