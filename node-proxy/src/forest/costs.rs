//! What `canopy top` shows: every tenant's figures beside its budget, every workload's part, and the balance of them all.
//!
//! Plain, serialisable data; the admin socket sends it as JSON. Totals count from the daemon's start: whoever shows rates reads
//! twice. It must never carry anything of a connection.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use config::{
    model::{Budget, Isolation},
    name::TenantId,
};
use serde::{Deserialize, Serialize};

use super::handle::{Standing, Terms};
use crate::tenancy::{Balance, Figures, Ledger, Parts, figures};

/// Everything on this node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeCosts {
    /// When it was read, in seconds since the epoch.
    pub at: f64,
    /// The time that rates are over, in seconds; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// By tenant.
    pub tenants: Vec<TenantCosts>,
    /// CPU seconds of all, beside the process's.
    pub cpu_seconds: BalanceOf,
    /// Allocated bytes of all, beside the allocator's.
    pub allocated_bytes: BalanceOf,
    /// Resident bytes of all, beside the process's.
    pub resident_bytes: BalanceOf,
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantCosts {
    /// Whose it is: a Tenant's name, or `ns/NAMESPACE`.
    pub tenant: String,
    /// As in `canopy tree`.
    pub state: String,
    /// How often its cell was restarted.
    pub restarts: u64,
    /// Whether its cell is a thread or a process.
    pub isolation: Isolation,
    /// What it may use.
    pub budget: Budget,
    /// What it has used.
    pub used: Used,
    /// How fast, for whoever has read twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// CPU seconds in the program.
    pub cpu_user_seconds: f64,
    /// CPU seconds in the kernel.
    pub cpu_system_seconds: f64,
    /// Seconds for which it was held back.
    pub throttled_seconds: f64,
    /// Memory at its most.
    pub memory_peak_bytes: u64,
    /// What its thread's cache holds, free to be used again by it alone.
    pub memory_cached_bytes: u64,
    /// Pages of its arena.
    pub memory_resident_bytes: u64,
    /// What the kernel holds for its clients' sockets.
    pub socket_bytes: u64,
    /// Its workloads; the last line, without a name, is what none of them has used.
    pub workloads: Vec<WorkloadCosts>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadCosts {
    /// The pod, `NAMESPACE/NAME`; `None` for what no pod of now has used.
    pub workload: Option<String>,
    /// What it has used.
    pub used: Used,
    /// How fast, for whoever has read twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
}

/// How fast somebody uses what is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// CPU seconds per second.
    pub cpu_cores: f64,
    /// New connections per second.
    pub connections_per_second: f64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Bytes per second from clients.
    pub bytes_received_per_second: f64,
    /// Bytes per second to clients.
    pub bytes_sent_per_second: f64,
    /// Connections and requests refused per second.
    pub refused_per_second: f64,
}

/// What somebody has used since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// Live bytes now.
    pub memory_bytes: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests in flight now.
    pub requests_in_flight: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// TLS handshakes finished as a client.
    pub handshakes_made: u64,
    /// TLS handshakes finished as a server.
    pub handshakes_accepted: u64,
    /// Refusals by reason, those that are not 0.
    pub refusals: BTreeMap<String, u64>,
}

/// Parts of a whole, and what is missing in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BalanceOf {
    /// What the tenants' cells have.
    pub tenants: f64,
    /// What the daemon's own threads have.
    pub system: f64,
    /// What both share or leave behind.
    pub common: f64,
    /// What the kernel, or the allocator, says of the process.
    pub process: f64,
    /// The process less its parts.
    pub difference: f64,
}

/// Reads all ledgers and rows.
pub(super) fn of(standing: &Standing, balance: Balance, at: SystemTime) -> NodeCosts {
    let tenants = standing.ledgers.iter().zip(&standing.terms);
    let tenants = tenants.map(|((tenant, ledger), terms)| {
        let rows = standing.rows.iter().filter(|row| row.tenant == *tenant);
        let lines = figures::lines(ledger, rows);
        let line = |figures::Line { workload, figures }| WorkloadCosts {
            workload: workload.as_ref().map(ToString::to_string),
            used: figures.into(),
            rates: None,
        };
        tenant_costs(tenant, ledger, terms, lines.into_iter().map(line).collect())
    });
    NodeCosts {
        at: at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        interval_seconds: None,
        tenants: tenants.collect(),
        cpu_seconds: balance.cpu.into(),
        allocated_bytes: balance.allocated.into(),
        resident_bytes: balance.resident.into(),
    }
}

fn tenant_costs(
    tenant: &TenantId,
    ledger: &Ledger,
    terms: &Terms,
    workloads: Vec<WorkloadCosts>,
) -> TenantCosts {
    let costs = &ledger.costs;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    TenantCosts {
        tenant: tenant.to_string(),
        state: terms.state.clone(),
        restarts: terms.restarts,
        isolation: terms.isolation,
        budget: terms.budget,
        used: Figures::of_tenant(ledger).into(),
        rates: None,
        cpu_user_seconds: seconds(read(&costs.cpu_user_nanos)),
        cpu_system_seconds: seconds(read(&costs.cpu_system_nanos)),
        throttled_seconds: seconds(read(&ledger.throttled_nanos)),
        memory_peak_bytes: read(&costs.heap_peak_bytes),
        memory_cached_bytes: read(&costs.heap_cached_bytes),
        memory_resident_bytes: read(&costs.heap_resident_bytes),
        socket_bytes: read(&costs.socket_bytes),
        workloads,
    }
}

