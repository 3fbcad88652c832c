//! The node's own files beside a control plane: which network namespace each pod of this machine has, only the node knows.
//!
//! Of these files nothing counts but Pods; whatever else is in them must be said to be without effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread,
    time::Duration,
};

use config::{
    finding::{Finding, ObjectRef, Reason, Severity},
    model::Workload,
    name::PodName,
    store::Outcome,
};

use crate::control::{ConfigSource, discovery::client::Event};

/// What the files have become, until it is taken.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Option<Outcome>>);

impl Files {
    /// Follows a source on a thread of its own, until nobody has what this gives. Its end may wait for the source.
    pub(super) fn follow(
        mut source: Box<dyn ConfigSource>,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Arc<Self>> {
        let files = Arc::new(Self::default());
        let known: Weak<Self> = Arc::downgrade(&files);
        let follow = move || {
            loop {
                let outcome = source.next(PATIENCE);
                let Some(files) = known.upgrade() else { return };
                let Some(outcome) = outcome else { continue };
                let before = files.slot().replace(outcome);
                // One hint is as good as many.
                if before.is_none() && events.send(Event::Files).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("files".to_owned()).spawn(follow)?;
        Ok(files)
    }

    /// The newest, if it is new.
    pub(super) fn take(&self) -> Option<Outcome> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pods that are on this machine.
pub(super) fn pods(outcome: &Outcome) -> BTreeMap<PodName, Arc<Workload>> {
    let here = outcome.mesh.workloads.iter().filter(|(_, workload)| workload.netns.is_some());
    here.map(|(name, workload)| (name.clone(), Arc::clone(workload))).collect()
}

/// Of pods, those of which this holds, by what is known of them and by their UIDs.
pub(super) fn those(
    pods: &BTreeMap<PodName, Arc<Workload>>,
    holds: impl Fn(&Workload, &str) -> bool,
) -> BTreeSet<PodName> {
    let holds = |pod: &&Arc<Workload>| pod.uid.as_deref().is_some_and(|uid| holds(pod, uid));
    pods.values().filter(holds).map(|pod| pod.pod.clone()).collect()
}

/// What there is to say of the files: of Pods all, of anything else that it is not read.
pub(super) fn findings(outcome: &Outcome) -> Vec<Finding> {
    // What a Pod refers to is not in files: whether it is there is the control plane's to say.
    let is_ours = |finding: &&Finding| {
        finding.reason != Reason::DanglingReference && finding.object.as_ref().is_none_or(is_pod)
    };
    let mut findings: Vec<Finding> = outcome.findings.iter().filter(is_ours).cloned().collect();
    let others = outcome.standings.iter().map(|standing| &standing.object).filter(|object| !is_pod(object));
    findings.extend(others.map(|object| not_read(outcome, object)));
    findings
}

pub(super) fn is_pod(object: &ObjectRef) -> bool {
    &*object.kind == "Pod"
}

fn not_read(outcome: &Outcome, object: &ObjectRef) -> Finding {
    let written = outcome.basis.written(object);
    let said = outcome.findings.iter().find(|finding| finding.object.as_ref() == Some(object));
    let file =
        written.map(|written| Arc::from(written.file)).or_else(|| said.map(|said| Arc::clone(&said.file)));
    let position = written.map(|written| written.at).or_else(|| said.map(|said| said.position));
    Finding {
        severity: Severity::Warning,
        reason: Reason::NotObeyed,
        file: file.unwrap_or_else(|| Arc::from(Path::new(""))),
        position: position.unwrap_or_default(),
        object: Some(object.clone()),
        field: String::new(),
        message: "not read: with --discovery, only Pods are taken from files; give it to the control plane"
            .to_owned(),
        excerpt: None,
    }
}

/// How long the source is waited for before it is looked whether anybody still listens.
const PATIENCE: Duration = Duration::from_millis(200);
