//! A directory of Kubernetes manifests for the pods at hand, as `canopy run --config` reads it.
//!
//! Every file appears under its name in one step, so that whoever watches the directory never meets half of it.

use std::{
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempDir};

use crate::{KitError, Pod, scratch};

/// The directory. It goes when this is dropped.
#[derive(Debug)]
pub struct Manifests {
    directory: TempDir,
    outside: TempDir,
}

/// A port of a pod or Service, the same number on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Its name; by it or by `app_protocol` the daemon knows what is spoken.
    pub name: &'static str,
    /// Its number.
    pub number: u16,
    /// `appProtocol`, where it is to be written.
    pub app_protocol: Option<&'static str>,
}

/// A Service and the address clients use.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its cluster IPs, one or both families.
    pub vips: &'a [IpAddr],
    /// Its ports.
    pub ports: &'a [Port],
}

impl Manifests {
    /// An empty directory.
    ///
    /// # Errors
    /// The temporary directory cannot be made.
    pub fn new() -> Result<Self, KitError> {
        Ok(Self { directory: scratch::directory("manifests")?, outside: scratch::directory("unfinished")? })
    }

    /// A copy of the files in a directory, to be edited while the original stays as it is.
    ///
    /// # Errors
    /// The original cannot be read.
    pub fn copy_of(original: &Path) -> Result<Self, KitError> {
        let copy = Self::new()?;
        let entries = fs::read_dir(original).map_err(|source| KitError::file(original, source))?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            let text =
                fs::read_to_string(entry.path()).map_err(|source| KitError::file(entry.path(), source))?;
            copy.write(&entry.file_name().to_string_lossy(), &text)?;
        }
        Ok(copy)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a file of it is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// What a file of it says.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(&self, name: &str) -> Result<String, KitError> {
        let path = self.file(name);
        fs::read_to_string(&path).map_err(|source| KitError::file(path, source))
    }

    /// Writes a file, or another text in place of its old one.
    ///
    /// # Errors
    /// The disk is full, or alike.
    pub fn write(&self, name: &str, text: &str) -> Result<(), KitError> {
        let path = self.file(name);
        let failed = |source| KitError::file(&path, source);
        // Made outside: a watcher of the directory sees the finished file alone.
        let made = NamedTempFile::new_in(self.outside.path()).map_err(failed)?;
        fs::write(made.path(), text).map_err(failed)?;
        made.persist(&path).map(drop).map_err(|error| KitError::file(&path, error.error))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, name: &str) -> Result<(), KitError> {
        let path = self.file(name);
        fs::remove_file(&path).map_err(|source| KitError::file(path, source))
    }

    /// Writes `NAME-namespace.yaml`: a namespace that is a tenant by itself.
    ///
    /// # Errors
    /// As [`Manifests::write`].
    pub fn namespace(&self, name: &str) -> Result<(), KitError> {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        self.write(&format!("{name}-namespace.yaml"), &text)
    }

    /// Writes `NAMESPACE-NAME-pod.yaml`: the pod, its service account called like it, and its ports.
    ///
    /// # Errors
    /// As [`Manifests::write`].
    pub fn pod(&self, pod: &Pod, ports: &[Port]) -> Result<(), KitError> {
        self.pod_of(pod, ports, "")
    }

    /// As [`Manifests::pod`], of a pod that runs on the node of this name.
    ///
    /// # Errors
    /// As [`Manifests::write`].
    pub fn pod_on(&self, node: &str, pod: &Pod, ports: &[Port]) -> Result<(), KitError> {
        self.pod_of(pod, ports, &format!("  nodeName: {node}\n"))
    }

    fn pod_of(&self, pod: &Pod, ports: &[Port], node: &str) -> Result<(), KitError> {
        let (namespace, name) = (pod.namespace(), pod.name());
        let mut text = format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{namespace: {namespace}, name: {name}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: {namespace}\n  name: {name}\n\
             \x20 annotations: {{canopy.mesh/netns: {}}}\n\
             spec:\n{node}  serviceAccountName: {name}\n  containers:\n  - name: app\n    image: none\n",
            pod.netns_path().display()
        );
        if !ports.is_empty() {
            text.push_str("    ports:\n");
        }
        for port in ports {
            let _ = writeln!(text, "    - {{name: {}, containerPort: {}}}", port.name, port.number);
        }
        let _ = write!(
            text,
            "status:\n  phase: Running\n  podIP: {v4}\n  podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]\n\
             \x20 conditions: [{{type: Ready, status: \"True\"}}]\n",
            v4 = pod.v4(),
            v6 = pod.v6()
        );
        self.write(&format!("{namespace}-{name}-pod.yaml"), &text)
    }

    /// Writes `NAMESPACE-NAME-service.yaml`: the Service, and an EndpointSlice per family with these pods.
    ///
    /// # Errors
    /// As [`Manifests::write`].
    pub fn service(&self, service: &Service<'_>, pods: &[&Pod]) -> Result<(), KitError> {
        let text = format!(
            "{}---\n{}---\n{}",
            service_text(service),
            slice_text(service, "IPv4", pods),
            slice_text(service, "IPv6", pods)
        );
        self.write(&format!("{}-{}-service.yaml", service.namespace, service.name), &text)
    }
}

fn service_text(service: &Service<'_>) -> String {
    let vips: Vec<String> = service.vips.iter().map(|vip| format!("\"{vip}\"")).collect();
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: {}, name: {}}}\nspec:\n\
         \x20 clusterIP: {}\n  clusterIPs: [{}]\n  ports:\n",
        service.namespace,
        service.name,
        vips.first().map_or("None", String::as_str),
        vips.join(", ")
    );
    for port in service.ports {
        let _ = write!(text, "  - {{name: {}, port: {}, targetPort: {1}", port.name, port.number);
        if let Some(protocol) = port.app_protocol {
            let _ = write!(text, ", appProtocol: {protocol}");
        }
        text.push_str("}\n");
    }
    text
}

fn slice_text(service: &Service<'_>, family: &str, pods: &[&Pod]) -> String {
    let (namespace, name) = (service.namespace, service.name);
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: {namespace}\n\
         \x20 name: {name}-{}\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nports:\n",
        family.to_lowercase()
    );
    for port in service.ports {
        let _ = write!(text, "- {{name: {}, port: {}", port.name, port.number);
        if let Some(protocol) = port.app_protocol {
            let _ = write!(text, ", appProtocol: {protocol}");
        }
        text.push_str("}\n");
    }
    text.push_str("endpoints:\n");
    for pod in pods {
        let address = if family == "IPv4" { pod.v4().to_string() } else { pod.v6().to_string() };
        let _ = writeln!(
            text,
            "- addresses: [\"{address}\"]\n  conditions: {{ready: true}}\n\
             \x20 targetRef: {{kind: Pod, namespace: {}, name: {}}}",
            pod.namespace(),
            pod.name()
        );
    }
    text
}
