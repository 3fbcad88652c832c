//! Ports that a pod's author has left alone, beside the policies of the mesh: what comes in by them is plaintext, and whether that is
//! taken is PeerAuthentication's to say. An annotation of a pod must never open what is STRICT.

use std::sync::Arc;

use super::{Linking, as_pod};
use crate::{
    finding::{Reason, Severity},
    model::{Mesh, Peers, Workload},
    name::{PodName, PolicyName},
};

/// Has ports that take no plaintext captured like any other, and says so.
pub(super) fn close(linking: &mut Linking) {
    report_those_outside(linking);
    for (pod, ports) in closed(&linking.mesh) {
        if let Some(workload) = linking.mesh.workloads.get_mut(&pod) {
            let is_open = |port: &u16| ports.iter().all(|(closed, _)| closed != port);
            Arc::make_mut(workload).exclusions.inbound_ports.retain(is_open);
        }
        let Some(lowered) = linking.pods.get(&pod).cloned() else { continue };
        let Some(place) = as_pod(&lowered).and_then(|draft| draft.inbound_place.as_ref()) else { continue };
        for (port, policy) in ports {
            let message = format!(
                "not obeyed for port {port}, since PeerAuthentication {policy} takes no plaintext there: it is captured like any \
                 other. Have portLevelMtls say PERMISSIVE for it, or remove it here"
            );
            linking.find(&lowered, (Severity::Warning, Reason::NotPermitted), place, message);
        }
    }
}

/// A pod that its label takes out of the mesh is no pod that a policy of the mesh is held at. Who wrote the policy is told.
fn report_those_outside(linking: &mut Linking) {
    let peers = Peers::of(&linking.mesh.peer_authentication);
    let outside = linking.pods.iter().filter_map(|(pod, lowered)| {
        let workload = linking.mesh.workloads.get(pod)?;
        let is_outside = !workload.meshed && workload.netns.is_none();
        let place = as_pod(lowered)?.off_place.clone().filter(|_| is_outside)?;
        Some((Arc::clone(lowered), place, peers.rule(workload).refused_by()?.clone()))
    });
    for (lowered, place, policy) in outside.collect::<Vec<_>>() {
        let message = format!(
            "out of the mesh: what PeerAuthentication {policy} refuses comes in to this pod in the clear, from anybody. Remove the label, \
             or have the policy say PERMISSIVE for the pod"
        );
        linking.find(&lowered, (Severity::Warning, Reason::NotPermitted), &place, message);
    }
}

/// Whose ports are left alone and take no plaintext.
fn closed(mesh: &Mesh) -> Vec<(PodName, Vec<(u16, PolicyName)>)> {
    let peers = Peers::of(&mesh.peer_authentication);
    let closed = |(pod, workload): (&PodName, &Arc<Workload>)| Some((pod.clone(), strict(&peers, workload)?));
    mesh.workloads.iter().filter_map(closed).collect()
}

/// The ports that are left alone and take no plaintext, and who says so; `None` where there is none.
pub(crate) fn strict(peers: &Peers<'_>, workload: &Workload) -> Option<Vec<(u16, PolicyName)>> {
    let left = &workload.exclusions.inbound_ports;
    let is_captured = workload.meshed || workload.netns.is_some();
    if left.is_empty() || !is_captured {
        return None;
    }
    let rule = peers.rule(workload);
    let strict = |port: &u16| Some((*port, rule.strict_at(*port)?.clone()));
    Some(left.iter().filter_map(strict).collect::<Vec<_>>()).filter(|ports| !ports.is_empty())
}
