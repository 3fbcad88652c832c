//! Connections that do not come to the caller's proxy: to itself, to what its annotations exclude, of a pod that is out of the mesh.
//!
//! Whether one is steered is the kernel's hooks' to say (`ebpf-redirect`), in this order. What goes past the caller's proxy is
//! plaintext where it arrives, and may meet the receiver's.

use std::net::{IpAddr, SocketAddr};

use config::model::Workload;

use super::{
    Telling,
    delivery::Arrival,
    told::Name,
    verdict::{Fate, Share},
};
use crate::snapshot::Destination;

impl Telling<'_> {
    /// What becomes of a connection that is not steered; `None` of one that is.
    pub(super) fn around(&mut self, to: SocketAddr) -> Option<Vec<Share>> {
        let caller = self.caller;
        let why = unsteered(caller, to)?;
        let pod = self.world.pod(&caller.pod);
        self.stage(Name::Capture, format!("not steered to the proxy: {why}"), Some(pod));
        if to.ip().is_loopback() || caller.addresses.contains(&to.ip()) {
            let says = format!("{to}, within the pod itself");
            return Some(vec![Share::whole(Fate::Passed { to: says })]);
        }
        Some(self.past_the_proxy(to))
    }

    /// By the network's own ways: to a Service by the cluster's (kube-proxy or alike), else straight.
    fn past_the_proxy(&mut self, to: SocketAddr) -> Vec<Share> {
        let destination = self.snapshot.resolve(&self.caller.pod.namespace, to);
        self.destination(to, &destination);
        match &destination {
            Destination::Service { entry, .. } => {
                self.detail("the cluster's own balancing picks an endpoint; no route applies", None);
                self.reached(&entry.cluster, to, Arrival::Past)
            }
            Destination::Workload { entry, .. } => {
                let pod = entry.workload.pod.clone();
                self.at_once(to, Some(&pod), Arrival::Past)
            }
            Destination::Outside => {
                vec![Share::whole(Fate::Passed { to: format!("{to}, outside the mesh") })]
            }
        }
    }
}

/// Why a connection of a pod is left alone, if it is.
fn unsteered(caller: &Workload, to: SocketAddr) -> Option<String> {
    let excluded = &caller.exclusions;
    if caller.netns.is_none() {
        return Some(
            "the pod is not captured: it is out of the mesh, or names no network namespace".to_owned(),
        );
    }
    if to.ip().is_loopback() {
        return Some("loopback never leaves the pod".to_owned());
    }
    if matches!(to.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Some(
            "link-local addresses are not steered, and a fenced pod's connections to them are refused"
                .to_owned(),
        );
    }
    if caller.addresses.contains(&to.ip()) {
        return Some("it is the pod's own address".to_owned());
    }
    if let Some(net) = excluded.outbound_cidrs.iter().find(|net| net.contains(&to.ip())) {
        return Some(format!("canopy.mesh/exclude-outbound-cidrs has {net}"));
    }
    let is_excluded = excluded.outbound_ports.contains(&to.port());
    is_excluded.then(|| format!("canopy.mesh/exclude-outbound-ports has {}", to.port()))
}
