//! Which pods there are, as whom they run and on which nodes: what an authority signs by.
//!
//! Written where watches are read, ahead of anything that is compiled. A pod that has ended is none, and so is one that no node has.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

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
}

#[derive(Debug, Clone)]
struct Resident {
    uid: String,
    place: Place,
}

/// An account on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) account: String,
    pub(super) node: String,
}

impl Residents {
    /// Takes down what became of an object, if it is a pod.
    pub(super) fn change(&self, file: &Path, object: Option<&Object>) {
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
        let file: PathBuf = ["Pod", namespace, &format!("{name}.json")].iter().collect();
        let table = self.table();
        let pod = table.pods.get(&file).filter(|pod| pod.uid == uid)?;
        Some(pod.place.node.clone())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resident(object: &Object) -> Option<Resident> {
    let Facts::Pod(facts) = &object.facts else { return None };
    if matches!(facts.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    // As the API server fills it in.
    let account = facts.service_account.clone().unwrap_or_else(|| "default".to_owned());
    let place = Place { namespace: facts.namespace.clone(), account, node: facts.node.clone()? };
    Some(Resident { uid: facts.uid.clone(), place })
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
