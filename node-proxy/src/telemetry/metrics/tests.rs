//! The page that Prometheus scrapes: what is on it, once each, and what is not.

use config::name::{Name, PodName};
use ebpf_redirect::{FenceState, FencedPackets, Side};

use super::*;
use crate::tenancy::{ConnectionGuard, Parts, TunnelGuard};

#[derive(Debug)]
struct Fixed(Arc<Ledger>);

impl Readings for Fixed {
    fn ledgers(&self) -> Vec<(TenantId, Arc<Ledger>)> {
        vec![(TenantId::Tenant(Name::try_from("shop").unwrap()), Arc::clone(&self.0))]
    }
    fn hooks(&self) -> Vec<Counter> {
        vec![Counter { hook: "connect4", event: "steered", count: 3 }]
    }
    fn fences(&self) -> Vec<FencedPod> {
        let packets = vec![FencedPackets { reason: "raw", dropped: 9, observed: 0 }];
        vec![FencedPod { pod: "shop/cart".into(), state: FenceState::Enforcing, packets }]
    }
    fn access_log_dropped(&self) -> u64 {
        4
    }
    fn rows(&self) -> Vec<Arc<Row>> {
        let tenant = TenantId::Tenant(Name::try_from("shop").unwrap());
        let namespace = "shop".try_into().unwrap();
        let row = Row::new(tenant, PodName::new(namespace, "cart".try_into().unwrap()));
        let counters = [
            &row.connections,
            &row.connections_open,
            &row.requests,
            &row.handshakes_made,
            &row.handshakes_accepted,
            &row.cpu_nanos,
        ];
        counters.into_iter().zip(1..).for_each(|(counter, value)| counter.store(value, Relaxed));
        row.heap_bytes.store(7, Relaxed);
        row.carried(8, 9);
        row.refused(Reason::NoRoute);
        vec![Arc::new(row)]
    }
    fn balance(&self) -> Balance {
        let parts = |whole| Parts { tenants: 1.0, system: 2.0, common: 3.0, whole };
        Balance { cpu: parts(7.0), allocated: parts(8.0), resident: parts(9.0) }
    }
    fn configuration(&self) -> Configuration {
        Configuration {
            version: 7,
            rejected: 1,
            rejected_objects: [("InvalidValue", 2)].into(),
            age: Some(Duration::from_millis(1500)),
            workloads: 5,
            workloads_failed: 0,
        }
    }
    fn discovery(&self) -> Option<Discovery> {
        let of = |of, acked| Discovered { of, acked, nacked: 1, resources: 3 };
        let oversized = [("request", 2), ("response", 0)];
        Some(Discovery { connected: true, types: vec![of("Address", 5), of("Route", 6)], oversized })
    }
    fn events(&self) -> Option<Arc<events::LeftOut>> {
        None
    }
    fn gate(&self) -> Option<gate::Waits> {
        let waits = gate::Waits::default();
        waits.answered(gate::Passage::enrolled, Duration::from_millis(7));
        Some(waits)
    }
    fn is_ready(&self) -> bool {
        true
    }
}

fn page() -> String {
    let ledger = Arc::new(Ledger::default());
    let _connection = ConnectionGuard::open(&ledger);
    let _tunnel = TunnelGuard::open(&ledger, Side::Outbound);
    ledger.carried(10, 20);
    ledger.refused(Reason::NoRoute);
    ledger.beat(1_500_000_000);
    ledger.certificate_issued();
    ledger.certificate_failed();
    ledger.certificate_failed();
    ledger.mirror_dropped();
    ledger.copied(5);
    ledger.piped(0, 8);
    ledger.piped(8, 6);
    ledger.share(64, 3);
    ledger.paced(11);
    ledger.reader_paused();
    ledger.throttled_nanos.store(2_500_000_000, Relaxed);
    let costs = &ledger.costs;
    let figures = [
        &costs.cpu_user_nanos,
        &costs.cpu_system_nanos,
        &costs.heap_peak_bytes,
        &costs.heap_cached_bytes,
        &costs.heap_resident_bytes,
        &costs.socket_bytes,
        &costs.handshakes_made,
        &costs.handshakes_accepted,
    ];
    figures.into_iter().zip(1..).for_each(|(figure, value)| figure.store(value, Relaxed));
    ledger.certificate_expiry.store(1_800_000_000, Relaxed);
    Metrics::new(Arc::new(Fixed(ledger))).render()
}

