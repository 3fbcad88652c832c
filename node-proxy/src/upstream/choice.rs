//! Which delivery a connection takes, and why: a pure decision over what is known of both ends.
//!
//! Deliveries on the same node do not cross the pods' interfaces, where the cluster's network enforces its policies; so none is
//! chosen unless the NetworkPolicies of both ends were evaluated here and allow it.

use super::Delivery;

/// A delivery and why it is that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Choice {
    /// The way.
    pub delivery: Delivery,
    /// The reason.
    pub why: Why,
}

/// Why a delivery was chosen: a closed set, for the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Inbound: the tree's own app.
    OwnApp,
    /// The endpoint is on this node and of the same tenant.
    SameTenant,
    /// The endpoint is on this node and of another tenant.
    OtherTenant,
    /// The endpoint is on this node, but NetworkPolicies were not evaluated as allowing a way past its interface.
    NetworkPolicy,
    /// The endpoint is on another node.
    OtherNode,
    /// Nobody answers for the endpoint but itself.
    NotMeshed,
    /// The destination is outside the mesh.
    Outside,
}

impl Why {
    /// As the access log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnApp => "own_app",
            Self::SameTenant => "same_tenant",
            Self::OtherTenant => "other_tenant",
            Self::NetworkPolicy => "network_policy",
            Self::OtherNode => "other_node",
            Self::NotMeshed => "not_meshed",
            Self::Outside => "outside",
        }
    }
}

/// Where an endpoint is, as seen from the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The caller is its proxy: the connection is inbound.
    Home,
    /// On this node, of the caller's tenant.
    Neighbour,
    /// On this node, of another tenant.
    Guest,
    /// Not served by this daemon.
    Elsewhere,
    /// Not in the mesh's directory.
    Outside,
}

/// What the decision is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Where the endpoint is.
    pub place: Place,
    /// Whether a mesh's data plane answers for it on port 15008.
    pub meshed: bool,
    /// Whether the NetworkPolicies of this tenant's ends were evaluated and allow the connection.
    pub network_allows: bool,
}

/// Chooses.
pub fn choose(facts: Facts) -> Choice {
    let Facts { place, meshed, network_allows } = facts;
    let across = if meshed { Delivery::Tunnel } else { Delivery::Network };
    let (delivery, why) = match place {
        Place::Home => (Delivery::Local, Why::OwnApp),
        Place::Neighbour if network_allows => (Delivery::Direct, Why::SameTenant),
        Place::Guest if network_allows => (Delivery::Handoff, Why::OtherTenant),
        Place::Neighbour | Place::Guest => (across, Why::NetworkPolicy),
        Place::Elsewhere if meshed => (across, Why::OtherNode),
        Place::Elsewhere => (across, Why::NotMeshed),
        Place::Outside => (Delivery::Passthrough, Why::Outside),
    };
    Choice { delivery, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_facts_has_its_delivery_and_its_reason() {
        use Delivery::{Direct, Handoff, Local, Network, Passthrough, Tunnel};
        // Place, then what is chosen: meshed and allowed, meshed and not, not meshed and allowed, neither.
        let rows = [
            ("inbound", Place::Home, [Local; 4], [Why::OwnApp; 4]),
            (
                "same tenant here",
                Place::Neighbour,
                [Direct, Tunnel, Direct, Network],
                [Why::SameTenant, Why::NetworkPolicy, Why::SameTenant, Why::NetworkPolicy],
            ),
            (
                "other tenant here",
                Place::Guest,
                [Handoff, Tunnel, Handoff, Network],
                [Why::OtherTenant, Why::NetworkPolicy, Why::OtherTenant, Why::NetworkPolicy],
            ),
            (
                "another node",
                Place::Elsewhere,
                [Tunnel, Tunnel, Network, Network],
                [Why::OtherNode, Why::OtherNode, Why::NotMeshed, Why::NotMeshed],
            ),
            ("outside", Place::Outside, [Passthrough; 4], [Why::Outside; 4]),
        ];
        let columns = [(true, true), (true, false), (false, true), (false, false)];
        for (name, place, deliveries, whys) in rows {
            for (column, (meshed, network_allows)) in columns.into_iter().enumerate() {
                let chosen = choose(Facts { place, meshed, network_allows });
                let expected = Choice { delivery: deliveries[column], why: whys[column] };
                assert_eq!(chosen, expected, "{name}, meshed {meshed}, allowed {network_allows}");
            }
        }
    }

    #[test]
    fn no_way_past_the_interfaces_is_taken_without_an_evaluated_network_policy() {
        for place in [Place::Neighbour, Place::Guest] {
            for meshed in [true, false] {
                let chosen = choose(Facts { place, meshed, network_allows: false });
                assert!(!matches!(chosen.delivery, Delivery::Direct | Delivery::Handoff), "{place:?}");
            }
        }
    }
}