impl Used {
    /// How fast it came from what was used before, `seconds` ago. Of a cell that began anew, nothing is known.
    pub fn since(&self, before: &Self, seconds: f64) -> Rates {
        let per_second =
            |now: f64, before: f64| if seconds > 0.0 { (now - before).max(0.0) / seconds } else { 0.0 };
        let count = |now: u64, before: u64| per_second(now as f64, before as f64);
        Rates {
            cpu_cores: per_second(self.cpu_seconds, before.cpu_seconds),
            connections_per_second: count(self.connections, before.connections),
            requests_per_second: count(self.requests, before.requests),
            bytes_received_per_second: count(self.bytes_received, before.bytes_received),
            bytes_sent_per_second: count(self.bytes_sent, before.bytes_sent),
            refused_per_second: count(self.refused(), before.refused()),
        }
    }

    /// Refusals of any reason.
    pub fn refused(&self) -> u64 {
        self.refusals.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl NodeCosts {
    /// Adds the rates that follow from what was read before. Who was not there then has used all of it since.
    pub fn add_rates(&mut self, before: &Self) {
        let seconds = self.at - before.at;
        self.interval_seconds = Some(seconds);
        let (nothing, nobody) = (Used::default(), Vec::new());
        for tenant in &mut self.tenants {
            let earlier = before.tenants.iter().find(|earlier| earlier.tenant == tenant.tenant);
            let used = earlier.map_or(&nothing, |earlier| &earlier.used);
            tenant.rates = Some(tenant.used.since(used, seconds));
            let workloads = earlier.map_or(&nobody, |earlier| &earlier.workloads);
            for workload in &mut tenant.workloads {
                let earlier = workloads.iter().find(|earlier| earlier.workload == workload.workload);
                let used = earlier.map_or(&nothing, |earlier| &earlier.used);
                workload.rates = Some(workload.used.since(used, seconds));
            }
        }
    }
}

impl From<Figures> for Used {
    fn from(figures: Figures) -> Self {
        let Figures { connections, connections_open, requests, requests_in_flight, .. } = figures;
        let Figures { bytes_received, bytes_sent, handshakes_made, handshakes_accepted, .. } = figures;
        let refusals =
            figures.refusals.into_iter().map(|(reason, count)| (reason.as_str().to_owned(), count));
        Self {
            cpu_seconds: seconds(figures.cpu_nanos),
            memory_bytes: figures.heap_bytes,
            connections,
            connections_open,
            requests,
            requests_in_flight,
            bytes_received,
            bytes_sent,
            handshakes_made,
            handshakes_accepted,
            refusals: refusals.collect(),
        }
    }
}

impl From<Parts> for BalanceOf {
    fn from(parts: Parts) -> Self {
        let Parts { tenants, system, common, whole } = parts;
        Self { tenants, system, common, process: whole, difference: parts.difference() }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(requests: u64, cpu_seconds: f64) -> Used {
        let refusals = BTreeMap::from([("no_route".to_owned(), requests / 10)]);
        Used { requests, cpu_seconds, refusals, ..Used::default() }
    }

    fn node(at: f64, requests: u64, cpu_seconds: f64, pods: &[&str]) -> NodeCosts {
        let workload = |pod: &&str| WorkloadCosts {
            workload: Some((*pod).to_owned()),
            used: used(requests, cpu_seconds),
            rates: None,
        };
        let terms = Terms {
            isolation: Isolation::Thread,
            budget: Budget::default(),
            owner: None,
            restarts: 0,
            state: "running".to_owned(),
        };
        let name = config::name::Name::try_from("shop").unwrap();
        let workloads = pods.iter().map(workload).collect();
        let mut tenant = tenant_costs(&TenantId::Tenant(name), &Ledger::default(), &terms, workloads);
        tenant.used = used(requests, cpu_seconds);
        NodeCosts { at, tenants: vec![tenant], ..NodeCosts::default() }
    }

    #[test]
    fn rates_are_over_the_time_between_two_readings_and_never_below_zero() {
        let mut now = node(12.0, 150, 3.0, &["shop/cart", "shop/new"]);
        now.add_rates(&node(10.0, 50, 2.0, &["shop/cart"]));
        assert_eq!(now.interval_seconds, Some(2.0));
        let rates = now.tenants[0].rates.unwrap();
        assert_eq!((rates.requests_per_second, rates.cpu_cores, rates.refused_per_second), (50.0, 0.5, 5.0));
        let requests: Vec<f64> =
            now.tenants[0].workloads.iter().map(|pod| pod.rates.unwrap().requests_per_second).collect();
        assert_eq!(requests, [50.0, 75.0], "a pod that was not there has used all of it since");
        let mut restarted = node(12.0, 1, 0.0, &[]);
        restarted.add_rates(&node(10.0, 50, 2.0, &[]));
        assert_eq!(restarted.tenants[0].rates.unwrap().requests_per_second, 0.0);
    }

    #[test]
    fn a_reading_is_read_back_as_it_was_sent_and_has_no_rates_of_its_own() {
        let node = node(12.5, 150, 3.0, &["shop/cart"]);
        let text = serde_json::to_string(&node).unwrap();
        assert!(!text.contains("rates") && !text.contains("interval_seconds"), "{text}");
        assert_eq!(serde_json::from_str::<NodeCosts>(&text).unwrap(), node);
    }
}
