//! How a pod stands with this daemon, as whoever waits for it is told: a pure decision over what is in force and what is enrolled.
//!
//! A pod is who its UID says: one that is started anew under an old name is another. It must never call a pod enrolled that is enrolled in
//! another sandbox's namespace.

use std::{path::Path, sync::Arc};

use config::{
    finding::ObjectRef,
    model::{Mesh, Workload},
    name::{Namespace, PodName},
    opt_in::{Decision, MODE},
};
use tokio::sync::watch;

use super::mode::Terms;
use crate::{
    control::{
        Status,
        kubernetes::{Note, Notes, Regarding},
    },
    forest::{Enrolments, ForestHandle},
    sys::netns::Netns,
};

/// Whom the gate asks how a pod stands.
pub trait Registry: Send + Sync + std::fmt::Debug + 'static {
    /// How it stands now.
    fn standing(&self, pod: &PodName, uid: &str, netns: &Path) -> Standing;

    /// Whenever that may have changed.
    fn changes(&self) -> watch::Receiver<Enrolments>;

    /// What is in force.
    fn mesh(&self) -> Arc<Mesh>;

    /// Hears that a pod did not pass, and why.
    fn refused(&self, pod: &PodName, uid: &str, why: &str);
}

/// How a pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known of it.
    Unknown,
    /// It is not this daemon's.
    Outside(String),
    /// It is this daemon's, and not enrolled yet; what is in the way, if anything is.
    Waiting(Option<String>),
    /// It is steered and fenced, where it is.
    Enrolled,
}

/// The daemon itself.
#[derive(Debug)]
pub struct Own {
    /// Its cells and trees.
    pub forest: ForestHandle,
    /// What is in force.
    pub status: Arc<Status>,
    /// Where pods' owners are told, in a cluster.
    pub notes: Option<Notes>,
}

impl Registry for Own {
    fn standing(&self, pod: &PodName, uid: &str, netns: &Path) -> Standing {
        let mesh = self.mesh();
        let enrolments = self.forest.enrolments();
        judge(pod, uid, &mesh, &enrolments.borrow(), |path| is_same(path, netns))
    }

    fn changes(&self) -> watch::Receiver<Enrolments> {
        self.forest.enrolments()
    }

    fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.status.in_force().mesh)
    }

    fn refused(&self, pod: &PodName, uid: &str, why: &str) {
        let Some(notes) = &self.notes else { return };
        notes.tell(Note {
            regarding: Regarding { object: ObjectRef::pod(pod), uid: Some(uid.to_owned()) },
            reason: "NotEnrolled",
            action: "Enrol",
            text: format!(
                "no container of the pod starts yet, since it has waited too long for the mesh: {why}"
            ),
            is_warning: true,
            is_perhaps_known: false,
        });
    }
}

/// Whether two paths name one namespace.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || Netns::id_at(one).is_some_and(|id| Netns::id_at(other) == Some(id))
}

/// How a pod stands. `is_there`: whether a path names the namespace that its sandbox has.
fn judge(
    pod: &PodName,
    uid: &str,
    mesh: &Mesh,
    enrolments: &Enrolments,
    is_there: impl Fn(&Path) -> bool,
) -> Standing {
    let is_it = |workload: &Workload| {
        workload.pod == *pod && workload.uid.as_deref().is_none_or(|known| known == uid)
    };
    let is_here = |workload: &Workload| is_it(workload) && workload.netns.as_deref().is_some_and(&is_there);
    if enrolments.planted.iter().any(|workload| is_here(workload)) {
        return Standing::Enrolled;
    }
    if let Some((_, problem)) = enrolments.waiting.iter().find(|(workload, _)| is_here(workload)) {
        return Standing::Waiting(Some(problem.clone()));
    }
    let Some(workload) = mesh.workloads.get(pod).filter(|workload| is_it(workload)) else {
        return Standing::Unknown;
    };
    if workload.netns.is_some() {
        // What is in force has another sandbox of it, or the forest is about to take it up.
        return Standing::Waiting(None);
    }
    let own = workload.labels.get(MODE).map(String::as_str);
    match terms(mesh, &pod.namespace).unwrap_or_default().decide(own, workload.sidecar) {
        Decision::Node if workload.meshed => Standing::Waiting(None),
        // Whoever read what it runs on has refused it.
        Decision::Node => Standing::Outside(
            "it was asked for and cannot be captured, by what it runs on: `canopy status` has the reason"
                .to_owned(),
        ),
        Decision::Sidecar => {
            Standing::Outside("its proxy is a sidecar of its own (canopy.mesh/mode: sidecar)".to_owned())
        }
        Decision::Out(why) => Standing::Outside(why.to_string()),
    }
}

/// What a namespace says of its pods, where it is known.
pub(super) fn terms(mesh: &Mesh, namespace: &Namespace) -> Option<Terms> {
    let facts = mesh.namespaces.get(namespace)?;
    let tenant = mesh.membership.get(namespace).and_then(|tenant| mesh.tenants.get(tenant));
    let kept = tenant.map(|tenant| tenant.kept()).unwrap_or_default();
    Some(Terms::of(|name| facts.labels.get(name).map(String::as_str), kept))
}

