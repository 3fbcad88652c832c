//! Kubelet probes where plaintext is refused: what a pod declared may be asked from its node, and nothing else.
//!
//! A node's address proves nothing (traffic to a NodePort comes from it, too); so what is permitted here is never a
//! connection, only the declared question. Pure.

use config::model::{HttpScheme, ProbeCheck};
use ebpf_redirect::Side;

use super::{Denied, Permit, Permitted};
use crate::{identity::Identified, snapshot::Snapshot};

/// A permission to ask a pod what it declared.
#[derive(Debug)]
pub struct ProbePermit {
    /// For connecting to the app, and for nothing that the client sends.
    pub permit: Permit,
    /// What may be asked, on this port.
    pub checks: Vec<ProbeCheck>,
    /// Why everything else is refused.
    pub denied: Denied,
}

/// Whether a connection that was denied may be a probe: it comes from the node in the clear, to a port that the pod declares
/// a probe for.
pub fn permit(snapshot: &Snapshot, identified: &Identified, denied: &Denied) -> Option<ProbePermit> {
    let accepted = &identified.accepted;
    let origin = accepted.origin;
    let from_node = snapshot.directory.node_addresses.contains(&origin.client.ip().to_canonical());
    let plain = accepted.captured.side == Side::Inbound && identified.caller.identity.is_none();
    if !(from_node && plain) || *denied == Denied::PolicyUnknown {
        return None;
    }
    let tree = &accepted.captured.tree;
    let probes = &snapshot.now(&tree.workload).probes;
    let asked = probes.iter().filter(|probe| probe.port == origin.destination.port());
    let checks: Vec<ProbeCheck> = asked.map(|probe| probe.check.clone()).filter(can_be_told).collect();
    (!checks.is_empty()).then(|| ProbePermit {
        permit: Permit(std::rc::Rc::new(Permitted {
            side: Side::Inbound,
            tree: std::rc::Rc::clone(tree),
            origin,
            destination: accepted.destination.clone(),
            caller: std::sync::Arc::clone(&identified.caller),
        })),
        checks,
        denied: denied.clone(),
    })
}

/// What is within TLS cannot be looked into.
fn can_be_told(check: &ProbeCheck) -> bool {
    !matches!(check, ProbeCheck::Http { scheme: HttpScheme::Https, .. })
}
