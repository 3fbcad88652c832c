//! Pods that say that a sidecar carries them, and their sidecars, which trust one authority.

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use e2e::{Stage, built};
use tempfile::TempDir;
use testkit::{Daemon, Options, Pod, manifests::Port};

pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// Both ways in which a sidecar captures.
pub(super) const CAPTURES: [&str; 2] = ["ebpf", "nftables"];

/// A node, what is said of its pods, and the authority. What is made on it is to be dropped before it.
pub(super) struct Scene {
    pub(super) stage: Stage,
    authority: TempDir,
}

impl Scene {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { stage: Stage::new()?, authority: tempfile::tempdir()? })
    }

    /// A pod that is labelled for a sidecar; nothing says where its network namespace is.
    pub(super) fn pod(&self, namespace: &str, name: &str, ports: &[Port]) -> Result<Pod, Failure> {
        let pod = self.stage.pod(namespace, name, ports)?;
        let file = format!("{namespace}-{name}-pod.yaml");
        let named = format!("  annotations: {{canopy.mesh/netns: {}}}\n", pod.netns_path().display());
        let labelled = format!("  labels: {{canopy.mesh/mode: sidecar, app: {name}}}\n");
        let text = self.stage.manifests.read(&file)?;
        assert!(text.contains(&named), "{text}");
        self.stage.manifests.write(&file, &text.replacen(&named, &labelled, 1))?;
        Ok(pod)
    }

    /// A pod's sidecar, when it is ready.
    pub(super) fn sidecar(&self, pod: &Pod, capture: &str, more: &[&str]) -> Result<Daemon, Failure> {
        let config = self.stage.manifests.path().display().to_string();
        Ok(Daemon::sidecar(pod, &["--config", &config], &self.options(capture, more))?)
    }

    /// A node's daemon beside, of the same authority.
    pub(super) fn daemon(&self) -> Result<Daemon, Failure> {
        Ok(self.stage.daemon_with(&["--ca-dir", &self.authority()])?)
    }

    pub(super) fn options(&self, capture: &str, more: &[&str]) -> Options {
        let mut arguments: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        if !more.contains(&"--ca") {
            arguments.extend(["--ca-dir".to_owned(), self.authority()]);
        }
        Options { redirect: capture.to_owned(), arguments, ..Options::default() }
    }

    fn authority(&self) -> String {
        self.authority.path().display().to_string()
    }
}

/// The binary as it is when it may no more than this, in setpriv's words.
pub(super) fn confined(folder: &Path, to: &str) -> Result<PathBuf, Failure> {
    let (binary, script) = (built("canopy"), folder.join("canopy"));
    fs::write(&script, format!("#!/bin/sh\nexec setpriv {to} {} \"$@\"\n", binary.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Whether it has this `delivery` and no reason.
pub(super) fn is_carried(line: &serde_json::Value, workload: &str, delivery: &str) -> bool {
    line["workload"] == workload && line["delivery"] == delivery && line["reason"].is_null()
}
