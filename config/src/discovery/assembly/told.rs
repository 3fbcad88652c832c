//! What is told about resources: findings, and what became of each object.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use super::{
    super::{
        Kind,
        lower::{Key, Note, Object, names},
    },
    held::{Dirty, Entry, Held, Id},
};
use crate::{
    condition::{InForce, Standing, conditions},
    document::shorten_line,
    finding::{Finding, ObjectRef, Position, Reason, Severity},
    link::stand_ins::takes,
    model::{Mesh, Workload},
    name::{Namespace, PodName, PolicyName, TenantId},
    store::standing::{owner, route},
};

/// Standings of before, so that only what changed is told anew.
#[derive(Debug, Default)]
pub(super) struct Told {
    by_id: BTreeMap<Id, Arc<Standing>>,
    all: Arc<[Arc<Standing>]>,
}

impl Told {
    /// What became of each object.
    pub(super) fn standings(&mut self, held: &Held, mesh: &Mesh, dirty: &Dirty) -> Arc<[Arc<Standing>]> {
        let mut changed = false;
        let mut renew = |id: &Id, entry: Option<&Entry>| {
            let now = entry.and_then(|entry| standing(held, id, entry, mesh));
            if self.by_id.get(id).map(|known| &**known) != now.as_ref() {
                changed = true;
                match now {
                    Some(now) => drop(self.by_id.insert(id.clone(), Arc::new(now))),
                    None => drop(self.by_id.remove(id)),
                }
            }
        };
        dirty.told.iter().for_each(|id| renew(id, held.get(id)));
        if dirty.tenants {
            // Whose a namespace is may have changed.
            held.all().for_each(|(id, entry)| renew(id, Some(entry)));
        }
        if changed {
            let mut all: Vec<Arc<Standing>> = self.by_id.values().cloned().collect();
            all.sort_by(|one, other| one.object.cmp(&other.object));
            self.all = all.into();
        }
        Arc::clone(&self.all)
    }
}

fn standing(held: &Held, id: &Id, entry: &Entry, mesh: &Mesh) -> Option<Standing> {
    let in_force = match (&entry.object, &entry.rejected) {
        (Some(object), None) if has_lost_all(held, object) => InForce::Nothing,
        (Some(_), Some(_)) if entry.is_stand_in => InForce::StandIn,
        (Some(_), Some(_)) => InForce::Earlier,
        (Some(_), None) => InForce::This,
        (None, _) => InForce::Nothing,
    };
    let is_pod = matches!(entry.object, Some(Object::Workload(_)));
    let is_no_object = id.0 == Kind::Tenant && id.1.starts_with("ns/");
    if entry.rejected.is_none() && (is_pod || is_no_object) {
        return None;
    }
    let object = object_ref(id, entry);
    let found = of_entry(held, id, entry);
    let found: Vec<&Finding> = found.iter().collect();
    let conditions = conditions(&object.kind, in_force, &found, route(mesh, &object));
    Some(Standing { tenant: owner(mesh, &object), observed_generation: None, conditions, object })
}

/// Everything there is to say of resources.
pub(super) fn findings(held: &Held) -> Vec<Finding> {
    let passed_over = held.passed_over().map(|(id, entry, first)| {
        let message = format!(
            "not in force, since {} is the same object: have the control plane send one of them",
            shorten_line(&first.1)
        );
        finding(id, &object_ref(id, entry), (Severity::Rejected, Reason::Conflict), message)
    });
    let all: BTreeMap<&Id, &Entry> = held.remarkable().chain(held.dispossessed()).collect();
    all.into_iter().flat_map(|(id, entry)| of_entry(held, id, entry)).chain(passed_over).collect()
}

/// Whether a Service is reached by none of its addresses, as all are others'.
fn has_lost_all(held: &Held, object: &Object) -> bool {
    let lost = held.lost(object).count();
    lost > 0 && lost == object.addresses().len()
}

/// What is said of a Service that names addresses of another owner.
fn of_lost(held: &Held, id: &Id, entry: &Entry) -> Vec<Finding> {
    let Some(object) = &entry.object else { return Vec::new() };
    let tell = |(address, owner): (IpAddr, &Id)| {
        let owner = held.get(owner).map_or_else(String::new, |entry| object_ref(owner, entry).to_string());
        let message = format!(
            "not reached by {address}, which belongs to {owner}: give each pod and Service an address of its own"
        );
        finding(id, &object_ref(id, entry), (Severity::Rejected, Reason::Conflict), message)
    };
    held.lost(object).map(tell).collect()
}

