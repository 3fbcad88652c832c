//! What a runtime's verbose words say of a sandbox: where its network namespace is, and what runs it.
//!
//! Runtimes differ. containerd and CRI-O put one JSON object under `info`, with the OCI specification as `runtimeSpec` in it; older ones
//! put the specification itself there. Nothing here may take a word for a path that is none.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use config::name::{Name, Namespace, PodName};
use serde_json::Value;

use super::wire::{Item, NODE, StatusAnswer};
use crate::control::sandboxes::{Handler, Sandbox};

/// Why a sandbox cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unplaced {
    /// It is no pod's.
    #[error("its names are not those of a pod")]
    NotAPod,
    /// Its runtime says nothing of it.
    #[error(
        "the runtime does not say where its network namespace is: no `network` among runtimeSpec.linux.namespaces, and no process"
    )]
    NoNamespace,
}

/// What a list and a status together say.
pub(super) fn sandbox(item: &Item, answer: &StatusAnswer) -> Result<Sandbox, Unplaced> {
    let metadata = item.metadata.as_ref().ok_or(Unplaced::NotAPod)?;
    let namespace = Namespace::try_from(metadata.namespace.as_str()).map_err(|_| Unplaced::NotAPod)?;
    let name = Name::try_from(metadata.name.as_str()).map_err(|_| Unplaced::NotAPod)?;
    if metadata.uid.is_empty() {
        return Err(Unplaced::NotAPod);
    }
    let status = answer.status.clone().unwrap_or_default();
    let options = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
    let is_hosts = options.is_some_and(|options| options.network == NODE);
    let said = Said::of(&answer.info);
    let network = status.network.unwrap_or_default();
    let addresses = [network.ip].into_iter().chain(network.additional.into_iter().map(|ip| ip.ip));
    Ok(Sandbox {
        uid: metadata.uid.clone(),
        pod: PodName::new(namespace, name),
        container: item.id.clone(),
        netns: if is_hosts { None } else { Some(said.netns.ok_or(Unplaced::NoNamespace)?) },
        addresses: addresses.filter_map(|address| address.parse().ok()).collect(),
        are_given: true,
        handler: Handler {
            name: [item.runtime_handler.clone(), status.runtime_handler, said.handler]
                .into_iter()
                .find(|name| !name.is_empty())
                .unwrap_or_default(),
            kind: said.kind,
        },
    })
}

/// What is said beyond the protocol's own words.
#[derive(Debug, Default)]
struct Said {
    netns: Option<PathBuf>,
    handler: String,
    kind: String,
}

impl Said {
    fn of(info: &HashMap<String, String>) -> Self {
        let mut said = Self::default();
        // The one that both runtimes have first: what another says is only a stop-gap.
        let mut texts: Vec<_> = info.iter().collect();
        texts.sort_by_key(|(name, _)| (*name != "info", *name));
        for value in texts.iter().filter_map(|(_, text)| serde_json::from_str::<Value>(text).ok()) {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            if said.handler.is_empty() {
                said.handler = text("runtimeHandler");
            }
            if said.kind.is_empty() {
                said.kind = text("runtimeType");
            }
            if said.netns.is_none() {
                said.netns = netns(&value);
            }
        }
        said
    }
}

/// The path of the namespace of type `network` (OCI runtime specification, config-linux.md, "Namespaces"); else that of the process.
fn netns(value: &Value) -> Option<PathBuf> {
    let spec = if value["runtimeSpec"].is_object() { &value["runtimeSpec"] } else { value };
    let namespaces = spec["linux"]["namespaces"].as_array().map_or(&[][..], Vec::as_slice);
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network");
    let path =
        network.and_then(|network| network["path"].as_str()).filter(|path| Path::new(path).is_absolute());
    let pid = value["pid"].as_u64().filter(|pid| (2..=u64::from(u32::MAX)).contains(pid));
    path.map(PathBuf::from).or_else(|| Some(format!("/proc/{}/ns/net", pid?).into()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::wire::{Ip, Linux, Metadata, NamespaceOption, Namespaces, Network, Status},
        *,
    };

    fn item() -> Item {
        let metadata =
            Metadata { name: "cart".to_owned(), uid: "u".to_owned(), namespace: "shop".to_owned() };
        Item { id: "c".to_owned(), metadata: Some(metadata), ..Item::default() }
    }

    fn answer(network: i32, key: &str, info: &str) -> StatusAnswer {
        let namespaces = Some(Namespaces { options: Some(NamespaceOption { network }) });
        let ips = Network { ip: "10.0.0.7".to_owned(), additional: vec![Ip { ip: "fd00::7".to_owned() }] };
        let status = Status { network: Some(ips), linux: Some(Linux { namespaces }), ..Status::default() };
        StatusAnswer { status: Some(status), info: [(key.to_owned(), info.to_owned())].into() }
    }

    #[test]
    fn each_runtimes_words_name_the_network_namespace() {
        for (what, key, info, expected) in [
            (
                "containerd",
                "info",
                r#"{"pid":4711,"runtimeHandler":"","runtimeType":"io.containerd.runc.v2","runtimeSpec":{"linux":{"namespaces":[
                   {"type":"pid"},{"type":"network","path":"/var/run/netns/cni-1"}]}}}"#,
                Some("/var/run/netns/cni-1"),
            ),
            (
                "CRI-O",
                "info",
                r#"{"image":"pause","pid":0,"runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":"/var/run/netns/9f"}]}}}"#,
                Some("/var/run/netns/9f"),
            ),
            (
                "the specification itself",
                "sandboxInfo",
                r#"{"linux":{"namespaces":[{"type":"network","path":"/var/run/netns/a"}]}}"#,
                Some("/var/run/netns/a"),
            ),
            (
                "a process alone",
                "info",
                r#"{"pid":4711,"runtimeSpec":{"linux":{}}}"#,
                Some("/proc/4711/ns/net"),
            ),
            ("no process", "info", r#"{"pid":0}"#, None),
            (
                "a relative path",
                "info",
                r#"{"linux":{"namespaces":[{"type":"network","path":"net"}]}}"#,
                None,
            ),
            ("no JSON", "info", "map[pid:1]", None),
        ] {
            let found = sandbox(&item(), &answer(0, key, info));
            match expected {
                Some(path) => assert_eq!(found.unwrap().netns.unwrap(), Path::new(path), "{what}"),
                None => assert_eq!(found, Err(Unplaced::NoNamespace), "{what}"),
            }
        }
    }

    #[test]
    fn names_addresses_and_handler_are_taken_and_the_nodes_network_is_nobodys_namespace() {
        let info = r#"{"pid":5,"runtimeHandler":"kata","runtimeType":"io.containerd.kata.v2"}"#;
        let found = sandbox(&item(), &answer(0, "info", info)).unwrap();
        assert_eq!((found.uid.as_str(), found.pod.to_string().as_str()), ("u", "shop/cart"));
        assert_eq!(found.addresses.len(), 2);
        assert_eq!(
            (found.handler.name.as_str(), found.handler.kind.as_str()),
            ("kata", "io.containerd.kata.v2")
        );
        let hosts = sandbox(&item(), &answer(NODE, "info", info)).unwrap();
        assert_eq!(hosts.netns, None);
        let nobody = Item { metadata: None, ..item() };
        assert_eq!(sandbox(&nobody, &answer(0, "info", info)), Err(Unplaced::NotAPod));
    }
}
