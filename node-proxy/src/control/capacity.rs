//! Whether the tenants of this node are promised more than the machine has: said in the log when it becomes so, and when it ends.
//!
//! A source of configuration around another one, which it changes nothing of. It must never refuse anything: overcommitting is allowed.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use config::{
    capacity::{Amounts, Overcommit, overcommit},
    model::Mesh,
    store::Outcome,
};

use super::ConfigSource;

/// A source whose outcomes are held against what the machine has.
#[derive(Debug)]
pub struct Weighed<S> {
    source: S,
    machine: Amounts,
    reserve: Amounts,
    said: Vec<Overcommit>,
}

impl<S> Weighed<S> {
    /// Weighs what `source` says on this machine, of which `reserve` is kept for the system.
    pub fn new(source: S, reserve: Amounts) -> Self {
        Self { source, machine: machine(), reserve, said: Vec::new() }
    }

    fn weigh(&mut self, mesh: &Mesh) {
        let found = on_this_node(mesh, self.machine, self.reserve);
        if found == self.said {
            return;
        }
        for overcommit in &found {
            tracing::warn!(%overcommit, "tenants of this node are promised more than there is");
        }
        if found.is_empty() {
            tracing::info!("tenants of this node are promised no more than there is");
        }
        self.said = found;
    }
}

impl<S: ConfigSource> ConfigSource for Weighed<S> {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let outcome = self.source.next(patience)?;
        self.weigh(&outcome.mesh);
        Some(outcome)
    }
}

/// Only tenants that have a cell here take anything of the machine.
fn on_this_node(mesh: &Mesh, machine: Amounts, reserve: Amounts) -> Vec<Overcommit> {
    let here = mesh.workloads.values().filter(|workload| workload.netns.is_some());
    let here: BTreeSet<_> =
        here.filter_map(|workload| mesh.membership.get(&workload.pod.namespace)).collect();
    let tenants = here.into_iter().filter_map(|tenant| mesh.tenants.get(tenant));
    overcommit(tenants.map(|tenant| &**tenant), machine, reserve)
}

/// What this process may use of the machine: its cores, and all of its memory.
fn machine() -> Amounts {
    let cores = thread::available_parallelism().ok().map(|cores| cores.get() as u64 * 1000);
    let memory = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    Amounts { cpu_millis: cores, memory_bytes: memory }
}

/// `MemTotal:       16384000 kB`
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use config::store::{FileText, Options, Store};

    use super::*;

    const TENANTS: &str = "\
apiVersion: canopy.mesh/v1alpha1
kind: Tenant
metadata: {name: here}
spec: {namespaces: [shop], budget: {cpu: {share: 1500m}}}
---
apiVersion: canopy.mesh/v1alpha1
kind: Tenant
metadata: {name: elsewhere}
spec: {namespaces: [bank], budget: {cpu: {share: \"64\"}}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, annotations: {canopy.mesh/netns: /run/netns/a}}
spec: {containers: [{name: a}]}
status: {podIPs: [{ip: 10.0.0.1}]}
";

    #[test]
    fn only_tenants_with_a_workload_here_count_against_the_machine() {
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(TENANTS))]);
        let outcome = Store::new(Options::default()).apply(&files);
        let weigh =
            |machine: &str, reserve: Amounts| on_this_node(&outcome.mesh, machine.parse().unwrap(), reserve);
        assert_eq!(weigh("cpu=2", Amounts::default()), []);
        let expected = [Overcommit::Cpu { promised: 1500, there: 1000 }];
        assert_eq!(weigh("cpu=2", "cpu=1".parse().unwrap()), expected);
    }

    #[test]
    fn the_memory_of_this_machine_is_known() {
        assert_eq!(total("MemTotal:       16384000 kB\nMemFree: 1 kB\n"), Some(16_384_000 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(machine().memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
