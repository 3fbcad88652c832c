//! The admin surface: HTTP over a Unix socket, for the verbs of the command line.
//!
//! Mode 0600, and the peer's credentials are checked besides. Nothing secret can be read through it by anyone, and nothing
//! can be changed through it. Paths: `/tree`, `/status`, `/trace?pod=NAMESPACE/NAME`.

pub mod client;
pub mod server;

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::forest::describe::ForestDescription;

/// What the admin socket shows.
pub trait Subject: Send + Sync + fmt::Debug + 'static {
    /// The forest as it stands.
    fn tree(&self) -> BoxFuture<'static, ForestDescription>;

    /// The state of every configured object, as JSON.
    fn status(&self) -> serde_json::Value;

    /// Steering decisions from now on, one JSON line each, until the receiver is dropped; of one pod
    /// (`NAMESPACE/NAME`) or of all. The error says why there are none.
    fn trace(&self, pod: Option<String>) -> Result<mpsc::Receiver<Bytes>, String>;
}

/// Where the admin socket of an instance is when nothing else is said.
pub fn default_socket(instance: &str) -> PathBuf {
    PathBuf::from(format!("/run/canopy/{instance}.sock"))
}
