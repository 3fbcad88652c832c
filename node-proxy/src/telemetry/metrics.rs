//! The metrics: read from the ledgers and hooks at each scrape, in OpenMetrics text.
//!
//! Labels are tenants, reasons, hooks, events and (for the fence, and for what each costs) pods of this node: bounded sets, and a tenant that has left
//! the node has left the page. Reading must never take a lock that a cell takes, nor ask a cell anything.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use config::name::TenantId;
use ebpf_redirect::{Counter, FencedPod};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

use super::{Reason, costs, discovery, events, fences, gate};
use crate::tenancy::{Balance, Ledger, Row};

pub use super::discovery::{Discovered, Discovery};

/// What the metrics are read from.
pub trait Readings: Send + Sync + fmt::Debug + 'static {
    /// Every cell's ledger.
    fn ledgers(&self) -> Vec<(TenantId, Arc<Ledger>)>;
    /// What the hooks have counted; empty where they cannot be read.
    fn hooks(&self) -> Vec<Counter>;
    /// How pods are fenced, and what their fences have counted; empty where they have none.
    fn fences(&self) -> Vec<FencedPod>;
    /// Lines of the access log that were dropped.
    fn access_log_dropped(&self) -> u64;
    /// Every workload's row.
    fn rows(&self) -> Vec<Arc<Row>>;
    /// All ledgers beside what the kernel says of the process.
    fn balance(&self) -> Balance;
    /// The configuration in force.
    fn configuration(&self) -> Configuration;
    /// How the node stands with its control plane; `None` where it has none.
    fn discovery(&self) -> Option<Discovery>;
    /// What the gate has counted; `None` where there is none.
    fn gate(&self) -> Option<gate::Waits>;
    /// Events of Kubernetes that were not written; `None` where none are.
    fn events(&self) -> Option<Arc<events::LeftOut>>;
    /// Whether the first configuration is in force.
    fn is_ready(&self) -> bool;
}

/// The configuration in force, as numbers.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// `Mesh::version`.
    pub version: u64,
    /// Findings that reject something now.
    pub rejected: u64,
    /// Objects that are not accepted now, by why.
    pub rejected_objects: BTreeMap<&'static str, u64>,
    /// For how long it has been of its version; `None` before the first.
    pub age: Option<Duration>,
    /// Workloads that are enrolled on this node.
    pub workloads: u64,
    /// Workloads that should be and are not.
    pub workloads_failed: u64,
}

/// The page that Prometheus scrapes.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// Metrics read from `readings`.
    pub fn new(readings: Arc<dyn Readings>) -> Self {
        let mut registry = Registry::with_prefix("canopy");
        registry.register(
            "build",
            "Version of the daemon",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        registry.register_collector(Box::new(Scrape { readings, started_seconds: started.as_secs_f64() }));
        Self(registry)
    }

    /// The page, in OpenMetrics text.
    pub fn render(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.0);
        page
    }
}

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One figure of a ledger.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<fn() -> Unit>,
    pub(super) kind: MetricType,
    pub(super) labels: &'static [(&'static str, &'static str)],
    pub(super) read: fn(&Ledger) -> f64,
}

pub(super) const NANOS_PER_SECOND: f64 = 1e9;