#[test]
fn page_shows_every_figure_with_its_tenant() {
    let page = page();
    for line in [
        "canopy_accept_connections_total{tenant=\"shop\"} 1.0",
        "canopy_accept_connections_open{tenant=\"shop\"} 1.0",
        "canopy_hbone_tunnels_open{tenant=\"shop\",direction=\"inbound\"} 0.0",
        "canopy_hbone_tunnels_open{tenant=\"shop\",direction=\"outbound\"} 1.0",
        "canopy_relay_bytes_total{tenant=\"shop\",direction=\"received\"} 10.0",
        "canopy_relay_bytes_total{tenant=\"shop\",direction=\"sent\"} 20.0",
        "canopy_tenancy_cpu_seconds_total{tenant=\"shop\"} 1.5",
        "canopy_refused_total{tenant=\"shop\",reason=\"no_route\"} 1",
        "canopy_identity_certificates_total{tenant=\"shop\"} 1.0",
        "canopy_identity_certificate_failures_total{tenant=\"shop\"} 2.0",
        "canopy_identity_certificate_expiry_seconds{tenant=\"shop\"} 1800000000.0",
        "canopy_redirect_decisions_total{hook=\"connect4\",event=\"steered\"} 3",
        "canopy_fence_pods{state=\"enforcing\"} 1",
        "canopy_fence_pods{state=\"unavailable\"} 0",
        "canopy_fence_packets_total{pod=\"shop/cart\",reason=\"raw\",verdict=\"dropped\"} 9",
        "canopy_configuration_version 7",
        "canopy_configuration_objects_not_accepted{reason=\"InvalidValue\"} 2",
        "canopy_configuration_version_age_seconds 1.5",
        "canopy_discovery_connected 1",
        "canopy_gate_wait_seconds_bucket{le=\"0.005\"} 0",
        "canopy_gate_wait_seconds_bucket{le=\"0.01\"} 1",
        "canopy_gate_pods_total{outcome=\"enrolled\"} 1",
        "canopy_discovery_responses_total{type=\"Route\",result=\"ack\"} 6",
        "canopy_discovery_responses_total{type=\"Address\",result=\"nack\"} 1",
        "canopy_discovery_resources{type=\"Address\"} 3",
        "canopy_discovery_oversized_messages_total{what=\"request\"} 2",
        "canopy_access_log_dropped_total 4",
        "canopy_relay_mirrors_dropped_total{tenant=\"shop\"} 1.0",
        "canopy_relay_bulk_copied_bytes_total{tenant=\"shop\"} 5.0",
        "canopy_relay_piped_bytes{tenant=\"shop\"} 6.0",
        "canopy_tenancy_connections_limit{tenant=\"shop\"} 64.0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[test]
fn page_says_which_version_runs_and_since_when() {
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let page = page();
    let build = concat!("canopy_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1");
    assert!(page.lines().any(|line| line == build), "{page}");
    let started = page.lines().find_map(|line| line.strip_prefix("canopy_process_start_time_seconds "));
    let started: f64 = started.unwrap().parse().unwrap();
    assert!((before..before + 60.0).contains(&started), "{started}");
}

#[test]
fn page_describes_each_family_once_and_hides_reasons_that_never_occurred() {
    let page = page();
    assert_eq!(page.matches("# HELP canopy_relay_bytes").count(), 1);
    assert!(!page.contains("no_endpoint"));
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn page_shows_what_tenants_and_workloads_cost_and_what_all_of_it_adds_up_to() {
    let page = page();
    let of = "{tenant=\"shop\"}";
    let workload = |more: &str| format!("{{tenant=\"shop\",workload=\"shop/cart\"{more}}}");
    let (one, part) = (workload(""), "{part=\"system\"}");
    let way = |name: &str| workload(&format!(",direction=\"{name}\""));
    for line in [
        format!("canopy_tenancy_paced_total{of} 11.0"),
        format!("canopy_tenancy_readers_paused_total{of} 1.0"),
        format!("canopy_tenancy_cpu_throttled_seconds_total{of} 2.5"),
        "canopy_tenancy_cpu_spent_seconds_total{tenant=\"shop\",mode=\"system\"} 2e-9".to_owned(),
        format!("canopy_tenancy_heap_peak_bytes{of} 3.0"),
        format!("canopy_tenancy_heap_cached_bytes{of} 4.0"),
        format!("canopy_tenancy_heap_resident_bytes{of} 5.0"),
        format!("canopy_tenancy_sockets_bytes{of} 6.0"),
        "canopy_tenancy_handshakes_total{tenant=\"shop\",direction=\"outbound\"} 7.0".to_owned(),
        "canopy_tenancy_handshakes_total{tenant=\"shop\",direction=\"inbound\"} 8.0".to_owned(),
        format!("canopy_workload_connections_total{one} 1.0"),
        format!("canopy_workload_connections_open{one} 2.0"),
        format!("canopy_workload_requests_total{one} 3.0"),
        format!("canopy_workload_handshakes_total{} 4.0", way("outbound")),
        format!("canopy_workload_handshakes_total{} 5.0", way("inbound")),
        format!("canopy_workload_cpu_seconds_total{one} 6e-9"),
        format!("canopy_workload_heap_bytes{one} 7.0"),
        format!("canopy_workload_bytes_total{} 8.0", way("received")),
        format!("canopy_workload_bytes_total{} 9.0", way("sent")),
        format!("canopy_workload_refused_total{} 1.0", workload(",reason=\"no_route\"")),
        format!("canopy_ledger_cpu_seconds_total{part} 2.0"),
        "canopy_ledger_cpu_process_seconds_total 7.0".to_owned(),
        "canopy_ledger_cpu_difference_seconds 1.0".to_owned(),
        format!("canopy_ledger_allocated_bytes{part} 2.0"),
        "canopy_ledger_allocated_process_bytes 8.0".to_owned(),
        "canopy_ledger_allocated_difference_bytes 2.0".to_owned(),
        format!("canopy_ledger_resident_bytes{part} 2.0"),
        "canopy_ledger_resident_process_bytes 9.0".to_owned(),
        "canopy_ledger_resident_difference_bytes 3.0".to_owned(),
    ] {
        assert!(page.lines().any(|there| there == line), "{line} is not in\n{page}");
    }
}
