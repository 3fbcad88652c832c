//! Metrics of what tenants and their workloads cost, and of whether all of it adds up.
//!
//! A workload's series go when its tree does. There are never more of them than lines of [`figures`]: what has no line of its
//! own is in the one whose workload is empty.

use std::{fmt, sync::Arc};

use config::name::TenantId;
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType, registry::Unit};

use super::metrics::{Figure, NANOS_PER_SECOND, count, encode_value, figure};
use crate::tenancy::{Balance, Figures, Ledger, Line, Parts, Row, balance::named, figures};

/// What is shown of every ledger besides its counts.
pub(super) const FIGURES: &[Figure] = &[
    Figure { labels: &[("mode", "user")], ..spent(|l| count(&l.costs.cpu_user_nanos) / NANOS_PER_SECOND) },
    Figure {
        labels: &[("mode", "system")],
        ..spent(|l| count(&l.costs.cpu_system_nanos) / NANOS_PER_SECOND)
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("tenancy_heap_peak", "Memory of the cell at its most", MetricType::Gauge, |l| {
            count(&l.costs.heap_peak_bytes)
        })
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure(
            "tenancy_heap_cached",
            "Memory that the cell's thread keeps to use again",
            MetricType::Gauge,
            |l| count(&l.costs.heap_cached_bytes),
        )
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("tenancy_heap_resident", "Pages of the cell's arena", MetricType::Gauge, |l| {
            count(&l.costs.heap_resident_bytes)
        })
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("tenancy_sockets", "Kernel memory of accepted sockets, as sampled", MetricType::Gauge, |l| {
            count(&l.costs.socket_bytes)
        })
    },
    Figure { labels: &[("direction", "inbound")], ..handshakes(|l| count(&l.costs.handshakes_accepted)) },
    Figure { labels: &[("direction", "outbound")], ..handshakes(|l| count(&l.costs.handshakes_made)) },
];

const fn spent(read: fn(&Ledger) -> f64) -> Figure {
    let help = "CPU time of the cell's threads, by where it was spent";
    Figure { unit: Some(|| Unit::Seconds), ..figure("tenancy_cpu_spent", help, MetricType::Counter, read) }
}

const fn handshakes(read: fn(&Ledger) -> f64) -> Figure {
    figure("tenancy_handshakes", "TLS handshakes finished", MetricType::Counter, read)
}

/// One figure of a workload.
struct Part {
    name: &'static str,
    help: &'static str,
    unit: Option<fn() -> Unit>,
    kind: MetricType,
    direction: Option<&'static str>,
    read: fn(&Figures) -> f64,
}

const CONNECTIONS: Part = Part {
    name: "workload_connections",
    help: "Connections accepted for the workload",
    unit: None,
    kind: MetricType::Counter,
    direction: None,
    read: |f| f.connections as f64,
};
const BYTES: Part = Part {
    name: "workload",
    help: "Bytes carried for the workload, from and to clients",
    unit: Some(|| Unit::Bytes),
    direction: Some("received"),
    read: |f| f.bytes_received as f64,
    ..CONNECTIONS
};
const HANDSHAKES: Part = Part {
    name: "workload_handshakes",
    help: "TLS handshakes finished as the workload",
    direction: Some("inbound"),
    read: |f| f.handshakes_accepted as f64,
    ..CONNECTIONS
};

/// What is shown of every workload. Figures of one name stand together.
const PARTS: &[Part] = &[
    CONNECTIONS,
    Part {
        name: "workload_connections_open",
        help: "Connections of the workload open now",
        kind: MetricType::Gauge,
        read: |f| f.connections_open as f64,
        ..CONNECTIONS
    },
    Part {
        name: "workload_requests",
        help: "Requests begun for the workload",
        read: |f| f.requests as f64,
        ..CONNECTIONS
    },
    BYTES,
    Part { direction: Some("sent"), read: |f| f.bytes_sent as f64, ..BYTES },
    HANDSHAKES,
    Part { direction: Some("outbound"), read: |f| f.handshakes_made as f64, ..HANDSHAKES },
    Part {
        name: "workload_cpu",
        help: "CPU time of its cell that the workload took",
        unit: Some(|| Unit::Seconds),
        read: |f| f.cpu_nanos as f64 / NANOS_PER_SECOND,
        ..CONNECTIONS
    },
    Part {
        name: "workload_heap",
        help: "Live memory of its cell that the workload has, about",
        unit: Some(|| Unit::Bytes),
        kind: MetricType::Gauge,
        read: |f| f.heap_bytes as f64,
        ..CONNECTIONS
    },
];