#[cfg(test)]
mod tests {
    use config::{
        identity::{Identity, TrustDomain},
        model::NamespaceFacts,
        name::{Name, ServiceAccount, TenantId},
    };

    use super::*;

    fn workload(uid: &str, netns: Option<&str>, mode: Option<&str>) -> Arc<Workload> {
        let namespace = Namespace::try_from("shop").unwrap();
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace.clone(),
            service_account: ServiceAccount::try_from("default").unwrap(),
        };
        let pod = PodName::new(namespace.clone(), Name::try_from("cart").unwrap());
        Arc::new(Workload {
            uid: Some(uid.to_owned()),
            netns: netns.map(Into::into),
            labels: mode.map(|mode| (MODE.to_owned(), mode.to_owned())).into_iter().collect(),
            meshed: true,
            ..Workload::new(pod, TenantId::Namespace(namespace), identity)
        })
    }

    fn mesh(mode: Option<&str>, workloads: &[&Arc<Workload>]) -> Mesh {
        let name = Namespace::try_from("shop").unwrap();
        let labels = mode.map(|mode| (MODE.to_owned(), mode.to_owned())).into_iter().collect();
        Mesh {
            version: 1,
            namespaces: [(name.clone(), Arc::new(NamespaceFacts { name, labels }))].into(),
            workloads: workloads
                .iter()
                .map(|workload| (workload.pod.clone(), Arc::clone(workload)))
                .collect(),
            ..Mesh::default()
        }
    }

    #[test]
    fn a_pod_stands_as_what_is_in_force_and_what_is_enrolled_say_of_its_uid_and_its_namespace() {
        let (here, there) = (workload("u", Some("/ns"), None), workload("u", Some("/old"), None));
        let (bare, other, none) = (workload("u", None, None), workload("v", Some("/ns"), None), Vec::new());
        let (out, labelled, own) = (
            workload("u", None, Some("off")),
            workload("u", None, Some("sidecar")),
            workload("u", None, Some("node")),
        );
        let sidecar = Arc::new(Workload { sidecar: true, ..Workload::clone(&labelled) });
        let refused = Arc::new(Workload { meshed: false, ..Workload::clone(&bare) });
        let planted = |of: &Arc<Workload>| Enrolments {
            version: 1,
            planted: vec![Arc::clone(of)],
            waiting: Vec::new(),
        };
        let stuck = Enrolments {
            version: 1,
            planted: none,
            waiting: vec![(Arc::clone(&here), "no port".to_owned())],
        };
        let nothing = Enrolments::default();
        let (node, off) = (Some("node"), None);
        for (what, mesh, enrolments, expected) in [
            ("enrolled", mesh(node, &[&here]), &planted(&here), "enrolled"),
            ("no longer in the mesh, and enrolled still", mesh(node, &[]), &planted(&here), "enrolled"),
            ("enrolled where it was before", mesh(node, &[&there]), &planted(&there), "waiting"),
            ("another of its name is enrolled", mesh(node, &[&other]), &planted(&other), "unknown"),
            ("stuck", mesh(node, &[&here]), &stuck, "waiting: no port"),
            ("not taken up yet", mesh(node, &[&here]), &nothing, "waiting"),
            ("its sandbox is not known yet", mesh(node, &[&bare]), &nothing, "waiting"),
            ("not known yet", mesh(node, &[]), &nothing, "unknown"),
            ("in a sandbox of its own kernel", mesh(node, &[&refused]), &nothing, "outside"),
            ("not opted in", mesh(off, &[&bare]), &nothing, "outside"),
            ("opted out", mesh(node, &[&out]), &nothing, "outside"),
            ("a sidecar", mesh(node, &[&sidecar]), &nothing, "outside"),
            ("labelled for a sidecar, and has none", mesh(node, &[&labelled]), &nothing, "waiting"),
            ("opted in by itself", mesh(off, &[&own]), &nothing, "waiting"),
        ] {
            let standing = match judge(&here.pod, "u", &mesh, enrolments, |path| path == Path::new("/ns")) {
                Standing::Enrolled => "enrolled".to_owned(),
                Standing::Unknown => "unknown".to_owned(),
                Standing::Outside(_) => "outside".to_owned(),
                Standing::Waiting(None) => "waiting".to_owned(),
                Standing::Waiting(Some(problem)) => format!("waiting: {problem}"),
            };
            assert_eq!(standing, expected, "{what}");
        }
    }

    #[test]
    fn one_namespace_by_two_paths_is_one() {
        assert!(is_same(Path::new("/proc/self/ns/net"), Path::new("/proc/thread-self/ns/net")));
        assert!(!is_same(Path::new("/proc/self/ns/net"), Path::new("/proc/self/ns/mnt")));
        assert!(!is_same(Path::new("/nowhere"), Path::new("/nowhere/else")));
    }
}
