//! Ports that a pod's author has left alone, beside the policies of the mesh: what comes in by them is plaintext, and whether that is
//! taken is PeerAuthentication's to say. An annotation of a pod must never open what is STRICT.

use std::sync::Arc;

use super::{Linking, as_pod, findings::Stage};
use crate::{
    finding::{Reason, Severity},
    lower::{Lowered, WorkloadDraft},
    model::{Peers, Workload},
    name::{PodName, PolicyName},
};

/// Has ports that take no plaintext captured like any other, and says so.
pub(super) fn close(linking: &mut Linking) {
    let is_concerned =
        |pod: &WorkloadDraft| pod.off_place.is_some() || !pod.workload.exclusions.inbound_ports.is_empty();
    let pods = linking.pods.iter().filter(|(_, pod)| as_pod(pod).is_some_and(is_concerned));
    let pods: Vec<PodName> = pods.map(|(pod, _)| pod.clone()).collect();
    close_of(linking, &pods);
}

/// The same of some pods, which have just been placed.
pub(super) fn close_of(linking: &mut Linking, pods: &[PodName]) {
    // Most edits place none.
    if pods.is_empty() {
        return;
    }
    let policies = linking.mesh.peer_authentication.clone();
    let peers = Peers::of(&policies);
    for pod in pods {
        let Some(lowered) = linking.pods.get(pod).cloned() else { continue };
        let (Some(draft), Some(workload)) = (as_pod(&lowered), linking.mesh.workloads.get(pod).cloned())
        else {
            continue;
        };
        linking.findings.begin(Stage::Plaintext, &lowered.object);
        report_outside(linking, &lowered, draft, (&peers, &workload));
        let Some(ports) = strict(&peers, &workload) else { continue };
        if let Some(workload) = linking.mesh.workloads.get_mut(pod) {
            let is_open = |port: &u16| ports.iter().all(|(closed, _)| closed != port);
            Arc::make_mut(workload).exclusions.inbound_ports.retain(is_open);
        }
        let Some(place) = &draft.inbound_place else { continue };
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
fn report_outside(
    linking: &mut Linking,
    lowered: &Lowered,
    draft: &WorkloadDraft,
    (peers, workload): (&Peers<'_>, &Workload),
) {
    let is_outside = !workload.meshed && workload.netns.is_none();
    let Some(place) = draft.off_place.as_ref().filter(|_| is_outside) else { return };
    let rule = peers.rule(workload);
    let Some(policy) = rule.refused_by() else { return };
    let message = format!(
        "out of the mesh: what PeerAuthentication {policy} refuses comes in to this pod in the clear, from anybody. Remove the label, \
         or have the policy say PERMISSIVE for the pod"
    );
    linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message);
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
