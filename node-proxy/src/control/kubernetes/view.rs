//! From the objects of a cluster to the files that the store reads: each object is one, and of pods it is said what only a node, or
//! who reads RuntimeClasses, knows. Whether a pod is captured is not decided here: the store's reader does, by labels and Tenants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use config::{name::NodeName, store::FileText};

use super::{
    ledger::Pending,
    object::{Facts, Object, PodFacts, Say, trimmed},
    sandboxes::{Placed, Sandboxed, Sandboxes},
};

/// How the pods of this node are found.
#[derive(Debug)]
pub struct Capture {
    /// This node.
    pub node: NodeName,
    /// Who knows where they are.
    pub sandboxes: Box<dyn Sandboxes>,
    /// Whether nothing counts but them, and what decides about them: all else comes from a control plane.
    pub alone: bool,
}

/// The files.
#[derive(Debug)]
pub(super) struct View {
    capture: Option<Capture>,
    files: BTreeMap<PathBuf, FileText>,
    /// By their files, with what each says itself.
    pods: BTreeMap<PathBuf, (PodFacts, FileText)>,
    by_uid: BTreeMap<String, PathBuf>,
    /// The handler of each RuntimeClass.
    handlers: BTreeMap<String, String>,
}

impl View {
    pub(super) fn new(capture: Option<Capture>) -> Self {
        Self {
            capture,
            files: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_uid: BTreeMap::new(),
            handlers: BTreeMap::new(),
        }
    }

    /// All files, each text the very same as long as it says the same.
    pub(super) fn files(&self) -> &BTreeMap<PathBuf, FileText> {
        &self.files
    }

    /// Takes in what has changed; whether any file has.
    pub(super) fn take(&mut self, pending: Pending) -> bool {
        let Pending { changes, sandboxes } = pending;
        let mut pods: BTreeSet<PathBuf> =
            sandboxes.iter().filter_map(|uid| self.by_uid.get(uid).cloned()).collect();
        let mut is_changed = false;
        for (file, object) in changes {
            match file.iter().next().and_then(|kind| kind.to_str()) {
                Some("Pod") => {
                    self.pod(&file, object);
                    pods.insert(file);
                }
                Some("RuntimeClass") => pods.extend(self.runtime_class(&file, object)),
                _ => is_changed |= self.put(file, object.map(|object| object.text)),
            }
        }
        for file in pods {
            let shown = self.pods.get(&file).and_then(|(facts, text)| self.shown(facts, text));
            is_changed |= self.put(file, shown);
        }
        is_changed
    }

    /// Whether nothing counts but pods, and what decides about them.
    pub(super) fn is_alone(&self) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.alone)
    }

    /// Whether it is known where each pod is that runs already.
    pub(super) fn is_whole(&self) -> bool {
        self.capture.as_ref().is_none_or(|capture| capture.sandboxes.is_whole())
    }

    fn put(&mut self, file: PathBuf, text: Option<FileText>) -> bool {
        match text {
            None => self.files.remove(&file).is_some(),
            Some(text) if self.files.get(&file) == Some(&text) => false,
            Some(text) => {
                self.files.insert(file, text);
                true
            }
        }
    }

    fn pod(&mut self, file: &Path, object: Option<Object>) {
        let before = self.pods.remove(file);
        let now = object.and_then(|Object { facts, text, .. }| match facts {
            Facts::Pod(facts) => Some((*facts, text)),
            _ => None,
        });
        if let Some((before, _)) =
            before.filter(|(before, _)| now.as_ref().is_none_or(|(now, _)| now.uid != before.uid))
        {
            self.by_uid.remove(&before.uid);
        }
        if let Some((facts, text)) = now {
            self.by_uid.insert(facts.uid.clone(), file.to_owned());
            self.pods.insert(file.to_owned(), (facts, text));
        }
    }

    /// The pods that run on it.
    fn runtime_class(&mut self, file: &Path, object: Option<Object>) -> Vec<PathBuf> {
        let Some(class) = file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
            return Vec::new();
        };
        match object.map(|object| object.facts) {
            Some(Facts::RuntimeClass { handler: Some(handler), .. }) => {
                self.handlers.insert(class.clone(), handler);
            }
            _ => drop(self.handlers.remove(&class)),
        }
        let on = self.pods.iter().filter(|(_, (facts, _))| facts.runtime_class.as_ref() == Some(&class));
        on.map(|(file, _)| file.clone()).collect()
    }

    /// A pod as its file says it; `None` if nothing is to be said of it.
    fn shown(&self, facts: &PodFacts, text: &FileText) -> Option<FileText> {
        let placed = self.placed(facts).unwrap_or_default();
        if facts.addresses.is_empty() && placed.addresses.is_empty() {
            // Every pod begins so, and nobody is to be told: it is no workload yet.
            return None;
        }
        let FileText::Bytes(bytes) = text else { return Some(text.clone()) };
        // While a pod's sandbox is made anew, the kubelet goes on saying what the former one had. It says what this one has once that
        // runs, and that waits to be enrolled.
        let is_of_this = |address: &IpAddr| !placed.are_given || placed.addresses.contains(address);
        let is_current = !facts.addresses.is_empty() && facts.addresses.iter().all(is_of_this);
        let class = facts.runtime_class.as_ref().and_then(|class| self.handlers.get(class));
        let say = Say {
            netns: placed.netns.as_deref().and_then(Path::to_str),
            // What runs it is more than what is to.
            handler: placed.handler.as_deref().or(class.map(String::as_str)),
            addresses: if is_current { &[] } else { &placed.addresses },
            uid: None,
        };
        if say == Say::default() {
            return Some(text.clone());
        }
        let said = std::str::from_utf8(bytes).ok().and_then(|text| trimmed(text, ("Pod", "v1"), say).ok());
        Some(said.map_or_else(|| text.clone(), |said| FileText::from(said.into_bytes())))
    }

    /// Where a pod of this node is, if it has a network of its own and that is known.
    fn placed(&self, facts: &PodFacts) -> Option<Placed> {
        let capture = self.capture.as_ref()?;
        let is_here = facts.node.as_deref() == Some(capture.node.as_str());
        if !is_here || facts.host_network {
            return None;
        }
        capture.sandboxes.of(&Sandboxed {
            namespace: &facts.namespace,
            name: &facts.name,
            uid: &facts.uid,
            annotation: facts.netns.as_deref(),
        })
    }
}

#[cfg(test)]
mod tests;
