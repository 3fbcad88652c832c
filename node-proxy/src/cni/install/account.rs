//! How the plugin asks the API server: a kubeconfig with a token of the DaemonSet's own account, and the cluster's roots beside it.
//!
//! The token is a copy, since the pod's own file is not the host's: whoever keeps it must renew it before it ends. Both are for root alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{InstallError, failed};
use crate::{
    cni::NAME,
    sys::replace::{Mode, replace},
};

/// The kubeconfig's file, in the directory of networks: no runtime reads what ends so.
pub const KUBECONFIG: &str = "canopy-cni.kubeconfig";
/// The roots' file, beside it.
pub const ROOTS: &str = "canopy-cni-ca.crt";

/// Where a pod finds what its account is.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The API server's URL, as the host reaches it.
    pub server: String,
    /// The file with its token.
    pub token: PathBuf,
    /// The file with the cluster's roots (PEM).
    pub roots: PathBuf,
}

impl Account {
    /// Writes both, where they are not so already; which were written.
    pub(super) fn write(&self, directory: &Path) -> Result<Vec<PathBuf>, InstallError> {
        let token = fs::read_to_string(&self.token).map_err(failed(&self.token, "read"))?;
        let roots = fs::read(&self.roots).map_err(failed(&self.roots, "read"))?;
        if token.trim().is_empty() {
            return Err(failed(&self.token, "used")(io::Error::other("there is no token in it")));
        }
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": {"server": self.server, "certificate-authority": ROOTS}}],
            "users": [{"name": NAME, "user": {"token": token.trim()}}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
            "current-context": NAME,
        });
        let mut written = Vec::new();
        for (name, content) in [(ROOTS, roots), (KUBECONFIG, format!("{kubeconfig:#}\n").into_bytes())] {
            let path = directory.join(name);
            if fs::read(&path).ok().as_ref() != Some(&content) || !is_private(&path) {
                replace(&path, &content, Mode(0o600)).map_err(failed(&path, "written"))?;
                written.push(path);
            }
        }
        Ok(written)
    }
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == 0o600)
}

/// The API server as a pod finds it in its environment.
pub fn server(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}