/// Writes what the workloads have used.
pub(super) fn encode_workloads(
    encoder: &mut DescriptorEncoder<'_>,
    ledgers: &[(TenantId, Arc<Ledger>)],
    rows: &[Arc<Row>],
) -> fmt::Result {
    let of = |(tenant, ledger): &(TenantId, Arc<Ledger>)| {
        let own = rows.iter().filter(|row| row.tenant == *tenant);
        figures::lines(ledger, own)
            .into_iter()
            .map(|line| (tenant.to_string(), name(&line), line.figures))
            .collect()
    };
    let lines: Vec<Vec<(String, String, Figures)>> = ledgers.iter().map(of).collect();
    for same_name in PARTS.chunk_by(|a, b| a.name == b.name) {
        let Some(first) = same_name.first() else { continue };
        let unit = first.unit.map(|unit| unit());
        let mut family = encoder.encode_descriptor(first.name, first.help, unit.as_ref(), first.kind)?;
        for (tenant, workload, figures) in lines.iter().flatten() {
            for part in same_name {
                let mut labels = vec![("tenant", tenant.as_str()), ("workload", workload.as_str())];
                labels.extend(part.direction.map(|direction| ("direction", direction)));
                encode_value(family.encode_family(&labels)?, part.kind, (part.read)(figures))?;
            }
        }
    }
    let help = "Connections and requests of the workload refused or ended early, by reason";
    let mut family = encoder.encode_descriptor("workload_refused", help, None, MetricType::Counter)?;
    for (tenant, workload, figures) in lines.iter().flatten() {
        for (reason, count) in &figures.refusals {
            let labels =
                [("tenant", tenant.as_str()), ("workload", workload.as_str()), ("reason", reason.as_str())];
            encode_value(family.encode_family(&labels)?, MetricType::Counter, *count as f64)?;
        }
    }
    Ok(())
}

fn name(line: &Line) -> String {
    line.workload.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Writes whether the ledgers add up to what the process has.
pub(super) fn encode_balance(encoder: &mut DescriptorEncoder<'_>, balance: &Balance) -> fmt::Result {
    let cpu = "CPU time by who has used it: tenants, the daemon's own threads, and those that have ended";
    let allocated = "Allocated memory by who has it";
    let resident = "Memory in use by who has it; common are pages of files and stacks";
    let all: [(&str, &str, Unit, MetricType, Parts); 3] = [
        ("ledger_cpu", cpu, Unit::Seconds, MetricType::Counter, balance.cpu),
        ("ledger_allocated", allocated, Unit::Bytes, MetricType::Gauge, balance.allocated),
        ("ledger_resident", resident, Unit::Bytes, MetricType::Gauge, balance.resident),
    ];
    for (name, help, unit, kind, parts) in all {
        let mut family = encoder.encode_descriptor(name, help, Some(&unit), kind)?;
        for (part, value) in named(&parts) {
            encode_value(family.encode_family(&[("part", part)])?, kind, value)?;
        }
        let (whole, help) =
            (format!("{name}_process"), "What the kernel or the allocator says of the process");
        let metric = encoder.encode_descriptor(&whole, help, Some(&unit), kind)?;
        encode_value(metric, kind, parts.whole)?;
        let (missing, help) =
            (format!("{name}_difference"), "What the process has more than all parts together");
        let metric = encoder.encode_descriptor(&missing, help, Some(&unit), MetricType::Gauge)?;
        encode_value(metric, MetricType::Gauge, parts.difference())?;
    }
    Ok(())
}
