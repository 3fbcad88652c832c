//! The bars: what the project promises of its speed and memory.
//!
//! Only the numbers; whether they are met is `verdict`'s.

/// What is required of a ratio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub scenario: &'static str,
    pub case: &'static str,
    pub of: &'static str,
    pub to: &'static str,
    pub metric: &'static str,
    pub bar: f64,
    pub at_least: bool,
}

/// What is required of a figure of Canopy's that is compared with nothing, in its own unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    pub scenario: &'static str,
    pub case: &'static str,
    pub metric: &'static str,
    pub most: f64,
}

const CANOPY: &str = "canopy-node";
const ENVOY: &str = "envoy-node";
const HOP: &str = "canopy-hop";
const EBPF: &str = "canopy-node-ebpf";
const IPTABLES: &str = "canopy-node-iptables";
const PROCESS: &str = "canopy-node-process";
const SIDECAR: &str = "canopy-sidecar";
/// An Envoy at each of two pods.
const PAIR: &str = "envoy-sidecar";

/// All bars of ratios.
pub(crate) const RATIOS: &[Bar] = &[
    faster("http", "c32-64b", CANOPY, ENVOY, 1.5),
    cheaper("http", "c32-64b", "cpu_us_per_request", 0.6),
    cheaper("http", "c32-64b", "p50_us", 0.6),
    cheaper("http", "c32-64b", "p50_closed_us", 0.6),
    faster("http2", "c32x10-64b", CANOPY, ENVOY, 1.3),
    faster("tcp", "ping-pong", CANOPY, ENVOY, 1.3),
    faster("tcp", "connect", CANOPY, ENVOY, 1.3),
    faster("tcp", "bulk", CANOPY, ENVOY, 1.0),
    faster("capture", "connect", EBPF, IPTABLES, 1.05),
    faster("capture", "ping-pong", EBPF, IPTABLES, 1.05),
    faster("mtls", "http-c32", CANOPY, ENVOY, 2.0),
    cheaper("mtls", "http-c32", "p50_us", 0.5),
    cheaper("mtls", "http-c32", "p99_us", 0.6),
    cheaper("mtls", "http-c32", "cpu_us_per_request", 0.5),
    faster("mtls", "tcp-ping-pong", CANOPY, ENVOY, 1.5),
    faster("mtls", "tcp-bulk", CANOPY, ENVOY, 1.0),
    faster("mtls", "handshake", CANOPY, ENVOY, 1.2),
    faster("mtls", "same-node-direct", CANOPY, HOP, 0.95),
    faster("mtls", "same-node-handoff", CANOPY, HOP, 0.85),
    faster("tenants", "tenants-100", CANOPY, "canopy-node-one", 0.85),
    faster("tenants", "tenants-100-busy", CANOPY, "canopy-node-one", 0.85),
    faster("budgets", "c32-64b", CANOPY, "canopy-node-unbudgeted", 0.97),
    faster("tiers", "same-tenant", PROCESS, CANOPY, 0.97),
    Bar {
        scenario: "routes",
        case: "routes-10000",
        of: CANOPY,
        to: "canopy-node-one",
        metric: "cpu_us_per_request",
        bar: 1.2,
        at_least: false,
    },
    Bar {
        scenario: "churn",
        case: "change",
        of: CANOPY,
        to: ENVOY,
        metric: "cpu_us_per_request",
        bar: 0.1,
        at_least: false,
    },
    beside("compare-latency", "c4-1k", [CANOPY, PAIR], "added_p50_us", 0.4),
    beside("compare-latency", "c4-1k", [CANOPY, PAIR], "added_p99_us", 0.5),
    beside("compare-latency", "c64-1k", [CANOPY, PAIR], "added_p50_us", 0.4),
    beside("compare-latency", "c64-1k", [CANOPY, PAIR], "added_p99_us", 0.5),
    beside("compare-latency", "c4-1k", [SIDECAR, PAIR], "p99_us", 0.6),
    beside("compare-latency", "c64-1k", [SIDECAR, PAIR], "p99_us", 0.6),
    beside("compare-throughput", "http1-c32", [CANOPY, PAIR], "cpu_us_per_request", 0.45),
    beside("compare-throughput", "http1-c32", [CANOPY, SIDECAR], "cpu_us_per_request", 0.85),
    beside(RESOURCES, THIRTY_LOADED, [CANOPY, PAIR], "cpu_us_per_request", 0.45),
    beside(RESOURCES, THIRTY_LOADED, [CANOPY, SIDECAR], "cpu_us_per_request", 0.85),
    beside(RESOURCES, THIRTY_LOADED, [CANOPY, PAIR], "memory_bytes", 0.1),
    beside(RESOURCES, THIRTY_LOADED, [CANOPY, SIDECAR], "memory_bytes", 0.25),
    beside(RESOURCES, THIRTY_LOADED, [SIDECAR, PAIR], "memory_bytes", 1.0 / 6.0),
    beside(RESOURCES, THIRTY_IDLE, [CANOPY, PAIR], "memory_bytes", 0.1),
    beside(RESOURCES, THIRTY_IDLE, [CANOPY, SIDECAR], "memory_bytes", 0.25),
    beside(RESOURCES, THIRTY_IDLE, [SIDECAR, PAIR], "memory_bytes", 1.0 / 6.0),
    beside("compare-noisy", "aggressor-64", [CANOPY, SIDECAR], "p99_us", 1.5),
    beside("compare-noisy", "aggressor-256", [CANOPY, SIDECAR], "p99_us", 1.5),
    beside("compare-noisy", "storm", [CANOPY, SIDECAR], "p99_us", 1.5),
    within("aggressor-256", ENVOY, "p99_us", 0.125),
    unmoved("aggressor-16", "rps"),
    unmoved("aggressor-16", "p50_us"),
    unmoved("aggressor-16", "p99_us"),
    kept("aggressor-16"),
    unmoved("aggressor-64", "rps"),
    unmoved("aggressor-64", "p50_us"),
    unmoved("aggressor-64", "p99_us"),
    kept("aggressor-64"),
    unmoved("aggressor-256", "rps"),
    unmoved("aggressor-256", "p50_us"),
    unmoved("aggressor-256", "p99_us"),
    kept("aggressor-256"),
    unmoved("storm", "rps"),
    unmoved("storm", "p50_us"),
    unmoved("storm", "p99_us"),
    kept("storm"),
    unmoved("bodies", "rps"),
    unmoved("bodies", "p50_us"),
    unmoved("bodies", "p99_us"),
    kept("bodies"),
    unmoved("h2", "rps"),
    unmoved("h2", "p50_us"),
    unmoved("h2", "p99_us"),
    kept("h2"),
];

