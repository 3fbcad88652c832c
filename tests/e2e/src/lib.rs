//! One file per promise under `tests/`, run on real network namespaces and a real kernel against the real
//! binary: as root, after `cargo build -p node-proxy`. `make test` does both. Here is what only these tests
//! share: a node with its manifests, servers and clients that can misbehave, and the place of the repository.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use dns::Dns;
pub use envoy::{Envoy, Shown, foreign, local};
pub use left::{files_of, groups_of, processes_of, rules_of};
pub use memory::{forget_peak, peak, resident};
pub use mesh::Mesh;
pub use origin::{Origin, Seen};
pub use plugin::{PodSandbox, run_plugin, run_plugin_for};
pub use raw::{Listener, byte, dial, end_of, head, is_reset};
pub use requests::{ask, is_answered};
pub use spire::{DELEGATE, SpireAgent, SpireServer, TRUST_DOMAIN};
pub use stage::{HTTP, Stage, Vip, in_force, port};
pub use tap::{TLS_RECORD, contains};
pub use testkit::{Tally, Traffic, eventually};
pub use tree::certificate_of;

mod dns;
mod envoy;
mod left;
mod memory;
mod mesh;
mod origin;
mod plugin;
pub mod prompt;
mod raw;
mod requests;
mod spire;
mod stage;
mod tap;
mod tree;

/// The folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program built beside the running test.
///
/// # Panics
/// It is not there: what was built last is not what is tested.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own file");
    let beside = own.ancestors().nth(2).map(|folder| folder.join(name)).filter(|path| path.is_file());
    beside.unwrap_or_else(|| panic!("{name} is not built; run `cargo build --workspace --bins` first"))
}

/// The daemon, in a process that may have so many descriptors: a program in `folder` that becomes it.
///
/// # Errors
/// The program cannot be written.
pub fn narrow(folder: &tempfile::TempDir, descriptors: u32) -> std::io::Result<PathBuf> {
    let narrow = folder.path().join("canopy");
    let canopy = built("canopy");
    std::fs::write(
        &narrow,
        format!("#!/bin/sh\nulimit -n {descriptors}\nexec {} \"$@\"\n", canopy.display()),
    )?;
    std::fs::set_permissions(&narrow, std::fs::Permissions::from_mode(0o755))?;
    Ok(narrow)
}
