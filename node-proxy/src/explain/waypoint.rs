//! Destinations behind a proxy that has to be gone through, and that Canopy does not speak to.

use super::{
    Telling,
    told::{Name, Object},
    verdict::Refusal,
};
use crate::{
    snapshot::{Cluster, Destination},
    telemetry::Reason,
};

impl Telling<'_> {
    /// Tells that a destination is behind one.
    pub(super) fn behind(&mut self, destination: &Destination) -> Refusal {
        let object = match destination {
            Destination::Service { entry, .. } => {
                self.world.object("Service", &entry.service.namespace, &entry.service.name)
            }
            Destination::Workload { entry, .. } => self.world.pod(&entry.workload.pod),
            Destination::Outside => return refusal(None, "nothing"),
        };
        let refusal = refusal(Some(object.clone()), destination.waypoint().unwrap_or_default());
        self.stage(Name::Egress, refusal.says.clone(), Some(object));
        refusal
    }

    /// Tells that a destination is somebody's of whom nothing can be taken in.
    pub(super) fn unknown(&mut self, to: std::net::SocketAddr) -> Refusal {
        let says = format!(
            "{to} is somebody's of whom the control plane says what cannot be read, or is a Service's behind a waypoint that has no such port"
        );
        self.stage(Name::Egress, says.clone(), None);
        Refusal {
            reason: Reason::DestinationUnknown,
            says,
            by: None,
            remedy: "`canopy status` says which resources are refused, and why; whoever wrote them would have to mend them".to_owned(),
        }
    }

    /// Tells that the Service of a backend is, if it is.
    pub(super) fn backend_behind(&mut self, cluster: &Cluster) -> Option<Refusal> {
        let waypoint = cluster.waypoint.clone()?;
        let object = self.world.object("Service", &cluster.service.namespace, &cluster.service.name);
        let refusal = refusal(Some(object.clone()), &waypoint);
        self.stage(Name::Endpoint, refusal.says.clone(), Some(object));
        Some(refusal)
    }
}

fn refusal(by: Option<Object>, waypoint: &str) -> Refusal {
    Refusal {
        reason: Reason::Waypoint,
        says: format!("it names waypoint {waypoint}, which has to be gone through, and Canopy does not speak to waypoints"),
        by,
        remedy: "whoever owns the namespace would have to take the waypoint away (label istio.io/use-waypoint), or the caller's pods \
                 would have to stay out of Canopy"
            .to_owned(),
    }
}
