//! Which subjects there are, and what follows from which one it is.
//!
//! Names are part of the results' contract; two subjects of one case never share one.

use super::{Capture, Sharing, Steering};

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the client dials the server pod.
    Direct,
    /// The daemon, as `canopy-node`, steering by eBPF.
    Canopy,
    /// The daemon, as `canopy-node-ebpf` or `canopy-node-iptables`.
    CanopyBy(Steering),
    /// Envoy doing the same work.
    Envoy,
    /// Nothing, from a pod of one node to a pod of another.
    DirectAcross,
    /// A daemon on each of two nodes, the tunnel between them.
    CanopyPair(Sharing),
    /// An Envoy at each of two pods on two nodes, mutual TLS between them.
    EnvoyPair,
    /// The daemon as in `http`: one tenant, no policy to decide on, nobody authenticated.
    CanopyHop,
    /// The daemon between two pods of one node whose policies ask for the caller's identity.
    CanopyTo(Receiver),
    /// The daemon whose tenant has a bound of every kind.
    CanopyBudgeted,
    /// The same, run with `--budgets off`: no bound is held, nothing is metered.
    CanopyUnbudgeted,
    /// The daemon whose tenants' cells are of this tier, towards a server of whose tenant.
    CanopyTier(Tier, Receiver),
    /// The daemon whose server pod takes nothing from a network; who is to say so.
    CanopyDenying(Judge),
    /// The daemon whose Service has so many routes.
    CanopyRouted(Routes),
    /// Envoy with as many.
    EnvoyRouted(Routes),
    /// The daemon that follows a control plane.
    CanopyFollowing,
    /// Envoy that follows one.
    EnvoyFollowing,
    /// The daemon that asks one for what its pods dial.
    CanopyOnDemand,
    /// Who is compared with sidecars: from node to node, all with mutual TLS, one route and one authorization.
    Compared(Mesh, Sharing),
    /// Canopy's sidecars, by how they capture.
    SidecarBy(Capture),
}

/// Where a mesh's proxies are, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mesh {
    /// A daemon on each node.
    CanopyNode,
    /// `canopy sidecar` in each pod.
    CanopySidecar,
    /// An Envoy on each node that its pods share.
    EnvoyNode,
    /// An Envoy in each pod.
    EnvoySidecar,
}

impl Mesh {
    pub(crate) const ALL: [Self; 4] =
        [Self::CanopyNode, Self::CanopySidecar, Self::EnvoyNode, Self::EnvoySidecar];

    /// As in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CanopyNode => "canopy-node",
            Self::CanopySidecar => "canopy-sidecar",
            Self::EnvoyNode => "envoy-node",
            Self::EnvoySidecar => "envoy-sidecar",
        }
    }

    pub(crate) fn is_canopy(self) -> bool {
        matches!(self, Self::CanopyNode | Self::CanopySidecar)
    }
}

/// How many routes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routes {
    One,
    Hundred,
    Thousand,
    TenThousand,
}

impl Routes {
    pub(crate) const ALL: [Self; 4] = [Self::One, Self::Hundred, Self::Thousand, Self::TenThousand];

    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Hundred => 100,
            Self::Thousand => 1_000,
            Self::TenThousand => 10_000,
        }
    }
}

/// Who refuses a denied client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// The program on the pod's link, before the TCP stack.
    Fence,
    /// The cell that accepted the connection.
    UserSpace,
}

/// Whose the server pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// The client's tenant's: delivered directly.
    SameTenant,
    /// Another tenant's: handed over to its cell.
    OtherTenant,
}

/// What a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// A thread of the daemon.
    Thread,
    /// A process of its own.
    Process,
}

