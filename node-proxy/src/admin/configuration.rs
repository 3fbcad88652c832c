//! What is in force in a daemon, as bytes: for who wants to tell, in a process of its own, what other files would do.
//!
//! Told before it is asked for by whom: its first part is the version of the daemon, whose form it has. No keys are in it; what
//! manifests say is.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc};

use config::{
    identity::TrustDomain,
    model::Mesh,
    name::{Namespace, NodeName, RootNamespace},
    store::{Basis, Options},
};
use serde::{Deserialize, Serialize};

/// What is in force in a daemon, and how it reads what comes next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Configuration {
    /// The daemon's instance.
    pub instance: String,
    /// The directory that it reads.
    pub directory: PathBuf,
    /// How it reads.
    pub reading: Reading,
    /// What all objects together say.
    pub mesh: Arc<Mesh>,
    /// The objects.
    pub basis: Basis,
    /// What is said about them now.
    pub said: BTreeSet<String>,
}

/// How a daemon reads its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    trust_domain: TrustDomain,
    root_namespace: Namespace,
    node: Option<NodeName>,
    node_addresses: Vec<IpAddr>,
    unbudgeted: bool,
}

/// Not what a daemon of this version says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// Another version.
    #[error("the daemon is canopy {daemon}, and this is {own}: ask with the daemon's own version")]
    Version {
        /// The daemon's.
        daemon: String,
        /// Ours.
        own: &'static str,
    },
    /// Not to be read.
    #[error("what the daemon says of its configuration cannot be read; is it of another version?")]
    Unreadable,
}

impl Configuration {
    /// Its bytes, behind the version.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(&(VERSION, self))
    }

    /// Reads them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        let unreadable = |_| ConfigurationError::Unreadable;
        let (version, rest) = postcard::take_from_bytes::<String>(bytes).map_err(unreadable)?;
        if version != VERSION {
            let daemon = config::finding::visible(&version.chars().take(64).collect::<String>());
            return Err(ConfigurationError::Version { daemon, own: VERSION });
        }
        postcard::from_bytes(rest).map_err(unreadable)
    }
}

impl From<&Options> for Reading {
    fn from(options: &Options) -> Self {
        Self {
            trust_domain: options.trust_domain.clone(),
            root_namespace: options.root_namespace.0.clone(),
            node: options.node.clone(),
            node_addresses: options.node_addresses.clone(),
            unbudgeted: options.unbudgeted,
        }
    }
}

impl From<Reading> for Options {
    fn from(reading: Reading) -> Self {
        Self {
            trust_domain: reading.trust_domain,
            root_namespace: RootNamespace(reading.root_namespace),
            node: reading.node,
            node_addresses: reading.node_addresses,
            unbudgeted: reading.unbudgeted,
            ..Self::default()
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        Configuration {
            instance: "default".to_owned(),
            directory: "/etc/canopy".into(),
            reading: Reading::from(&Options { unbudgeted: true, ..Options::default() }),
            mesh: Arc::new(Mesh { version: 7, ..Mesh::default() }),
            basis: Basis::default(),
            said: BTreeSet::from(["warning: something".to_owned()]),
        }
    }

    #[test]
    fn what_is_in_force_is_the_same_after_it_was_bytes() {
        let told = configuration();
        let bytes = told.to_bytes().unwrap();
        let read = Configuration::from_bytes(&bytes).unwrap();
        assert_eq!((read.instance, read.directory, read.mesh), (told.instance, told.directory, told.mesh));
        assert_eq!((read.said, &read.reading), (told.said, &told.reading));
        assert!(Options::from(read.reading).unbudgeted);
    }

    #[test]
    fn another_version_is_named_and_garbage_is_refused() {
        let bytes = postcard::to_stdvec(&("9.9.9\u{9b}", configuration())).unwrap();
        let error = Configuration::from_bytes(&bytes).unwrap_err();
        assert!(matches!(&error, ConfigurationError::Version { daemon, .. } if daemon == "9.9.9\u{fffd}"));
        let mut bytes = configuration().to_bytes().unwrap();
        bytes.truncate(bytes.len() / 2);
        for garbage in [&bytes[..], b"", b"\xff\xff\xff\xff\xff"] {
            assert_eq!(Configuration::from_bytes(garbage).unwrap_err(), ConfigurationError::Unreadable);
        }
    }
}
