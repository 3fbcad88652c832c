//! The types of resources, and what they are called on the wire.

/// A type of resources. In the order in which a change of several is taken in: what others refer to comes first, and what protects
/// somebody before whom it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Tenants, each with its namespaces.
    Tenant,
    /// Namespaces with their labels.
    Namespace,
    /// What may come in to workloads (workload discovery).
    Authorization,
    /// Whether workloads take plaintext.
    PeerAuthentication,
    /// What the network lets through.
    NetworkPolicy,
    /// Workloads and Services (workload discovery).
    Address,
    /// What is outside of the mesh.
    ServiceEntry,
    /// HTTPRoutes and GRPCRoutes.
    Route,
}

impl Kind {
    /// All of them, in that order.
    pub const ALL: [Self; 8] = [
        Self::Tenant,
        Self::Namespace,
        Self::Authorization,
        Self::PeerAuthentication,
        Self::NetworkPolicy,
        Self::Address,
        Self::ServiceEntry,
        Self::Route,
    ];

    /// Its type URL. Those of Istio are of workload discovery (`workload.proto`, `authorization.proto`), the others are the model's own.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Tenant => "type.googleapis.com/canopy.mesh.v1alpha1.Tenant",
            Self::Namespace => "type.googleapis.com/canopy.mesh.v1alpha1.Namespace",
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::PeerAuthentication => "type.googleapis.com/canopy.mesh.v1alpha1.PeerAuthentication",
            Self::NetworkPolicy => "type.googleapis.com/canopy.mesh.v1alpha1.NetworkPolicy",
            Self::ServiceEntry => "type.googleapis.com/canopy.mesh.v1alpha1.ServiceEntry",
            Self::Route => "type.googleapis.com/canopy.mesh.v1alpha1.Route",
        }
    }

    /// The type of this URL, if it is one of them.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether it protects workloads: without it more would be let in.
    pub fn protects(self) -> bool {
        matches!(self, Self::Authorization | Self::PeerAuthentication | Self::NetworkPolicy)
    }

    /// Whether resources of it can be asked for one by one; of the others a node gets all that concern it.
    pub fn is_on_demand(self) -> bool {
        self == Self::Address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_found_by_its_own_url() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::of("type.googleapis.com/envoy.config.cluster.v3.Cluster"), None);
    }
}
