//! Figures that only some scenarios have: where there is none it is 0, and not in the file.
//!
//! A model of bigger machines is fitted to these; each is said in its own unit, of all the subject's proxies together.

use serde::{Deserialize, Serialize};

/// Beside those of every row and sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Further {
    /// As p50 and p99, at the rate.
    #[serde(default, skip_serializing_if = "is_none")]
    pub p90_us: f64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub p999_us: f64,
    /// Nodes whose proxies are in the figures.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes: u64,
    /// Of each node.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pods: u64,
    /// Over which the pods are spread.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tenants: u64,
    /// PSS of the proxies' processes and what their sockets hold.
    #[serde(default, skip_serializing_if = "is_none")]
    pub memory_bytes: f64,
    /// The latter alone.
    #[serde(default, skip_serializing_if = "is_none")]
    pub socket_bytes: f64,
    /// Sockets of the proxies.
    #[serde(default, skip_serializing_if = "is_none")]
    pub sockets: f64,
    /// CPU time of the proxies' processes, in microseconds for each second.
    #[serde(default, skip_serializing_if = "is_none")]
    pub cpu_us_per_second: f64,
    /// The same of the whole machine, kernel, load and servers included.
    #[serde(default, skip_serializing_if = "is_none")]
    pub machine_us_per_second: f64,
    /// The longest time for which nothing of the client's was answered, in milliseconds.
    #[serde(default, skip_serializing_if = "is_none")]
    pub outage_ms: f64,
    /// Requests, where it is not their rate that counts but who of them failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked: u64,
}

impl Further {
    /// Of each figure what `middle` makes of it; sizes are the first one's.
    pub(super) fn of(first: Option<&Self>, middle: impl Fn(fn(&Self) -> f64) -> f64) -> Self {
        let Self { nodes, pods, tenants, asked, .. } = first.copied().unwrap_or_default();
        Self {
            p90_us: middle(|one| one.p90_us),
            p999_us: middle(|one| one.p999_us),
            nodes,
            pods,
            tenants,
            memory_bytes: middle(|one| one.memory_bytes),
            socket_bytes: middle(|one| one.socket_bytes),
            sockets: middle(|one| one.sockets),
            cpu_us_per_second: middle(|one| one.cpu_us_per_second),
            machine_us_per_second: middle(|one| one.machine_us_per_second),
            outage_ms: middle(|one| one.outage_ms),
            asked,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(figure: &f64) -> bool {
    *figure == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}
