//! Which pods there are, as whom they run, on which nodes, and which of them have a sidecar: what an authority signs by, and who may read the
//! mesh.
//!
//! Written where watches are read, ahead of anything that is compiled. A pod that has ended is none, and so is one that no node has.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use config::opt_in::{self, Asked, Decision, Mode};
use tokio::sync::watch;

use super::object::{Facts, Object};

/// The pods of a cluster that run or are about to.
#[derive(Debug, Default)]
pub struct Residents {
    table: Mutex<Table>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Table {
    /// By their files.
    pods: HashMap<PathBuf, Resident>,
    /// How many pods of an account a node has; no entry for none.
    hosts: HashMap<Place, usize>,
    /// What namespaces say of their pods, by their files.
    modes: HashMap<PathBuf, Mode>,
}

#[derive(Debug, Clone)]
struct Resident {
    uid: String,
    place: Place,
    /// What its label says.
    mode: Option<Mode>,
    /// Whether it has the container of a sidecar.
    sidecar: bool,
}

/// An account on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) account: String,
    pub(super) node: String,
}

impl Residents {
    /// Takes down what became of an object, if it is a pod or a namespace.
    pub(super) fn change(&self, file: &Path, object: Option<&Object>) {
        if file.starts_with("Namespace") {
            let mode = object
                .and_then(|object| if let Facts::Namespace { mode } = object.facts { mode } else { None });
            let modes = &mut self.table().modes;
            match mode {
                Some(mode) => drop(modes.insert(file.to_owned(), mode)),
                None => drop(modes.remove(file)),
            }
            return;
        }
        if !file.starts_with("Pod") {
            return;
        }
        let now = object.and_then(resident);
        let mut table = self.table();
        let before = match now.clone() {
            Some(now) => table.pods.insert(file.to_owned(), now),
            None => table.pods.remove(file),
        };
        // In this order: what stays is never away in between.
        if let Some(now) = now {
            *table.hosts.entry(now.place).or_default() += 1;
        }
        if let Some(before) = before
            && let Some(count) = table.hosts.get_mut(&before.place)
        {
            *count -= 1;
            if *count == 0 {
                table.hosts.remove(&before.place);
            }
        }
    }

