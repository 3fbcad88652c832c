//! What of a pod is read, as the API server sends it: which containers and volumes there are, what the kubelet asks them, and as which groups
//! they run. All else is passed over and held nowhere.

use std::collections::BTreeMap;

use config::opt_in::SIDECAR;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// A pod.
#[derive(Debug, Deserialize)]
pub(super) struct Pod<'a> {
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(borrow)]
    pub(super) spec: Option<Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What it is made of.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec<'a> {
    pub(super) host_network: Option<bool>,
    pub(super) os: Option<Named>,
    pub(super) security_context: Option<Groups>,
    pub(super) containers: Option<Vec<Container>>,
    /// As they stand there, since one of them may be the sidecar's own.
    #[serde(borrow)]
    init_containers: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    volumes: Option<Vec<&'a RawValue>>,
}

/// What has a name.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// As which groups something runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Groups {
    run_as_group: Option<i64>,
    fs_group: Option<i64>,
    supplemental_groups: Option<Vec<i64>>,
}

/// A container, and of it what a proxy heeds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<Port>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liveness_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    startup_probe: Option<Probe>,
    #[serde(default, skip_serializing)]
    security_context: Option<Groups>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    container_port: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
}

/// What the kubelet asks over the network: under STRICT the sidecar asks it in its place, so it has to know the whole question. What it runs
/// within the container (`exec`) is none of a proxy's.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(skip_serializing_if = "Option::is_none")]
    http_get: Option<HttpGet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_socket: Option<TcpSocket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Grpc>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    port: PortOrName,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_headers: Option<Vec<Header>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct TcpSocket {
    port: PortOrName,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Grpc {
    port: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum PortOrName {
    Port(i64),
    Name(String),
}

impl Groups {
    /// Whether a process that runs so is of this group, or can come to be.
    pub(super) fn has(&self, group: u32) -> bool {
        let mut all =
            self.run_as_group.iter().chain(&self.fs_group).chain(self.supplemental_groups.iter().flatten());
        all.any(|one| *one == i64::from(group))
    }
}

impl Container {
    pub(super) fn is_of(&self, group: u32) -> bool {
        self.security_context.as_ref().is_some_and(|groups| groups.has(group))
    }

    /// Only where one is.
    fn without_exec(mut self) -> Self {
        for probe in [&mut self.liveness_probe, &mut self.readiness_probe, &mut self.startup_probe] {
            probe.take_if(|probe| {
                probe.http_get.is_none() && probe.tcp_socket.is_none() && probe.grpc.is_none()
            });
        }
        self
    }
}

/// A list in which something of the sidecar's may stand already.
#[derive(Debug)]
pub(super) struct Standing<'a>(Option<Vec<&'a RawValue>>);

impl<'a> Spec<'a> {
    pub(super) fn init_list(&self) -> Standing<'a> {
        Standing(self.init_containers.clone())
    }

    pub(super) fn volume_list(&self) -> Standing<'a> {
        Standing(self.volumes.clone())
    }

    /// The pod's own init containers.
    pub(super) fn init(&self) -> serde_json::Result<Vec<Container>> {
        let all =
            self.init_containers.iter().flatten().map(|raw| serde_json::from_str::<Container>(raw.get()));
        let all = all.collect::<serde_json::Result<Vec<_>>>()?;
        Ok(all
            .into_iter()
            .filter(|container| container.name != SIDECAR)
            .map(Container::without_exec)
            .collect())
    }

    /// Its containers.
    pub(super) fn take_containers(&mut self) -> Vec<Container> {
        let all = self.containers.take().unwrap_or_default();
        all.into_iter().map(Container::without_exec).collect()
    }
}

impl Standing<'_> {
    /// Whether there is such a list.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Where in it something of this name stands.
    pub(super) fn named(&self, name: &str) -> serde_json::Result<Vec<usize>> {
        let mut found = Vec::new();
        for (place, raw) in self.0.iter().flatten().enumerate() {
            if serde_json::from_str::<Named>(raw.get())?.name == name {
                found.push(place);
            }
        }
        Ok(found)
    }

    /// What stands there.
    pub(super) fn at(&self, place: usize) -> Option<Value> {
        serde_json::from_str(self.0.as_ref()?.get(place)?.get()).ok()
    }
}
