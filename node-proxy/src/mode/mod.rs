//! What the one binary can be: a node's daemon, or a control plane.

use std::path::PathBuf;

use crate::control::kubernetes::Access;

pub mod control;
pub mod hours;
pub mod node;
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
}

impl Manifests {
    /// What the paths of files begin with in findings; of objects of a cluster, nothing.
    fn directory(&self) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.clone(),
            Self::Kubernetes(_) => PathBuf::new(),
        }
    }
}
