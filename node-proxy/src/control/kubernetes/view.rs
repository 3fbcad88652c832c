//! From the objects of a cluster to the files that the store reads: each object is one, and of pods it is said what only a node, or
//! who reads RuntimeClasses, knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use config::{
    name::NodeName,
    opt_in::{self, Asked, Decision, NETNS, RUNTIME_HANDLER, Runtime, Why},
    store::FileText,
};

use super::{
    ledger::Pending,
    object::{Facts, Object, PodFacts, trimmed},
    sandboxes::{Sandboxed, Sandboxes},
};

/// How the pods of this node are found.
#[derive(Debug)]
pub struct Capture {
    /// This node.
    pub node: NodeName,
    /// Who knows where their network namespaces are.
    pub sandboxes: Box<dyn Sandboxes>,
    /// Whether nothing but them is given: all else comes from a control plane.
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
    /// The mode of each namespace that has one.
    modes: BTreeMap<String, String>,
    /// The handler of each RuntimeClass.
    handlers: BTreeMap<String, String>,
    /// The UIDs of pods of which it was said that they cannot be captured.
    refused: BTreeSet<String>,
}

impl View {
    pub(super) fn new(capture: Option<Capture>) -> Self {
        Self {
            capture,
            files: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_uid: BTreeMap::new(),
            modes: BTreeMap::new(),
            handlers: BTreeMap::new(),
            refused: BTreeSet::new(),
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
                Some("Namespace") => {
                    pods.extend(self.namespace(&file, object.as_ref()));
                    if !self.is_alone() {
                        is_changed |= self.put(file, object.map(|object| object.text));
                    }
                }
                _ => is_changed |= self.put(file, object.map(|object| object.text)),
            }
        }
        for file in pods {
            let shown = self.pods.get(&file).cloned().and_then(|(facts, text)| self.shown(&facts, text));
            is_changed |= self.put(file, shown);
        }
        is_changed
    }

    fn is_alone(&self) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.alone)
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
            self.refused.remove(&before.uid);
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

    /// Its pods, if its mode is another.
    fn namespace(&mut self, file: &Path, object: Option<&Object>) -> Vec<PathBuf> {
        let Some(name) = file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
            return Vec::new();
        };
        let mode = object.and_then(|object| match &object.facts {
            Facts::Namespace { mode, .. } => mode.clone(),
            _ => None,
        });
        let before = match mode.clone() {
            Some(mode) => self.modes.insert(name.clone(), mode),
            None => self.modes.remove(&name),
        };
        if before == mode {
            return Vec::new();
        }
        let folder = Path::new("Pod").join(&name);
        let from = self.pods.range(folder.clone()..);
        from.take_while(|(file, _)| file.starts_with(&folder)).map(|(file, _)| file.clone()).collect()
    }

    /// A pod as its file says it; `None` if nothing is to be said of it.
    fn shown(&mut self, facts: &PodFacts, text: FileText) -> Option<FileText> {
        if !facts.address {
            // Every pod begins so, and nobody is to be told: it is no workload yet.
            return None;
        }
        let handler = facts.runtime_class.as_ref().and_then(|class| self.handlers.get(class)).cloned();
        let netns = self.netns(facts, handler.as_deref());
        if netns.is_none() && self.is_alone() {
            return None;
        }
        let netns = netns.as_ref().and_then(|netns| netns.to_str()).map(|netns| (NETNS, netns));
        let handler = handler.as_deref().map(|handler| (RUNTIME_HANDLER, handler));
        let say: Vec<_> = netns.into_iter().chain(handler).collect();
        let FileText::Bytes(bytes) = &text else { return Some(text) };
        if say.is_empty() {
            return Some(text);
        }
        let said = std::str::from_utf8(bytes).ok().and_then(|text| trimmed(text, ("Pod", "v1"), &say).ok());
        Some(said.map_or(text, |said| FileText::from(said.into_bytes())))
    }

    /// Where a pod is captured, if it is, and here.
    fn netns(&mut self, facts: &PodFacts, handler: Option<&str>) -> Option<PathBuf> {
        let capture = self.capture.as_ref()?;
        if facts.node.as_deref() != Some(capture.node.as_str()) {
            return None;
        }
        let decision = opt_in::decide(&Asked {
            namespace: self.modes.get(&facts.namespace).map(String::as_str),
            pod: facts.mode.as_deref(),
            host_network: facts.host_network,
            phase: facts.phase.as_deref(),
            runtime: Runtime { class: facts.runtime_class.as_deref(), handler, overhead: facts.overhead },
        });
        if let Decision::Out(why @ Why::Sandboxed(_)) = decision
            && self.refused.insert(facts.uid.clone())
        {
            let pod = format!("{}/{}", facts.namespace, facts.name);
            tracing::warn!(pod, %why, "the pod is not captured, and so out of the mesh");
        }
        if decision != Decision::Node {
            return None;
        }
        capture.sandboxes.netns(&Sandboxed {
            namespace: &facts.namespace,
            name: &facts.name,
            uid: &facts.uid,
            annotation: facts.netns.as_deref(),
        })
    }
}

#[cfg(test)]
mod tests;