/// What is shown of every ledger. Figures of one name stand together.
const FIGURES: &[Figure] = &[
    figure("accept_connections", "Connections accepted", MetricType::Counter, |l| count(&l.connections)),
    figure("accept_connections_open", "Connections open now", MetricType::Gauge, |l| {
        count(&l.connections_open)
    }),
    Figure {
        labels: &[("direction", "inbound")],
        ..figure("hbone_tunnels_open", "Tunnels to and from other nodes open now", MetricType::Gauge, |l| {
            count(&l.tunnels_accepted)
        })
    },
    Figure {
        labels: &[("direction", "outbound")],
        ..figure("hbone_tunnels_open", "Tunnels to and from other nodes open now", MetricType::Gauge, |l| {
            count(&l.tunnels_made)
        })
    },
    figure(
        "tenancy_objects_left_out",
        "Objects for which the tenant's budget has no room",
        MetricType::Gauge,
        |l| count(&l.left_out),
    ),
    figure("relay_requests", "Requests begun", MetricType::Counter, |l| count(&l.requests)),
    figure("relay_requests_in_flight", "Requests in flight now", MetricType::Gauge, |l| {
        count(&l.requests_in_flight)
    }),
    Figure {
        labels: &[("direction", "received")],
        unit: Some(|| Unit::Bytes),
        ..figure("relay", "Bytes carried, from and to clients", MetricType::Counter, |l| {
            count(&l.bytes_received)
        })
    },
    Figure {
        labels: &[("direction", "sent")],
        unit: Some(|| Unit::Bytes),
        ..figure("relay", "Bytes carried, from and to clients", MetricType::Counter, |l| count(&l.bytes_sent))
    },
    Figure {
        unit: Some(|| Unit::Seconds),
        ..figure("tenancy_cpu", "CPU time of all that works for the tenant", MetricType::Counter, |l| {
            l.cpu_in_all() as f64 / NANOS_PER_SECOND
        })
    },
    Figure {
        unit: Some(|| Unit::Seconds),
        ..figure("tenancy_cpu_throttled", "Time held back for its cap or share", MetricType::Counter, |l| {
            count(&l.throttled_nanos) / NANOS_PER_SECOND
        })
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("tenancy_heap", "Live memory in the cell's arena", MetricType::Gauge, |l| {
            count(&l.heap_bytes)
        })
    },
    figure("identity_certificates", "Certificates obtained", MetricType::Counter, |l| count(&l.certificates)),
    figure("identity_certificate_failures", "Times no certificate could be had", MetricType::Counter, |l| {
        count(&l.certificate_failures)
    }),
    figure(
        "relay_mirrors_dropped",
        "Copies of requests not begun for want of room",
        MetricType::Counter,
        |l| count(&l.mirrors_dropped),
    ),
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("relay_bulk_copied", "Bulk copied for want of a pipe", MetricType::Counter, |l| {
            count(&l.bulk_copied)
        })
    },
    Figure {
        unit: Some(|| Unit::Bytes),
        ..figure("relay_piped", "Bulk that stands in pipes now", MetricType::Gauge, |l| count(&l.piped))
    },
    figure("tenancy_connections_limit", "Connections that may be open, each way", MetricType::Gauge, |l| {
        l.holding().bound as f64
    }),
    figure("tenancy_paced", "Times bytes had to wait for the tenant's rate", MetricType::Counter, |l| {
        count(&l.paced)
    }),
    figure(
        "tenancy_readers_paused",
        "Times nothing more was taken for a receiver that did not take what there was",
        MetricType::Counter,
        |l| count(&l.readers_paused),
    ),
    figure("forest_panics", "Panics contained", MetricType::Counter, |l| count(&l.panics)),
];

pub(super) const fn figure(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Ledger) -> f64,
) -> Figure {
    Figure { name, help, unit: None, kind, labels: &[], read }
}

pub(super) fn count(counter: &std::sync::atomic::AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

#[derive(Debug)]
struct Scrape {
    readings: Arc<dyn Readings>,
    started_seconds: f64,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (rows, owned) = (self.readings.rows(), self.readings.ledgers());
        costs::encode_workloads(&mut encoder, &owned, &rows)?;
        costs::encode_balance(&mut encoder, &self.readings.balance())?;
        let ledgers: Vec<_> = owned.into_iter().map(|(id, ledger)| (id.to_string(), ledger)).collect();
        for figures in [FIGURES, costs::FIGURES] {
            for same_name in figures.chunk_by(|a, b| a.name == b.name) {
                encode_figures(&mut encoder, same_name, &ledgers)?;
            }
        }
        encode_expiry(&mut encoder, &ledgers)?;
        encode_refusals(&mut encoder, &ledgers)?;
        self.encode_hooks(&mut encoder)?;
        fences::encode(&mut encoder, &self.readings.fences())?;
        if let Some(found) = self.readings.discovery() {
            discovery::encode(&mut encoder, &found)?;
        }
        if let Some(waits) = self.readings.gate() {
            gate::encode(&mut encoder, &waits)?;
        }
        if let Some(left_out) = self.readings.events() {
            events::encode(&mut encoder, &left_out)?;
        }
        self.encode_daemon(&mut encoder)
    }
}