impl Kind {
    /// As in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct | Self::DirectAcross => "direct",
            Self::Canopy | Self::CanopyPair(_) | Self::CanopyTo(_) | Self::CanopyBudgeted => "canopy-node",
            Self::CanopyRouted(_) | Self::CanopyFollowing | Self::CanopyOnDemand => "canopy-node",
            Self::CanopyUnbudgeted => "canopy-node-unbudgeted",
            Self::CanopyBy(Steering::Ebpf) => "canopy-node-ebpf",
            Self::CanopyBy(Steering::Iptables) => "canopy-node-iptables",
            Self::CanopyTier(Tier::Thread, _) | Self::CanopyDenying(Judge::Fence) => "canopy-node",
            Self::CanopyDenying(Judge::UserSpace) => "canopy-node-user-space",
            Self::CanopyTier(Tier::Process, _) => "canopy-node-process",
            Self::CanopyHop => "canopy-hop",
            Self::Envoy | Self::EnvoyPair | Self::EnvoyRouted(_) | Self::EnvoyFollowing => "envoy-node",
            Self::Compared(mesh, _) => mesh.name(),
            Self::SidecarBy(Capture::Ebpf) => "canopy-sidecar-ebpf",
            Self::SidecarBy(Capture::Nftables) => "canopy-sidecar-nftables",
        }
    }

    /// What its files and pods are called: nothing else that runs at the same time has the same.
    pub(crate) fn place(self) -> String {
        let routes = self.routes().map(|routes| format!("-{}", routes.count()));
        format!("{}{}", self.name(), routes.unwrap_or_default())
    }

    /// How many routes it has, where they are counted.
    pub(crate) fn routes(self) -> Option<Routes> {
        if let Self::CanopyRouted(routes) | Self::EnvoyRouted(routes) = self { Some(routes) } else { None }
    }

    /// Whether it is Canopy, however it steers.
    pub(crate) fn is_canopy(self) -> bool {
        let is_envoy = match self {
            Self::Envoy | Self::EnvoyPair | Self::EnvoyRouted(_) | Self::EnvoyFollowing => true,
            other => other.mesh().is_some_and(|mesh| !mesh.is_canopy()),
        };
        self.has_proxy() && !is_envoy
    }

    /// Whether anything stands between client and server.
    pub(crate) fn has_proxy(self) -> bool {
        !matches!(self, Self::Direct | Self::DirectAcross)
    }

    /// Whether the server is on another node than the client.
    pub(crate) fn is_across(self) -> bool {
        self.mesh().is_some() || matches!(self, Self::DirectAcross | Self::CanopyPair(_) | Self::EnvoyPair)
    }

    /// Whether policies say who may call.
    pub(crate) fn has_policies(self) -> bool {
        matches!(self, Self::CanopyPair(_) | Self::CanopyTo(_))
    }

    /// Whether its tenant has bounds.
    pub(crate) fn is_bounded(self) -> bool {
        matches!(self, Self::CanopyBudgeted | Self::CanopyUnbudgeted)
    }

    /// Which tier its tenants' cells are said to be of.
    pub(crate) fn tier(self) -> Option<Tier> {
        if let Self::CanopyTier(tier, _) = self { Some(tier) } else { None }
    }

    /// Which mesh it is, where it is one that is compared.
    pub(crate) fn mesh(self) -> Option<Mesh> {
        match self {
            Self::Compared(mesh, _) => Some(mesh),
            Self::SidecarBy(_) => Some(Mesh::CanopySidecar),
            _ => None,
        }
    }

    /// How its sidecars capture, where they are Canopy's.
    pub(crate) fn capture(self) -> Capture {
        if let Self::SidecarBy(capture) = self { capture } else { Capture::Nftables }
    }

    /// How its daemons steer.
    pub(crate) fn steering(self) -> Steering {
        if let Self::CanopyBy(steering) = self { steering } else { Steering::Ebpf }
    }

    /// Who shares a tunnel of its daemons.
    pub(crate) fn sharing(self) -> Sharing {
        if let Self::CanopyPair(sharing) | Self::Compared(_, sharing) = self {
            sharing
        } else {
            Sharing::Shared
        }
    }

    /// The servers' namespace, which is a tenant.
    pub(crate) fn servers(self) -> &'static str {
        match self {
            Self::CanopyTo(Receiver::OtherTenant) | Self::CanopyTier(_, Receiver::OtherTenant) => "store",
            _ => super::CLIENTS,
        }
    }
}