/// All bars of a tail beside the same subject's in quiet: so much of it at most, or what quiet comes to beside quiet if that is more.
pub(crate) const QUIET: &[Bar] = &[Bar {
    scenario: "churn",
    case: "victim",
    of: CANOPY,
    to: "canopy-node-quiet",
    metric: "p99_us",
    bar: 1.1,
    at_least: false,
}];

/// All bars of differences: so much more one may take than the other, in the metric's unit.
pub(crate) const DIFFERENCES: &[Bar] = &[Bar {
    scenario: "mtls",
    case: "same-node-handoff-c1",
    of: CANOPY,
    to: HOP,
    metric: "p50_closed_us",
    bar: 20.0,
    at_least: false,
}];

/// All bars of single figures.
pub(crate) const CEILINGS: &[Ceiling] = &[
    memory("memory", "idle", 15.0 * MIB),
    memory("memory", "workload", 0.5 * MIB),
    memory("memory", "tenant", 0.7 * MIB),
    memory("tenants", "idle-tenant", 0.7 * MIB),
    Ceiling { scenario: "memory", case: "start", metric: "p50_us", most: 1_000_000.0 },
    memory("tiers", "further-process", 6.0 * MIB),
    memory("mtls", "tunnel-client", 40.0 * KIB),
    memory("mtls", "tunnel-server", 40.0 * KIB),
    memory("mtls", "idle-client", 250.0 * MIB),
    memory("mtls", "idle-server", 250.0 * MIB),
    Ceiling { scenario: "churn", case: "change", metric: "p99_us", most: 10_000.0 },
    Ceiling { scenario: "scale", case: "control-start", metric: "p50_us", most: 30_000_000.0 },
    memory("scale", "control-memory", 1_536.0 * MIB),
    Ceiling { scenario: "scale", case: "change-interested", metric: "cpu_us_per_request", most: 1_000.0 },
    memory("scale", "node-200", 40.0 * MIB),
    Ceiling { scenario: "cluster", case: "pod-start", metric: "p99_us", most: 50_000.0 },
    Ceiling { scenario: "cluster", case: "label", metric: "p99_us", most: 500_000.0 },
    Ceiling { scenario: "cluster", case: "ready", metric: "p99_us", most: 200_000.0 },
    memory("cluster", "pods-104", 70.0 * MIB),
    Ceiling { scenario: "cluster", case: "pods-104-idle", metric: "cpu_us_per_request", most: 5_000.0 },
];

const KIB: f64 = 1_024.0;
const MIB: f64 = 1_048_576.0;

const fn memory(scenario: &'static str, case: &'static str, most: f64) -> Ceiling {
    Ceiling { scenario, case, metric: "rss_bytes", most }
}

const fn faster(
    scenario: &'static str,
    case: &'static str,
    of: &'static str,
    to: &'static str,
    bar: f64,
) -> Bar {
    Bar { scenario, case, of, to, metric: "rps", bar, at_least: true }
}

const fn cheaper(scenario: &'static str, case: &'static str, metric: &'static str, bar: f64) -> Bar {
    Bar { scenario, case, of: CANOPY, to: ENVOY, metric, bar, at_least: false }
}

const RESOURCES: &str = "compare-resources";
const THIRTY_LOADED: &str = "pods-30-tenants-10-loaded";
const THIRTY_IDLE: &str = "pods-30-tenants-10-idle";

const fn beside(
    scenario: &'static str,
    case: &'static str,
    [of, to]: [&'static str; 2],
    metric: &'static str,
    bar: f64,
) -> Bar {
    Bar { scenario, case, of, to, metric, bar, at_least: false }
}

const NOISY: &str = "noisy-neighbour";

const fn within(case: &'static str, to: &'static str, metric: &'static str, bar: f64) -> Bar {
    Bar { scenario: NOISY, case, of: CANOPY, to, metric, bar, at_least: false }
}

/// What a neighbour may cost a victim: 1 % of its rate, p50 by 1.3, p99 by 2.
const fn unmoved(case: &'static str, metric: &'static str) -> Bar {
    match metric.as_bytes() {
        b"rps" => faster(NOISY, case, CANOPY, "canopy-node-solo", 0.99),
        b"p50_us" => within(case, "canopy-node-solo", metric, 1.3),
        _ => within(case, "canopy-node-solo", metric, 2.0),
    }
}

/// What the neighbour keeps of what it does alone, less what the victim uses.
const fn kept(case: &'static str) -> Bar {
    faster(NOISY, case, "canopy-node-aggressor", "canopy-node-alone-aggressor", 0.85)
}