    /// Tells who waits that something has changed.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Hears of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a node has a pod of this account.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.table().hosts.contains_key(place)
    }

    /// The node of a pod; of that very one, and not of another that has its name now.
    pub(super) fn node_of(&self, namespace: &str, name: &str, uid: &str) -> Option<String> {
        let table = self.table();
        let pod = table.pods.get(&file(namespace, name)).filter(|pod| pod.uid == uid)?;
        Some(pod.place.node.clone())
    }

    /// Whether a pod, that very one, has a sidecar, by the labels that give it one and by what is in it.
    pub(super) fn has_sidecar(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let table = self.table();
        let Some(pod) = table.pods.get(&file(namespace, name)).filter(|pod| pod.uid == uid) else {
            return false;
        };
        let of_namespace = table.modes.get(&Path::new("Namespace").join(format!("{namespace}.json")));
        let asked = Asked {
            namespace: of_namespace.map(|mode| mode.as_str()),
            pod: pod.mode.map(Mode::as_str),
            sidecar: pod.sidecar,
            ..Asked::default()
        };
        opt_in::decide(&asked) == Decision::Sidecar
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(namespace: &str, name: &str) -> PathBuf {
    ["Pod", namespace, &format!("{name}.json")].iter().collect()
}

fn resident(object: &Object) -> Option<Resident> {
    let Facts::Pod(facts) = &object.facts else { return None };
    if matches!(facts.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    // As the API server fills it in.
    let account = facts.service_account.clone().unwrap_or_else(|| "default".to_owned());
    let place = Place { namespace: facts.namespace.clone(), account, node: facts.node.clone()? };
    Some(Resident { uid: facts.uid.clone(), place, mode: facts.mode, sidecar: facts.sidecar })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::kubernetes::kinds;

    fn pod(uid: &str, node: Option<&str>, phase: &str) -> Object {
        let kinds = kinds::cluster();
        let resource = &kinds.iter().find(|watched| watched.resource.kind == "Pod").unwrap().resource;
        let text = json!({
            "metadata": { "name": "cart", "namespace": "shop", "uid": uid },
            "spec": { "nodeName": node, "serviceAccountName": "cart" }, "status": { "phase": phase },
        });
        Object::read(resource, resource.versions[0], &text.to_string()).unwrap()
    }

    #[test]
    fn a_pod_has_a_sidecar_that_an_administrators_label_gives_it_and_whose_container_it_has() {
        let kinds = kinds::cluster();
        let object = |kind: &str, text: serde_json::Value| {
            let resource = &kinds.iter().find(|watched| watched.resource.kind == kind).unwrap().resource;
            Object::read(resource, resource.versions[0], &text.to_string()).unwrap()
        };
        let (sidecar, none) = (json!({ "canopy.mesh/mode": "sidecar" }), json!({}));
        let own = json!([{ "name": "canopy-sidecar", "restartPolicy": "Always" }]);
        let job = json!([{ "name": "canopy-sidecar" }]);
        for (namespace, labels, init, expected) in [
            (&sidecar, &none, &own, true),
            (&none, &sidecar, &own, true),
            (&none, &none, &own, false),
            (&sidecar, &none, &json!([]), false),
            (&sidecar, &none, &job, false),
            (&sidecar, &json!({ "canopy.mesh/mode": "node" }), &own, false),
        ] {
            let residents = Residents::default();
            for object in [
                object("Namespace", json!({ "metadata": { "name": "shop", "labels": namespace } })),
                object(
                    "Pod",
                    json!({ "metadata": { "name": "cart", "namespace": "shop", "uid": "u1", "labels": labels },
                        "spec": { "nodeName": "a", "initContainers": init } }),
                ),
            ] {
                residents.change(&object.file, Some(&object));
            }
            let what = format!("{namespace} {labels} {init}");
            assert_eq!(residents.has_sidecar("shop", "cart", "u1"), expected, "{what}");
            assert!(!residents.has_sidecar("shop", "cart", "u0"), "{what}: another of its name");
            residents.change(Path::new("Namespace/shop.json"), None);
            assert_eq!(residents.has_sidecar("shop", "cart", "u1"), expected && labels == &sidecar, "{what}");
        }
    }

    fn at(node: &str) -> Place {
        Place { namespace: "shop".to_owned(), account: "cart".to_owned(), node: node.to_owned() }
    }

    #[test]
    fn a_node_has_an_account_as_long_as_one_of_its_pods_is_there_and_has_not_ended() {
        let residents = Residents::default();
        let (one, other) = (Path::new("Pod/shop/cart.json"), Path::new("Pod/shop/other.json"));
        residents.change(one, Some(&pod("u1", None, "Pending")));
        assert!(!residents.has(&at("a")), "no node has it yet");
        residents.change(one, Some(&pod("u1", Some("a"), "Pending")));
        residents.change(other, Some(&pod("u2", Some("a"), "Running")));
        assert!(residents.has(&at("a")) && !residents.has(&at("b")));
        residents.change(one, Some(&pod("u1", Some("a"), "Succeeded")));
        assert!(residents.has(&at("a")), "there is another");
        residents.change(other, None);
        assert!(!residents.has(&at("a")));
        residents.change(other, Some(&pod("u3", Some("b"), "Running")));
        residents.change(other, Some(&pod("u3", Some("b"), "Failed")));
        assert!(!residents.has(&at("b")), "it has ended");
    }

    #[test]
    fn a_pod_is_known_by_its_uid_and_not_by_a_name_that_was_given_again() {
        let residents = Residents::default();
        let object = pod("u1", Some("a"), "Running");
        residents.change(&object.file, Some(&object));
        assert_eq!(residents.node_of("shop", "cart", "u1").as_deref(), Some("a"));
        assert_eq!(residents.node_of("shop", "cart", "u0"), None);
        assert_eq!(residents.node_of("shop", "web", "u1"), None);
    }
}
