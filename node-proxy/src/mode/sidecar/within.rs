//! A source around another one, in which the pod's tenant may use what the container may: what a sidecar brings into force.
//!
//! What the container may is looked at again with every call, and said when it changes; while that cannot be read, what it was last holds on. It
//! must never let more than a tenant's own budget does.

use std::{io, sync::Arc, time::Duration};

use config::{
    model::{Isolation, Mesh, Tenant, Workload},
    name::PodName,
    store::Outcome,
};

use super::{
    limits::{Limit, Limits},
    shared,
};
use crate::control::ConfigSource;

/// See above.
#[derive(Debug)]
pub(super) struct Within {
    source: Box<dyn ConfigSource>,
    pod: PodName,
    limits: Limits,
    /// As it was last.
    limit: Limit,
    /// Whether it could not be read last.
    is_unread: bool,
    /// The port at which the kubelet asks how the sidecar is, which is none of the pod's.
    asked_at: Option<u16>,
    known: Option<Arc<Workload>>,
    /// What was said last, to be said again when the limit changes.
    said: Option<Outcome>,
}

impl Within {
    /// An error if it cannot be read what the container may use.
    pub(super) fn new(
        source: Box<dyn ConfigSource>,
        pod: PodName,
        limits: Limits,
        asked_at: Option<u16>,
    ) -> io::Result<Self> {
        let limit = limits.read()?;
        say(limit);
        Ok(Self { source, pod, limits, limit, is_unread: false, asked_at, known: None, said: None })
    }

    fn hold(&mut self, mesh: &Mesh) -> Mesh {
        let mut mesh = mesh.clone();
        let Some(own) = mesh.workloads.get(&self.pod) else { return mesh };
        let (mut workload, tenant) = (Workload::clone(own), own.tenant.clone());
        workload.exclusions.inbound_ports.extend(self.asked_at);
        let workload = shared(workload, self.known.as_ref());
        mesh.workloads.insert(self.pod.clone(), Arc::clone(&workload));
        self.known = Some(workload);
        if let Some(tenant) = mesh.tenants.get_mut(&tenant) {
            // The process is the pod's already.
            let held = Tenant {
                isolation: Isolation::Thread,
                budget: self.limit.bound(tenant.budget),
                ..Tenant::clone(tenant)
            };
            if held != **tenant {
                *tenant = Arc::new(held);
            }
        }
        mesh
    }

    fn looks_else(&mut self) -> bool {
        let limit = match self.limits.read() {
            Ok(limit) => {
                self.is_unread = false;
                limit
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_unread, true) {
                    tracing::warn!(%error, "what the container may use cannot be read: what it was last holds on");
                }
                return false;
            }
        };
        let is_other = limit != self.limit;
        if is_other {
            say(limit);
            self.limit = limit;
        }
        is_other
    }
}

impl ConfigSource for Within {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let fresh = self.source.next(patience);
        let is_other = self.looks_else();
        if let Some(fresh) = fresh {
            self.said = Some(fresh);
        } else if !is_other {
            return None;
        }
        let outcome = self.said.clone()?;
        let mesh = Arc::new(self.hold(&outcome.mesh));
        Some(Outcome { mesh, ..outcome })
    }
}

fn say(limit: Limit) {
    let Limit { cpu_millis, memory_bytes } = limit;
    if limit == Limit::default() {
        tracing::info!("the container has no limit of CPU or memory");
    } else {
        tracing::info!(
            cpu_millis,
            memory_bytes,
            "what the container may use, of which the pod's connections may most"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use config::store::{FileText, Options, Store};

    use super::*;

    #[derive(Debug)]
    struct Once(Option<Outcome>);

    impl ConfigSource for Once {
        fn next(&mut self, _patience: Duration) -> Option<Outcome> {
            self.0.take()
        }
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {canopy.mesh/mode: sidecar}}\n\
                       spec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1}\n";

    #[test]
    fn a_sidecar_does_not_start_that_cannot_read_what_it_may_use() {
        let group = tempfile::tempdir().unwrap();
        fs::create_dir(group.path().join("cpu.max")).unwrap();
        let pod = PodName::new("shop".try_into().unwrap(), "web".try_into().unwrap());
        assert!(Within::new(Box::new(Once(None)), pod, Limits::at(group.path()), None).is_err());
    }

    #[test]
    fn a_limit_that_changes_is_brought_into_force_and_one_that_does_not_is_no_news() {
        let group = tempfile::tempdir().unwrap();
        let limits = Limits::at(group.path());
        let outcome = Store::new(Options::default())
            .apply(&[(Path::new("pod.yaml").to_owned(), FileText::from(POD))].into());
        let pod = PodName::new("shop".try_into().unwrap(), "web".try_into().unwrap());
        let mut within =
            Within::new(Box::new(Once(Some(outcome))), pod.clone(), limits, Some(15020)).unwrap();
        let mut next = || {
            let mesh = within.next(Duration::ZERO)?.mesh;
            let own = &mesh.workloads[&pod];
            assert_eq!(own.exclusions.inbound_ports, [15020], "each time once");
            Some(mesh.tenants[&own.tenant].budget.memory_hard_bytes)
        };
        assert_eq!(next(), Some(None));
        assert_eq!(next(), None);
        fs::write(group.path().join("memory.max"), "134217728\n").unwrap();
        assert_eq!(next(), Some(Some(96 << 20)));
        assert_eq!(next(), None);
        fs::write(group.path().join("memory.max"), "").unwrap();
        assert_eq!(next(), None, "what cannot be read is no news");
        fs::write(group.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(next(), Some(None));
    }
}
