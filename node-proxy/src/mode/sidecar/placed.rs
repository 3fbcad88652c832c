//! A source around another one, in which one pod is on this machine and no other: what a sidecar reads of manifests.
//!
//! A pod that manifests do not name any more is still there: the sidecar ends with it, and not by an edit.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::{
    model::{Mesh, Workload},
    name::PodName,
    store::{Outcome, Rejected},
};

use super::shared;
use crate::control::ConfigSource;

/// See above.
#[derive(Debug)]
pub(super) struct Placed {
    source: Box<dyn ConfigSource>,
    pod: PodName,
    netns: PathBuf,
    known: Option<Arc<Workload>>,
    is_missed: bool,
}

impl Placed {
    pub(super) fn new(source: Box<dyn ConfigSource>, pod: PodName, netns: PathBuf) -> Self {
        Self { source, pod, netns, known: None, is_missed: false }
    }

    /// The mesh, seen from within the pod.
    fn seen(&mut self, mesh: &Mesh) -> Mesh {
        let mut mesh = mesh.clone();
        for workload in mesh.workloads.values_mut().filter(|workload| workload.netns.is_some()) {
            // Somebody else's to carry.
            *workload = Arc::new(Workload { netns: None, ..Workload::clone(workload) });
        }
        if let Some(own) = mesh.workloads.get(&self.pod) {
            let own = Workload { netns: Some(self.netns.clone()), ..Workload::clone(own) };
            self.say(&own);
            self.known = Some(shared(own, self.known.as_ref()));
        } else {
            self.miss();
        }
        mesh.workloads.extend(self.known.iter().map(|known| (self.pod.clone(), Arc::clone(known))));
        mesh
    }

    fn say(&mut self, own: &Workload) {
        let is_news = self.known.as_ref().is_none_or(|known| known.meshed != own.meshed);
        if is_news && !own.meshed {
            tracing::warn!(
                pod = %self.pod,
                "others reach the pod in plaintext: label it, or its namespace, canopy.mesh/mode: sidecar"
            );
        }
        self.is_missed = false;
    }

    fn miss(&mut self) {
        if std::mem::replace(&mut self.is_missed, true) {
            return;
        }
        let pod = &self.pod;
        match self.known {
            None => {
                tracing::warn!(%pod, "no Pod of this name is known yet, or it has no address: it is not carried until one is")
            }
            Some(_) => {
                tracing::warn!(%pod, "the Pod is not known any more: it is carried as it was known last")
            }
        }
    }
}

impl ConfigSource for Placed {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let mut outcome = self.source.next(patience)?;
        outcome.mesh = Arc::new(self.seen(&outcome.mesh));
        // Of pods that are not in the mesh none is here but the own: what was left closed stays so until it is carried.
        outcome.rejected = Rejected { netns: [self.netns.clone()].into(), may_be_more: false };
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::store::{FileText, Options, Store};

    use super::*;

    /// Says what it is given, one after the other.
    #[derive(Debug)]
    struct Said(Store, Vec<String>);

    impl ConfigSource for Said {
        fn next(&mut self, _patience: Duration) -> Option<Outcome> {
            let text = self.1.pop()?;
            Some(self.0.apply(&[(Path::new("all.yaml").to_owned(), FileText::from(&*text))].into()))
        }
    }

    fn pod(name: &str, annotation: &str, address: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{canopy.mesh/mode: sidecar}}, annotations: {{{annotation}}}}}\n\
             spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n---\n"
        )
    }

    fn placed(mut texts: Vec<String>) -> Placed {
        texts.reverse();
        let own = PodName::new("shop".try_into().unwrap(), "web".try_into().unwrap());
        Placed::new(Box::new(Said(Store::new(Options::default()), texts)), own, PathBuf::from("/own"))
    }

    fn here(source: &mut Placed) -> Vec<(String, Option<PathBuf>)> {
        let outcome = source.next(Duration::ZERO).unwrap();
        outcome.mesh.workloads.values().map(|one| (one.pod.to_string(), one.netns.clone())).collect()
    }

    #[test]
    fn its_own_pod_is_here_and_no_other_is_whatever_annotations_say() {
        let others = pod("cart", "canopy.mesh/netns: /run/netns/cart", "10.0.0.2");
        let mut source = placed(vec![pod("web", "", "10.0.0.1") + &others]);
        assert_eq!(
            here(&mut source),
            [("shop/cart".to_owned(), None), ("shop/web".to_owned(), Some("/own".into()))]
        );
    }

    #[test]
    fn its_own_pod_stays_when_manifests_do_not_name_it_any_more_and_is_the_very_same_when_others_change() {
        let (own, other) = (pod("web", "", "10.0.0.1"), pod("cart", "", "10.0.0.2"));
        let mut source = placed(vec![own.clone(), own + &other, other]);
        let mut workload = || {
            let mesh = source.next(Duration::ZERO).unwrap().mesh;
            Arc::clone(mesh.workloads.values().find(|one| one.netns.is_some()).unwrap())
        };
        let (first, second, third) = (workload(), workload(), workload());
        assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &third));
    }
}
