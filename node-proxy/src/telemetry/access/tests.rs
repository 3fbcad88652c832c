//! The access log: what a line holds, and that it is JSON whatever a peer sent.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use config::name::{Name, Namespace, PolicyName, RouteKind, RouteName, ServiceName};
use proptest::prelude::*;

use super::*;

fn pod() -> PodName {
    PodName::new(Namespace::try_from("shop").unwrap(), Name::try_from("cart-0").unwrap())
}

fn record<'a>(workload: &'a PodName, path: &'a str, authority: &'a str) -> Record<'a> {
    Record {
        direction: "outbound",
        protocol: "http/1.1",
        workload,
        source: SocketAddr::from(([10, 77, 0, 2], 40_000)),
        source_workload: Some(workload),
        source_principal: None,
        claimed: None,
        destination: SocketAddr::from(([10, 96, 0, 1], 80)),
        service: None,
        destination_workload: None,
        destination_principal: None,
        route: None,
        rule: None,
        endpoint: Some("[fd77::2]:8080".parse().unwrap()),
        delivery: Some("direct"),
        delivery_why: Some("same_tenant"),
        trace: None,
        method: Some(&http::Method::GET),
        authority: Some(authority),
        path: Some(path),
        status: Some(200),
        bytes_received: 1,
        bytes_sent: u64::MAX,
        duration: Duration::from_micros(1_234),
        connect: None,
        first_byte: Some(Duration::ZERO),
        reason: Some(Reason::UpstreamReset),
        policy: None,
    }
}

fn tenant() -> TenantId {
    TenantId::Tenant(Name::try_from("shop").unwrap())
}

fn line(path: &str, authority: &str, now: SystemTime) -> serde_json::Value {
    let pod = pod();
    let mut out = Vec::new();
    Line::new(&tenant().to_string()).write(&mut out, now, &record(&pod, path, authority));
    assert_eq!(out.pop(), Some(b'\n'));
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn line_carries_every_fact_in_its_own_field() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_210_096_000_042);
    let line = line("/a", "cart.shop", now);
    let expected = serde_json::json!({
        "ts": "2024-02-29T12:34:56.000042Z", "tenant": "shop", "direction": "outbound",
        "protocol": "http/1.1", "workload": "shop/cart-0", "src.addr": "10.77.0.2:40000",
        "src.workload": "shop/cart-0", "dst.addr": "10.96.0.1:80", "endpoint": "[fd77::2]:8080",
        "delivery": "direct", "delivery_why": "same_tenant", "method": "GET", "authority": "cart.shop", "path": "/a", "status": 200,
        "bytes_received": 1, "bytes_sent": u64::MAX, "duration_ms": 1.234, "first_byte_ms": 0.0,
        "reason": "upstream_reset",
    });
    assert_eq!(line, expected);
}

#[test]
fn who_was_proven_is_written_as_its_spiffe_id() {
    let (pod, mut out) = (pod(), Vec::new());
    let [source, destination] =
        ["spiffe://cluster.local/ns/shop/sa/cart", "spiffe://mesh.test/ns/bank/sa/ledger"]
            .map(|text| text.parse::<Identity>().unwrap());
    let record = Record {
        source_principal: Some(&source),
        destination_principal: Some(&destination),
        ..record(&pod, "/", "cart")
    };
    Line::new(&tenant().to_string()).write(&mut out, SystemTime::UNIX_EPOCH, &record);
    let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(line["src.principal"], source.to_string());
    assert_eq!(line["dst.principal"], destination.to_string());
}

