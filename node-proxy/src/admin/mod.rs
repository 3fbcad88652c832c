//! The admin surface: HTTP over a Unix socket, for the verbs of the command line.
//!
//! Mode 0600, and the peer's credentials are checked besides. No key can be read through it by anyone, and nothing
//! can be changed through it. Paths: `/tree`, `/costs`, `/events?after=NUMBER`,
//! `/showback?since=SECONDS`, `/status`, `/objects`, `/explain?from=NAMESPACE/POD&to=HOST:PORT`, `/configuration`, `/trace?pod=NAMESPACE/NAME`.

pub mod client;
pub mod configuration;
pub mod owners;
pub mod server;

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    explain::{Ask, told::Explanation},
    forest::{costs::NodeCosts, describe::ForestDescription},
    tenancy::{Told, showback::Hour},
};

/// What the admin socket shows.
pub trait Subject: Send + Sync + fmt::Debug + 'static {
    /// The forest as it stands.
    fn tree(&self) -> BoxFuture<'static, ForestDescription>;

    /// What every tenant and workload costs, and may; of one tenant, nothing of the others.
    fn costs(&self, tenant: Option<&str>) -> NodeCosts;

    /// What owners were told after this event; of one tenant or of all.
    fn events(&self, after: u64, tenant: Option<&str>) -> Told;

    /// What was used per hour, from the hour of this second since the epoch on; by all tenants or by one.
    fn showback(&self, since: u64, tenant: Option<&str>) -> Vec<Hour>;

    /// What there is to say about the configuration, as JSON.
    fn status(&self) -> serde_json::Value;

    /// What became of every object, as JSON: of one tenant, or of all.
    fn objects(&self, tenant: Option<&str>) -> serde_json::Value;

    /// Which objects decide a request. The error says why there is nothing to tell.
    fn explain(&self, ask: Ask) -> BoxFuture<'static, Result<Explanation, String>>;

    /// What is in force, as bytes of a [`configuration::Configuration`].
    fn configuration(&self) -> Result<Vec<u8>, String>;

    /// Steering decisions from now on, one JSON line each, until the receiver is dropped; of one pod
    /// (`NAMESPACE/NAME`) or of all. The error says why there are none.
    fn trace(&self, pod: Option<String>) -> Result<mpsc::Receiver<Bytes>, String>;
}

/// Where the admin socket of an instance is when nothing else is said.
pub fn default_socket(instance: &str) -> PathBuf {
    PathBuf::from(format!("/run/canopy/{instance}.sock"))
}
