//! The pod of a sidecar as it is told by its environment: for one that follows a control plane, and has no manifests.
//!
//! What the pod declares is its own author's word, as in its manifest; who it is is the cluster's.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, thread, time::Duration};

use config::{
    finding::Severity,
    name::{PodName, ServiceAccount},
    opt_in::{MODE, Mode, SIDECAR},
    store::{FileText, Options, Outcome, Store},
};
use serde_json::{Map, Value, json};

use crate::control::ConfigSource;

/// What is told of the pod.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its namespace and name.
    pub pod: PodName,
    /// Its UID, if that is told.
    pub uid: Option<String>,
    /// Whom it speaks as.
    pub account: ServiceAccount,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What its manifest says besides: `metadata.labels`, `metadata.annotations` and `spec`, as JSON.
    pub manifest: Option<String>,
}

/// What is told of the pod cannot be a pod.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// It is no JSON object.
    #[error("what is told of the pod's manifest is no JSON object")]
    Json(#[source] serde_json::Error),
    /// A Pod would be refused for it.
    #[error("what is told of the pod is refused: {0}")]
    Refused(String),
    /// It has no address.
    #[error("the pod has no address: give --pod-ip (status.podIPs of the pod)")]
    NoAddress,
}

impl Given {
    /// As the manifest that it would have.
    fn manifest(&self) -> Result<Value, GivenError> {
        let own: Map<String, Value> = match self.manifest.as_deref() {
            Some(text) => serde_json::from_str(text).map_err(GivenError::Json)?,
            None => Map::new(),
        };
        let of = |path: &str| own.get("metadata").and_then(|meta| meta.get(path)).cloned();
        let mut labels = of("labels").filter(Value::is_object).unwrap_or_else(|| json!({}));
        labels[MODE] = Mode::Sidecar.as_str().into();
        let mut spec = own.get("spec").filter(|spec| spec.is_object()).cloned().unwrap_or_else(|| json!({}));
        if spec["containers"].as_array().is_none_or(Vec::is_empty) {
            spec["containers"] = json!([{ "name": "app" }]);
        }
        // Which is this process, whatever it was told.
        let own = json!({ "name": SIDECAR, "restartPolicy": "Always" });
        match spec["initContainers"].as_array_mut() {
            Some(init) => init.push(own),
            None => spec["initContainers"] = json!([own]),
        }
        spec["serviceAccountName"] = self.account.as_str().into();
        let addresses: Vec<Value> = self.addresses.iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
        let first = self.addresses.first().ok_or(GivenError::NoAddress)?.to_string();
        let mut metadata = json!({
            "namespace": self.pod.namespace.as_str(), "name": self.pod.name.as_str(), "labels": labels,
            "annotations": of("annotations").filter(Value::is_object).unwrap_or_else(|| json!({})),
        });
        if let Some(uid) = &self.uid {
            metadata["uid"] = uid.as_str().into();
        }
        Ok(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
            "status": { "podIP": first, "podIPs": addresses },
        }))
    }
}

/// A source that says one pod, once.
#[derive(Debug)]
pub struct GivenSource(Option<Outcome>);

impl GivenSource {
    /// Of a pod; refused where a manifest would be.
    pub fn open(given: &Given, reading: Options) -> Result<Self, GivenError> {
        let text = given.manifest()?.to_string();
        let files: BTreeMap<PathBuf, FileText> = [("pod.json".into(), FileText::from(&*text))].into();
        let outcome = Store::new(Options { of_cluster: true, ..reading }).apply(&files);
        let refused = outcome.findings.iter().find(|finding| finding.severity == Severity::Rejected);
        match refused {
            Some(finding) => Err(GivenError::Refused(format!("{}: {}", finding.field, finding.message))),
            None => Ok(Self(Some(outcome))),
        }
    }
}

impl ConfigSource for GivenSource {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        if self.0.is_none() {
            thread::sleep(patience);
        }
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(manifest: Option<&str>) -> Given {
        Given {
            pod: PodName::new("shop".try_into().unwrap(), "web-7".try_into().unwrap()),
            uid: Some("u-7".to_owned()),
            account: "web".try_into().unwrap(),
            addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            manifest: manifest.map(str::to_owned),
        }
    }

    #[test]
    fn the_pod_is_who_it_is_told_to_be_and_declares_what_its_manifest_does() {
        let manifest = json!({
            "metadata": { "name": "thief", "namespace": "bank", "labels": { "app": "web", MODE: "off" } },
            "spec": {
                "serviceAccountName": "admin",
                "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }],
                    "readinessProbe": { "httpGet": { "path": "/healthz", "port": 80 } } }],
            },
        });
        let mut source = GivenSource::open(&given(Some(&manifest.to_string())), Options::default()).unwrap();
        let mesh = source.next(Duration::ZERO).unwrap().mesh;
        assert_eq!(mesh.workloads.len(), 1);
        let own = mesh.workloads.values().next().unwrap();
        assert_eq!(own.pod.to_string(), "shop/web-7");
        assert_eq!(own.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        assert!(own.meshed && own.uid.as_deref() == Some("u-7"));
        assert_eq!((own.addresses.len(), own.ports.len(), own.probes.len()), (2, 1, 1));
        assert_eq!(own.labels["app"], "web");
        assert!(source.next(Duration::ZERO).is_none());
    }

    #[test]
    fn what_can_be_no_pod_is_refused_and_says_why() {
        let open = |given: &Given| GivenSource::open(given, Options::default()).unwrap_err().to_string();
        assert!(open(&given(Some("7"))).contains("JSON"));
        assert!(open(&Given { addresses: Vec::new(), ..given(None) }).contains("--pod-ip"));
        assert!(GivenSource::open(&given(None), Options::default()).is_ok());
    }
}
