//! A node with pods on the machine at hand: network namespaces on a bridge, real servers in them, the real
//! daemon beside them. For the tests, the demo and the benchmarks.
//!
//! Everything it makes is held by a guard and gone when the guard is dropped, also after a panic. It touches
//! nothing outside the namespaces it made, ends processes by their id alone, and never imports the code under
//! test: what it says of the daemon it has seen from outside.

use std::time::Duration;

pub use error::KitError;

// The node and what is on it.
pub use netns::Netns;
pub use node::{Addresses, Node};
pub use pod::Pod;
pub use process::Process;
pub use scratch::name as unique_name;
pub use wire::{Capture, Segment};

// A cluster that is there already, in place of such a node.
pub use cluster::{Cluster, Inside, Space};

// What runs in the pods.
pub use server::Server;
pub use traffic::{Place, Tally, Traffic};
pub mod grpc;
pub mod http;

// Other proxies, what they prove who they are with, and who tells them.
pub mod control_plane;
pub mod envoy;
pub mod istio;
pub mod pki;

// The daemon beside them, and what it is told.
pub use daemon::{Daemon, Options, sample};
pub mod manifests;

mod cluster;
mod daemon;
mod error;
mod netns;
mod node;
mod pod;
mod process;
mod scratch;
mod server;
mod tool;
mod traffic;
mod wire;

/// What a test returns, so that it may say `?`.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Asks `done` until it says yes, for at most a minute: no promise of speed, but what a slow machine may need.
///
/// # Errors
/// It never did.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) -> Result<(), KitError> {
    let limit = Duration::from_secs(60);
    let until = tokio::time::Instant::now() + limit;
    while tokio::time::Instant::now() < until {
        if done() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(KitError::TimedOut { what: what.to_owned(), limit, output: String::new() })
}

/// Runs a future to its end on the calling thread, in whatever namespace that is.
///
/// # Panics
/// The machine has no descriptors left for a runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime needs three descriptors").block_on(future)
}
