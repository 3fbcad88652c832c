//! ServiceEntry: destinations outside the mesh that may be dialled where egress is limited to the mesh.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::{EntryName, Namespace};

/// A ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Its namespace and name.
    pub name: EntryName,
    /// Networks; a single address is a network of one. Empty: it opens nothing.
    pub addresses: Vec<IpNet>,
    /// Their ports.
    pub ports: Vec<u16>,
    /// For whom.
    pub audience: Audience,
}

/// Whose connections a ServiceEntry is for. Never those of a tenant that its author does not belong to, unless it is of
/// the root namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Every tenant's (an object of the root namespace).
    pub every_tenant: bool,
    /// Callers' namespaces; `None` is all.
    pub namespaces: Option<Vec<Namespace>>,
}
