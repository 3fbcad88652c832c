//! What the one binary can be: a node's daemon, a pod's sidecar, or a control plane.

use std::path::PathBuf;

use self::sidecar::given::Given;
use crate::control::kubernetes::Access;

pub mod control;
pub mod hours;
pub mod node;
pub mod sidecar;
mod signals;
mod sources;
pub mod steering;

/// Where manifests are read.
#[derive(Debug, Clone)]
pub enum Manifests {
    /// In the files of a directory.
    Directory(PathBuf),
    /// In a cluster.
    Kubernetes(Access),
    /// Of one pod, in what this process was told.
    Given(Box<Given>),
}

impl Manifests {
    /// What the paths of files begin with in findings; of objects of a cluster, nothing.
    fn directory(&self) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.clone(),
            Self::Kubernetes(_) | Self::Given(_) => PathBuf::new(),
        }
    }
}
