//! What the owners of this node's pods are told in the cluster, as Events of the pods: what their tenants are told here, and which pods
//! are not carried.
//!
//! Each second it is looked what is new. What becomes of objects, the control plane tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use config::{finding::ObjectRef, model::Workload, name::PodName};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    control::{
        Status,
        kubernetes::{Access, KubernetesError, Note, Notes, Regarding, Reporter},
    },
    forest::{Enrolments, ForestHandle},
    mode::Manifests,
    telemetry::events::LeftOut,
    tenancy::{Event, events::Kind},
};

/// Pods that are not carried as they were to be, each with the reason of its Event and why.
type Otherwise = BTreeMap<ObjectRef, (&'static str, String)>;

/// What was looked at already.
#[derive(Debug, Default)]
struct Seen {
    /// The last event.
    last: u64,
    waiting: BTreeSet<PodName>,
    otherwise: Otherwise,
    /// Whether anything was looked at yet.
    has_looked: bool,
}

/// Where owners are told, if that is a cluster that can be asked. Within an event loop.
pub(super) async fn notes(manifests: &Manifests, node: &str, left_out: Arc<LeftOut>) -> Option<Notes> {
    let Manifests::Kubernetes(access) = manifests else { return None };
    let started = start(access, node, left_out).await;
    started.inspect_err(|error| tracing::warn!(%error, "owners of pods are not told by Events")).ok()
}

async fn start(access: &Access, node: &str, left_out: Arc<LeftOut>) -> Result<Notes, KubernetesError> {
    let reporter = Reporter { controller: CONTROLLER, instance: node.to_owned() };
    Notes::start(access, reporter, left_out).await
}

/// Tells them, for as long as it is polled.
pub(super) async fn follow(forest: ForestHandle, status: Arc<Status>, node: String, notes: Notes) {
    let mut seen = Seen::default();
    let enrolments = forest.enrolments();
    let mut look = interval(EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let events = forest.events(seen.last, None).events;
        notes.unwritten().iter().for_each(|object| seen.missed(object));
        let all = {
            let enrolments = enrolments.borrow();
            seen.look((&events, status.otherwise()), &enrolments, &node)
        };
        for note in all {
            // What has happened, nobody tells again.
            if note.action != STATE {
                notes.tell(note);
                continue;
            }
            let object = note.regarding.object.clone();
            if !notes.offer(note) {
                seen.missed(&object);
            }
        }
    }
}

impl Seen {
    /// What is new of events, of pods that are not carried as they were to be, and of those that wait.
    fn look(
        &mut self,
        (events, otherwise): (&[Event], Otherwise),
        enrolments: &Enrolments,
        node: &str,
    ) -> Vec<Note> {
        let mut notes: Vec<Note> =
            events.iter().flat_map(|event| of_tenant(event, &enrolments.planted, node)).collect();
        self.last = events.last().map_or(self.last, |event| event.number);
        for (workload, problem) in &enrolments.waiting {
            if !self.waiting.contains(&workload.pod) {
                let text = format!("not served by the mesh yet: {problem}");
                notes.push(self.of_pod(regarding(workload), "NotServed", text));
            }
        }
        for (object, told) in &otherwise {
            if self.otherwise.get(object) != Some(told) {
                notes.push(self.of_pod(Regarding::named(object.clone()), told.0, told.1.clone()));
            }
        }
        self.waiting = enrolments.waiting.iter().map(|(workload, _)| workload.pod.clone()).collect();
        self.otherwise = otherwise;
        self.has_looked = true;
        notes
    }

    /// A pod's owner was not told. He is at the next look, if it is still so.
    fn missed(&mut self, object: &ObjectRef) {
        self.waiting.retain(|pod| ObjectRef::pod(pod) != *object);
        self.otherwise.remove(object);
    }

    fn of_pod(&self, regarding: Regarding, reason: &'static str, text: String) -> Note {
        let is_perhaps_known = !self.has_looked;
        Note { regarding, reason, action: STATE, text, is_warning: true, is_perhaps_known }
    }
}

/// What a tenant is told, told of its pods here.
fn of_tenant(event: &Event, planted: &[Arc<Workload>], node: &str) -> Vec<Note> {
    let (reason, is_warning) = match (event.kind, &event.reason) {
        (Kind::Cell, _) => ("TenantCell", true),
        (Kind::Budget, _) => ("TenantBudget", true),
        (Kind::Node, Some(_)) => ("NodeBound", true),
        (Kind::Node, None) => ("NodeDaemon", false),
        // Those of its pods are told of each, and those of its objects by the control plane.
        (Kind::Workload | Kind::Configuration, _) => return Vec::new(),
    };
    let its = planted.iter().filter(|workload| workload.tenant.to_string() == event.tenant);
    let note = |workload: &Arc<Workload>| Note {
        regarding: regarding(workload),
        reason,
        action: EVENT,
        text: format!("{} (tenant {}, node {node})", event.what, event.tenant),
        is_warning,
        is_perhaps_known: false,
    };
    its.take(PODS).map(note).collect()
}

fn regarding(workload: &Workload) -> Regarding {
    Regarding { object: ObjectRef::pod(&workload.pod), uid: workload.uid.clone() }
}

/// What was being done when something is as it is, and when something happened.
const STATE: &str = "Enrol";
const EVENT: &str = "Serve";
/// Who tells.
const CONTROLLER: &str = "canopy.mesh/node";
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Pods of a tenant that are told of one event: its owner is told, not each replica.
const PODS: usize = 8;

#[cfg(test)]
mod tests {
    use config::{
        identity::{Identity, TrustDomain},
        name::{Name, Namespace, ServiceAccount, TenantId},
    };

    use super::*;

    fn workload(tenant: &str, name: &str) -> Arc<Workload> {
        let namespace = Namespace::try_from(tenant).unwrap();
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace.clone(),
            service_account: ServiceAccount::try_from("default").unwrap(),
        };
        let pod = PodName::new(namespace, Name::try_from(name).unwrap());
        let tenant = TenantId::Tenant(Name::try_from(tenant).unwrap());
        Arc::new(Workload { uid: Some(format!("uid-{name}")), ..Workload::new(pod, tenant, identity) })
    }

    fn event(number: u64, kind: Kind, reason: Option<&str>) -> Event {
        let (what, tenant) = ("your cell panicked".to_owned(), "shop".to_owned());
        let reason = reason.map(str::to_owned);
        Event { number, at: 0.0, tenant, kind, what, reason, count: None }
    }

    fn told(notes: &[Note]) -> Vec<String> {
        let told = notes.iter().map(|note| format!("{} {}", note.regarding.object.name, note.reason));
        told.collect()
    }

    #[test]
    fn what_a_tenant_is_told_is_told_of_its_pods_on_this_node_and_of_nobody_elses() {
        let planted = vec![workload("shop", "cart"), workload("bank", "till"), workload("shop", "web")];
        let enrolments = Enrolments { version: 1, planted, waiting: Vec::new() };
        let mut seen = Seen::default();
        let events = [
            event(1, Kind::Cell, None),
            event(2, Kind::Configuration, None),
            event(3, Kind::Node, Some("tunnel_limit")),
        ];
        let notes = seen.look((&events, BTreeMap::new()), &enrolments, "n1");
        assert_eq!(told(&notes), ["cart TenantCell", "web TenantCell", "cart NodeBound", "web NodeBound"]);
        assert_eq!(notes[0].text, "your cell panicked (tenant shop, node n1)");
        assert_eq!(notes[0].regarding.uid.as_deref(), Some("uid-cart"));
        assert_eq!(seen.last, 3, "the next look asks for later ones");
    }

    #[test]
    fn of_a_tenant_with_many_pods_some_are_told() {
        let planted = (0..50).map(|number| workload("shop", &format!("cart-{number}"))).collect();
        let enrolments = Enrolments { version: 1, planted, waiting: Vec::new() };
        let notes =
            Seen::default().look((&[event(1, Kind::Budget, None)], BTreeMap::new()), &enrolments, "n1");
        assert_eq!(notes.len(), PODS);
    }

    #[test]
    fn a_pod_that_waits_or_is_not_carried_as_it_was_to_be_is_told_of_once() {
        let waiting = vec![(workload("shop", "cart"), "no port".to_owned())];
        let enrolments = Enrolments { version: 1, planted: Vec::new(), waiting };
        let sandboxed = || {
            let pod = |name: &str| ObjectRef::new("Pod", Some("shop"), name);
            let (safe, bare) = (("NotCaptured", "gVisor".to_owned()), ("NoSidecar", "has none".to_owned()));
            BTreeMap::from([(pod("safe"), safe), (pod("bare"), bare)])
        };
        let mut seen = Seen::default();
        assert_eq!(
            told(&seen.look((&[], sandboxed()), &enrolments, "n1")),
            ["cart NotServed", "bare NoSidecar", "safe NotCaptured"]
        );
        assert!(seen.look((&[], sandboxed()), &enrolments, "n1").is_empty());
        assert!(seen.look((&[], BTreeMap::new()), &Enrolments::default(), "n1").is_empty());
        let again = seen.look((&[], sandboxed()), &enrolments, "n1");
        assert_eq!(told(&again), ["cart NotServed", "bare NoSidecar", "safe NotCaptured"]);
        assert!(again.iter().all(|note| !note.is_perhaps_known));
        for note in &again {
            seen.missed(&note.regarding.object);
        }
        let later = seen.look((&[], sandboxed()), &Enrolments::default(), "n1");
        assert_eq!(
            told(&later),
            ["bare NoSidecar", "safe NotCaptured"],
            "who was not told is told, if it is still so"
        );
        assert!(seen.look((&[], sandboxed()), &Enrolments::default(), "n1").is_empty());
    }
}
