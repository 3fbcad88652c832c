//! One file per promise under `tests/`, run on real network namespaces and a real kernel against the real
//! binary: as root, after `cargo build -p node-proxy`. `make test` does both. Nothing is here but the place of
//! the repository: what the tests share is the testkit's.

use std::path::{Path, PathBuf};

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