fn of_entry(held: &Held, id: &Id, entry: &Entry) -> Vec<Finding> {
    let object = object_ref(id, entry);
    let note = |Note { severity, reason, message }: &Note| {
        finding(id, &object, (*severity, *reason), message.clone())
    };
    let mut found: Vec<Finding> = entry.notes.iter().map(note).collect();
    found.extend(of_lost(held, id, entry));
    let Some(bad) = &entry.rejected else { return found };
    found.insert(0, finding(id, &object, (Severity::Rejected, bad.reason), bad.message.clone()));
    match &entry.object {
        Some(stand_in) if entry.is_stand_in => {
            let message = format!(
                "cannot be read, and no good version is known: {} until this is mended",
                does(stand_in)
            );
            found.push(finding(id, &object, (Severity::Warning, Reason::StoodIn), message));
        }
        Some(_) => {
            let message = "kept last good version: it stays in force until this is mended".to_owned();
            found.push(finding(id, &object, (Severity::Warning, Reason::KeptLastGood), message));
        }
        None => {}
    }
    found
}

fn does(stand_in: &Object) -> String {
    let past = |of: &str| format!("no short cut is taken past the network to and from pods of {of}");
    match stand_in {
        Object::Authorization(policy) => format!("{} no connection", takes(&policy.scope)),
        Object::Peer(peers) => format!("{} no plaintext", takes(&peers.scope)),
        Object::Network(policy) => past(&format!("namespace {}", policy.name.namespace)),
        Object::NetworkEverywhere => past("any namespace"),
        Object::Kept(Some(namespaces)) => {
            let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
            format!("pods of namespace {} are kept to the mesh", names.join(", "))
        }
        _ => "pods of namespaces that no Tenant lists are kept to the mesh".to_owned(),
    }
}

/// A pod of this machine of which no resource tells.
pub(super) fn unknown(workload: &Workload) -> Finding {
    let message = "is on this node, and the control plane does not tell of it: it is not in the mesh, and its connections are held. \
                   Have the control plane tell of it";
    of_pod(&workload.pod, (Severity::Warning, Reason::DanglingReference), message.to_owned())
}

/// A port that is captured although a pod asks to leave it alone.
pub(super) fn closed(pod: &PodName, port: u16, by: &PolicyName) -> Finding {
    let message = format!(
        "not obeyed for port {port}, since {by} takes no plaintext there: it is captured like any other. Have \
         portLevelMtls say PERMISSIVE for it, or remove it from the pod"
    );
    of_pod(pod, (Severity::Warning, Reason::NotPermitted), message)
}

fn of_pod(pod: &PodName, why: (Severity, Reason), message: String) -> Finding {
    finding(&(Kind::Address, Arc::from(pod.to_string())), &ObjectRef::pod(pod), why, message)
}

fn finding(id: &Id, object: &ObjectRef, (severity, reason): (Severity, Reason), message: String) -> Finding {
    let path = format!("discovery/{:?}/{}", id.0, shorten_line(&id.1));
    Finding {
        severity,
        reason,
        file: Arc::from(Path::new(&path)),
        position: Position { line: 1, column: 1 },
        object: Some(object.clone()),
        field: String::new(),
        message,
        excerpt: None,
    }
}

/// The object that a resource is, as far as its name tells.
fn object_ref(id: &Id, entry: &Entry) -> ObjectRef {
    let (kind, name) = (id.0, &*id.1);
    let key = entry.object.as_ref().filter(|_| !entry.is_stand_in).map(Object::key);
    match key {
        Some(Key::Workload(pod)) => return ObjectRef::pod(&pod),
        Some(Key::Service(service)) => {
            return ObjectRef::new("Service", Some(service.namespace.as_str()), service.name.as_str());
        }
        _ => {}
    }
    let pair = |kind: &str| match name.split_once('/') {
        Some((namespace, name)) => ObjectRef::new(kind, Some(&shorten_line(namespace)), &shorten_line(name)),
        None => ObjectRef::new(kind, None, &shorten_line(name)),
    };
    match kind {
        Kind::Tenant => match names::tenant(name) {
            Ok(TenantId::Tenant(name)) => ObjectRef::new("Tenant", None, name.as_str()),
            Ok(TenantId::Namespace(name)) => ObjectRef::new("Namespace", None, name.as_str()),
            Err(_) => ObjectRef::new("Tenant", None, &shorten_line(name)),
        },
        Kind::Namespace => ObjectRef::new("Namespace", None, &shorten_line(name)),
        Kind::Address => match names::workload(name) {
            Ok((pod, _)) => ObjectRef::pod(&pod),
            Err(_) => pair("Service"),
        },
        Kind::Authorization => pair("AuthorizationPolicy"),
        Kind::PeerAuthentication => pair("PeerAuthentication"),
        Kind::NetworkPolicy => pair("NetworkPolicy"),
        Kind::ServiceEntry => pair("ServiceEntry"),
        Kind::Route => match names::route(name) {
            Ok(route) => {
                ObjectRef::new(route.kind.as_str(), Some(route.namespace.as_str()), route.name.as_str())
            }
            Err(_) => pair("HTTPRoute"),
        },
    }
}