impl Scrape {
    fn encode_hooks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Decisions of the steering hooks";
        let mut family = encoder.encode_descriptor("redirect_decisions", help, None, MetricType::Counter)?;
        for Counter { hook, event, count } in self.readings.hooks() {
            let labels = [("hook", hook), ("event", event)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_daemon(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let configuration = self.readings.configuration();
        let Configuration { version, rejected, workloads, workloads_failed, .. } = configuration;
        for (name, help, value) in [
            ("configuration_version", "Version of the configuration in force", version),
            ("configuration_rejected_objects", "Objects that are rejected now", rejected),
            ("forest_workloads", "Workloads enrolled on this node", workloads),
            ("forest_workloads_failed", "Workloads that could not be enrolled", workloads_failed),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        configuration.encode(encoder)?;
        let help = "Access log lines dropped because the writer could not keep up";
        let metric = encoder.encode_descriptor("access_log_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(self.readings.access_log_dropped()).encode(metric)?;
        let help = "When the daemon started, since the epoch";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?;
        ConstGauge::new(self.started_seconds).encode(metric)
    }
}

impl Configuration {
    /// What of it has labels, or is not always there.
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Objects that are not accepted now";
        let name = "configuration_objects_not_accepted";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (reason, count) in &self.rejected_objects {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        let Some(age) = self.age else { return Ok(()) };
        let help = "For how long the configuration has been of its version";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("configuration_version_age", help, unit, MetricType::Gauge)?;
        ConstGauge::new(age.as_secs_f64()).encode(metric)
    }
}

fn encode_figures(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &[Figure],
    ledgers: &[(String, Arc<Ledger>)],
) -> fmt::Result {
    let Some(first) = figures.first() else { return Ok(()) };
    let unit = first.unit.map(|unit| unit());
    let mut family = encoder.encode_descriptor(first.name, first.help, unit.as_ref(), first.kind)?;
    for (tenant, ledger) in ledgers {
        for figure in figures {
            let mut labels = vec![("tenant", tenant.as_str())];
            labels.extend_from_slice(figure.labels);
            encode_value(family.encode_family(&labels)?, figure.kind, (figure.read)(ledger))?;
        }
    }
    Ok(())
}

pub(super) fn encode_value(series: MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(series),
        _ => ConstGauge::new(value).encode(series),
    }
}

/// Only of tenants that have a certificate: 0 would read as one that expired long ago.
fn encode_expiry(encoder: &mut DescriptorEncoder<'_>, ledgers: &[(String, Arc<Ledger>)]) -> fmt::Result {
    let help = "When the first of the tenant's certificates expires, since the epoch";
    let unit = Some(&Unit::Seconds);
    let mut family =
        encoder.encode_descriptor("identity_certificate_expiry", help, unit, MetricType::Gauge)?;
    for (tenant, ledger) in ledgers {
        let expiry = count(&ledger.certificate_expiry);
        if expiry > 0.0 {
            ConstGauge::new(expiry).encode(family.encode_family(&[("tenant", tenant.as_str())])?)?;
        }
    }
    Ok(())
}

fn encode_refusals(encoder: &mut DescriptorEncoder<'_>, ledgers: &[(String, Arc<Ledger>)]) -> fmt::Result {
    let help = "Connections and requests refused or ended early, by reason";
    let mut family = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
    for (tenant, ledger) in ledgers {
        for reason in Reason::ALL {
            let count = ledger.refusals(*reason);
            if count > 0 {
                let labels = [("tenant", tenant.as_str()), ("reason", reason.as_str())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
