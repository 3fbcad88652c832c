//! The sidecar: a node's daemon of one pod, within that pod.
//!
//! All is `node`'s but what differs: whose connections are carried (one pod, which is where this process is), how they are captured,
//! and what may be used (what the container may). It must never carry another pod, nor hold its own back for want of another's.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use config::{model::Workload, name::PodName};

use self::{limits::Limits, placed::Placed, within::Within};
use crate::control::ConfigSource;

pub mod given;
mod limits;
mod placed;
mod within;

/// What makes a daemon a sidecar.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Whose.
    pub pod: PodName,
    /// How the pod's connections are captured.
    pub capture: CaptureChoice,
}

/// How a sidecar captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureChoice {
    /// By eBPF where it may, by nftables otherwise.
    Auto,
    /// By eBPF or not at all.
    Ebpf,
    /// By nftables.
    Nftables,
}

impl Sidecar {
    /// What is read of manifests: the pod is here, and no other is.
    pub(super) fn manifests(&self, source: Box<dyn ConfigSource>) -> Box<dyn ConfigSource> {
        Box::new(Placed::new(source, self.pod.clone(), PathBuf::from(OWN)))
    }

    /// What is in force: within what the container may use, with the port at which its kubelet asks left alone. An error if it cannot be read
    /// what the container may use.
    pub(super) fn configuration(
        &self,
        source: Box<dyn ConfigSource>,
        asked_at: SocketAddr,
    ) -> io::Result<Box<dyn ConfigSource>> {
        let asked_at = Some(asked_at).filter(|address| !address.ip().is_loopback());
        let within = Within::new(source, self.pod.clone(), Limits::find()?, asked_at.map(|at| at.port()))?;
        Ok(Box::new(within))
    }
}

/// A workload as it is, or, if it is the same, as the very one that is known.
fn shared(workload: Workload, known: Option<&Arc<Workload>>) -> Arc<Workload> {
    match known {
        Some(known) if **known == workload => Arc::clone(known),
        _ => Arc::new(workload),
    }
}

/// This process's network namespace, which is the pod's.
const OWN: &str = "/proc/self/ns/net";