/// Every field that a line can have.
fn every_field() -> Vec<String> {
    let (pod, identity, mut out) = (pod(), "spiffe://a/ns/b/sa/c".parse::<Identity>().unwrap(), Vec::new());
    let named = (pod.namespace.clone(), pod.name.clone());
    let service = ServiceName::new(named.0.clone(), named.1.clone());
    let route = RouteName::new(RouteKind::Grpc, named.0.clone(), named.1.clone());
    let policy = PolicyName::new(named.0, named.1);
    let claimed = Baggage::parse(
        "k8s.cluster.name=a,k8s.namespace.name=b,k8s.pod.name=c,service.name=d,service.version=e,\
         cloud.region=f,cloud.availability_zone=g",
    );
    let record = Record {
        source_principal: Some(&identity),
        claimed: Some(&claimed),
        service: Some(&service),
        destination_workload: Some(&pod),
        destination_principal: Some(&identity),
        route: Some(&route),
        rule: Some("0"),
        trace: Some(TraceId::new(0xa5)),
        connect: Some(Duration::ZERO),
        policy: Some(&policy),
        ..record(&pod, "/", "cart")
    };
    Line::new(&tenant().to_string()).write(&mut out, SystemTime::UNIX_EPOCH, &record);
    let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(line["trace_id"], "000000000000000000000000000000a5");
    let claims = ["cluster", "namespace", "workload", "service", "version", "region", "zone"];
    let claims = claims.map(|claim| line[format!("src.claimed.{claim}")].as_str().unwrap());
    assert_eq!(claims, ["a", "b", "c", "d", "e", "f", "g"]);
    line.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_one() {
    let page = include_str!("../../../../docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Access log")).unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut documented: Vec<_> =
        cells.flat_map(|cell| cell.split("`, `")).map(|field| field.trim_matches('`').to_owned()).collect();
    let mut fields = every_field();
    documented.sort();
    fields.sort();
    assert_eq!(documented, fields);
}

#[test]
fn date_is_right_at_the_ends_of_years_and_of_february() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_399, "2000-02-28T23:59:59"),
        (951_782_400, "2000-02-29T00:00:00"),
        (1_735_689_599, "2024-12-31T23:59:59"),
        (4_107_542_400, "2100-03-01T00:00:00"),
    ] {
        let line = line("/", "", SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(line["ts"], format!("{expected}.000000Z"), "{seconds}");
    }
}

proptest! {
    #[test]
    fn line_is_valid_json_whatever_a_peer_sends(path in any::<String>(), authority in any::<String>()) {
        let line = line(&path, &authority, SystemTime::UNIX_EPOCH);
        prop_assert_eq!(line["path"].as_str(), Some(path.as_str()));
        prop_assert_eq!(line["authority"].as_str(), Some(authority.as_str()));
    }
}

#[test]
fn lines_reach_the_file_when_the_writer_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let writer = Writer::start(Target::File(path.clone())).unwrap();
    let log = writer.for_cell(&tenant());
    let pod = pod();
    for _ in 0..1000 {
        log.write(&record(&pod, "/", "cart"));
    }
    drop((log, writer));
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1000);
}

#[test]
fn lines_are_dropped_and_counted_when_nobody_takes_them() {
    let dropped = Arc::default();
    let outbox = Arc::new(Outbox {
        filled: crossbeam_queue::ArrayQueue::new(1),
        emptied: crossbeam_queue::ArrayQueue::new(1),
        dropped: Arc::clone(&dropped),
    });
    let log = AccessLog::new(outbox, &tenant());
    let pod = pod();
    for _ in 0..3 {
        log.write(&record(&pod, "/", "cart"));
        log.flush();
    }
    assert_eq!(dropped.load(Relaxed), 2);
}

#[test]
fn log_that_cannot_be_opened_names_the_path_and_the_option() {
    let error = Writer::start(Target::File("/nowhere/at/all.log".into())).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.log") && error.to_string().contains("--access-log"));
}

#[test]
fn lines_of_a_cell_in_another_process_are_written_with_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let writer = Writer::start(Target::File(path.clone())).unwrap();
    let socket = writer.for_process(&tenant()).unwrap().unwrap();
    let (pod, here, there) = (pod(), writer.for_cell(&tenant()), AccessLog::to_daemon(socket, &tenant()));
    assert!(there.is_on());
    there.write(&record(&pod, "/there", "shop"));
    here.write(&record(&pod, "/here", "shop"));
    drop((here, there));
    let dropped = writer.dropped();
    drop(writer);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut paths: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].to_string())
        .collect();
    paths.sort();
    assert_eq!(paths, ["\"/here\"", "\"/there\""]);
    assert_eq!(dropped.load(Relaxed), 0);
    assert!(Writer::start(Target::Off).unwrap().for_process(&tenant()).unwrap().is_none());
}
