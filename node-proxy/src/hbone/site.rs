//! The cluster that this daemon is in, as the other ends of tunnels are told of it.
//!
//! Nothing is looked up by it, and nothing decided.

use config::name::ClusterDomain;
use serde::{Deserialize, Serialize};

/// A cluster's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// What the mesh calls it, where that is known.
    pub cluster: Option<String>,
    /// What the names of its Services end in.
    pub domain: ClusterDomain,
}
