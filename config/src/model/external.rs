//! ServiceEntry: destinations outside the mesh that may be dialled where egress is limited to the mesh.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::{EntryName, HostName, Namespace};

/// A ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// Its namespace and name.
    pub name: EntryName,
    /// Networks; a single address is a network of one.
    pub addresses: Vec<IpNet>,
    /// The ports of networks and hosts.
    pub ports: Vec<u16>,
    /// Addresses with ports of their own.
    pub endpoints: Vec<SocketAddr>,
    /// Names: whatever addresses the node finds for them.
    pub hosts: Vec<HostName>,
    /// For whom.
    pub audience: Audience,
}

impl ServiceEntry {
    /// Whether it names anything that could be dialled.
    pub fn opens_anything(&self) -> bool {
        !(self.addresses.is_empty() && self.endpoints.is_empty() && self.hosts.is_empty())
    }

    /// Whether it names this destination; `found` says whether its hosts have an address.
    pub fn names(&self, address: IpAddr, port: u16, found: impl FnOnce(IpAddr) -> bool) -> bool {
        self.endpoints.contains(&SocketAddr::new(address, port))
            || self.ports.contains(&port)
                && (self.addresses.iter().any(|net| net.contains(&address)) || found(address))
    }
}

/// Whose connections a ServiceEntry is for. Never those of a tenant that its author does not belong to, unless it is of
/// the root namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// Every tenant's (an object of the root namespace).
    pub every_tenant: bool,
    /// Callers' namespaces; `None` is all.
    pub namespaces: Option<Vec<Namespace>>,
}
