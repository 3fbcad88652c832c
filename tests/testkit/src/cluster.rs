//! A real Kubernetes that runs already (`scripts/cluster up`), for tests in it: what they apply, and what they run in its pods.
//!
//! It never brings the cluster up or down, and a test leaves nothing in it: what it makes is in a [`Space`] of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{KitError, tool};

pub use self::inside::Inside;

mod inside;

/// The cluster, as its administrator.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The cluster that `CANOPY_CLUSTER_KUBECONFIG` names; `tools` is the folder that its kubectl is built into (`target/tools`).
    ///
    /// # Panics
    /// The variable is not set: a test that needs a cluster has been run without one.
    #[must_use]
    pub fn running(tools: &Path) -> Self {
        let kubeconfig = env::var_os(KUBECONFIG).map(PathBuf::from);
        let kubeconfig =
            kubeconfig.unwrap_or_else(|| panic!("{KUBECONFIG} is not set; run `make test-cluster`"));
        Self { kubectl: tools.join("kubectl"), kubeconfig }
    }

    /// Runs kubectl; what it printed.
    ///
    /// # Errors
    /// It is not built, or it failed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, KitError> {
        self.kubectl_fed(arguments, "")
    }

    /// A namespace of the test's own, with these labels (`KEY=VALUE`).
    ///
    /// # Errors
    /// The cluster does not take it.
    pub fn space(&self, labels: &[&str]) -> Result<Space, KitError> {
        let name = format!("test-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name])?;
        // From here on it goes with its guard.
        let space = Space { cluster: self.clone(), name, is_own: true };
        if !labels.is_empty() {
            let arguments = ["label", "namespace", space.name.as_str()];
            self.kubectl(&[&arguments, labels].concat())?;
        }
        Ok(space)
    }

    /// A namespace that is there, and stays.
    #[must_use]
    pub fn existing(&self, name: &str) -> Space {
        Space { cluster: self.clone(), name: name.to_owned(), is_own: false }
    }

    fn kubectl_fed(&self, arguments: &[&str], input: &str) -> Result<String, KitError> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        tool::finish_fed(&mut command, input, "`scripts/setup cluster` builds it")
    }
}

/// A namespace of a cluster. Dropping one that a test made removes it, with all that is in it.
#[derive(Debug)]
pub struct Space {
    cluster: Cluster,
    name: String,
    is_own: bool,
}

impl Space {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in it; what it printed.
    ///
    /// # Errors
    /// It failed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, KitError> {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], arguments].concat())
    }

    /// Applies manifests, one or more, as text.
    ///
    /// # Errors
    /// The API server refuses one.
    pub fn apply(&self, manifests: &str) -> Result<String, KitError> {
        self.cluster.kubectl_fed(&["--namespace", &self.name, "apply", "--filename", "-"], manifests)
    }

    /// The same as somebody else (`--as=USER`).
    ///
    /// # Errors
    /// As [`Space::apply`].
    pub fn apply_as(&self, manifests: &str, user: &str) -> Result<String, KitError> {
        self.cluster.kubectl_fed(&["--namespace", &self.name, "apply", user, "--filename", "-"], manifests)
    }

    /// A pod from inside, on this machine.
    ///
    /// # Errors
    /// There is no such pod, or none of its processes runs.
    pub fn inside(&self, pod: &str) -> Result<Inside, KitError> {
        let uid = self.kubectl(&["get", "pod", pod, "--output=jsonpath={.metadata.uid}"])?;
        Inside::of(pod, uid.trim())
    }

    /// Waits until all of a Deployment's or DaemonSet's pods (`deployment/NAME`) are ready, at most a minute.
    ///
    /// # Errors
    /// They are not; with what the cluster says of its pods.
    pub fn rolled_out(&self, what: &str) -> Result<(), KitError> {
        self.ready(&["rollout", "status", what, "--timeout=60s"])
    }

    /// Waits until a pod is ready, at most a minute.
    ///
    /// # Errors
    /// As [`Space::rolled_out`].
    pub fn pod_ready(&self, pod: &str) -> Result<(), KitError> {
        self.ready(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"])
    }

    /// Runs a command in a pod's only container; what it printed.
    ///
    /// # Errors
    /// It failed, or there is no such pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, KitError> {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// Why pods do not start, nobody who waits for them is told.
    fn ready(&self, arguments: &[&str]) -> Result<(), KitError> {
        let Err(error) = self.kubectl(arguments) else { return Ok(()) };
        let KitError::Failed { command, status, output } = error else { return Err(error) };
        let pods = self.kubectl(&["get", "pods", "--output=wide"]).unwrap_or_default();
        let events = self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]).unwrap_or_default();
        Err(KitError::Failed { command, status, output: format!("{output}\n{pods}\n{events}") })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
        // Not waited for: names are not used again. Pods end at once, as nobody asks them for more.
        let _ = self.kubectl(&["delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false"]);
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// Names the file by which kubectl reaches the cluster.
const KUBECONFIG: &str = "CANOPY_CLUSTER_KUBECONFIG";
static COUNT: AtomicU32 = AtomicU32::new(0);
