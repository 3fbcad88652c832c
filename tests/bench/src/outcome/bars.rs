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

/// What is required of a figure of the memory scenario, in its own unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    pub case: &'static str,
    pub metric: &'static str,
    pub most: f64,
}

const CANOPY: &str = "canopy-node";
const ENVOY: &str = "envoy-node";
const EBPF: &str = "canopy-node-ebpf";
const IPTABLES: &str = "canopy-node-iptables";

/// All bars of ratios.
pub(crate) const RATIOS: &[Bar] = &[
    faster("http", "c32-64b", CANOPY, ENVOY, 1.5),
    cheaper("http", "c32-64b", "cpu_us_per_request"),
    cheaper("http", "c32-64b", "p50_us"),
    cheaper("http", "c32-64b", "p50_closed_us"),
    faster("http2", "c32x10-64b", CANOPY, ENVOY, 1.3),
    faster("tcp", "ping-pong", CANOPY, ENVOY, 1.3),
    faster("tcp", "connect", CANOPY, ENVOY, 1.3),
    faster("tcp", "bulk", CANOPY, ENVOY, 1.0),
    faster("capture", "connect", EBPF, IPTABLES, 1.05),
    faster("capture", "ping-pong", EBPF, IPTABLES, 1.05),
];

/// All bars of the memory scenario.
pub(crate) const CEILINGS: &[Ceiling] = &[
    Ceiling { case: "idle", metric: "rss_bytes", most: 15.0 * MIB },
    Ceiling { case: "workload", metric: "rss_bytes", most: 0.5 * MIB },
    Ceiling { case: "tenant", metric: "rss_bytes", most: 0.7 * MIB },
    Ceiling { case: "start", metric: "p50_us", most: 1_000_000.0 },
];

const MIB: f64 = 1_048_576.0;

const fn faster(
    scenario: &'static str,
    case: &'static str,
    of: &'static str,
    to: &'static str,
    bar: f64,
) -> Bar {
    Bar { scenario, case, of, to, metric: "rps", bar, at_least: true }
}

const fn cheaper(scenario: &'static str, case: &'static str, metric: &'static str) -> Bar {
    Bar { scenario, case, of: CANOPY, to: ENVOY, metric, bar: 0.6, at_least: false }
}
