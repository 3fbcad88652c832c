//! What is held of every resource, and who says something of whom.
//!
//! Where several resources are of one name of the model, it must be the same one that counts, in whatever order they came: what
//! stands in for a policy, which is stricter; of pods of several clusters this one's, so that no other cluster decides what a pod of
//! here is; else the first by name, which of a pod begins with its cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use self::owners::Owners;
use super::super::{
    Kind,
    lower::{Bad, Key, Note, Object, names},
};
use crate::name::{ClusterDomain, Name, Namespace, PodName, PolicyName};

mod owners;

/// A resource.
pub(super) type Id = (Kind, Arc<str>);

/// A resource that is of a name of the model, in the order in which they count: whether it is more than a stand-in, and whether it is
/// another cluster's.
type Claim = (bool, bool, Id);

/// What is held of one resource.
#[derive(Debug)]
pub(super) struct Entry {
    /// What is in force of it: as it is now, as it was last when it was good, or what stands in for it.
    pub(super) object: Option<Object>,
    pub(super) is_stand_in: bool,
    /// Why it is not taken as it is now.
    pub(super) rejected: Option<Bad>,
    pub(super) notes: Vec<Note>,
    /// What is somebody's, and not reached.
    pub(super) guarded: Vec<IpAddr>,
}

impl Entry {
    pub(super) fn good(object: Object, notes: Vec<Note>) -> Self {
        Self { object: Some(object), is_stand_in: false, rejected: None, notes, guarded: Vec::new() }
    }

    /// One that is refused: its last good version, else its stand-in.
    pub(super) fn rejected(
        bad: Bad,
        kept: Option<(Object, Vec<Note>)>,
        stand_in: impl FnOnce() -> Option<Object>,
    ) -> Self {
        match kept {
            Some((object, notes)) => Self { rejected: Some(bad), ..Self::good(object, notes) },
            None => {
                let (notes, guarded) = (Vec::new(), Vec::new());
                Self { object: stand_in(), is_stand_in: true, rejected: Some(bad), notes, guarded }
            }
        }
    }

    pub(super) fn last_good(&self) -> Option<(Object, Vec<Note>)> {
        let good = self.object.clone().filter(|_| !self.is_stand_in)?;
        Some((good, self.notes.clone()))
    }

    fn is_remarkable(&self) -> bool {
        self.rejected.is_some() || !self.notes.is_empty()
    }
}

/// What has to be made anew.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) keys: BTreeSet<Key>,
    /// Whose namespaces are whose, and which there are.
    pub(super) tenants: bool,
    /// What is somebody's, and not reached.
    pub(super) guarded: bool,
    /// Addresses that may be another's now.
    pub(super) contested: BTreeSet<IpAddr>,
    /// Resources of which there may be something else to tell.
    pub(super) told: BTreeSet<Id>,
}

impl Dirty {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.tenants && !self.guarded
    }
}

/// All resources.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What the names of Services end in.
    domain: ClusterDomain,
    /// What the names of this cluster's pods begin with.
    own: String,
    entries: BTreeMap<Id, Entry>,
    accepted: BTreeMap<Kind, usize>,
    claims: BTreeMap<Key, BTreeSet<Claim>>,
    /// How many objects are of a namespace.
    namespaces: BTreeMap<Namespace, usize>,
    /// The workloads that say that they are behind a Service, by the name of its resource.
    behind: BTreeMap<String, BTreeSet<Id>>,
    /// The workloads that say that a policy is about them, by the name of its resource.
    naming: BTreeMap<String, BTreeSet<Id>>,
    remarkable: BTreeSet<Id>,
    /// By how many resources each is.
    guarded: BTreeMap<IpAddr, usize>,
    /// Names of the model that several resources are of.
    contended: BTreeSet<Key>,
    owners: Owners,
    /// Services that say that they are reached by what is another owner's.
    dispossessed: BTreeSet<Id>,
}

impl Held {
    pub(super) fn new(domain: ClusterDomain) -> Self {
        Self { domain, ..Self::default() }
    }

    /// Of which cluster this is. To be said before anything is held.
    pub(super) fn be_in(&mut self, cluster: &str) {
        self.own = format!("{cluster}/");
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// How many resources of a type are in force.
    pub(super) fn accepted(&self, kind: Kind) -> usize {
        self.accepted.get(&kind).copied().unwrap_or_default()
    }

    /// Those of which there is something to say.
    pub(super) fn remarkable(&self) -> impl Iterator<Item = (&Id, &Entry)> {
        self.remarkable.iter().filter_map(|id| Some((id, self.entries.get(id)?)))
    }

    /// Those that do not count, each with the one that does.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = (&Id, &Entry, &Id)> {
        self.contended.iter().filter_map(|key| Some((self.first(key)?, self.claims.get(key)?))).flat_map(
            move |(first, claims)| {
                let others = claims.iter().skip(1);
                others.filter_map(move |(_, _, id)| Some((id, self.entries.get(id)?, first)))
            },
        )
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Id, &Entry)> {
        self.entries.iter()
    }

    /// The resource that counts of those of a name of the model.
    pub(super) fn first(&self, key: &Key) -> Option<&Id> {
        self.claims.get(key)?.first().map(|(_, _, id)| id)
    }

    /// What it says.
    pub(super) fn object(&self, key: &Key) -> Option<&Object> {
        self.entries.get(self.first(key)?)?.object.as_ref()
    }

    /// What all say that are of a name of the model.
    pub(super) fn objects(&self, key: &Key) -> impl Iterator<Item = &Object> {
        let claims = self.claims.get(key).into_iter().flatten();
        claims.filter_map(|(_, _, id)| self.entries.get(id)?.object.as_ref())
    }

    /// All Tenants, in the order of their names: those that list namespaces before namespaces by themselves.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Object> {
        self.claims.range(..Key::Kept).filter_map(|(key, _)| self.object(key))
    }

    /// The names of policies that a control plane made up: Istio says so what PeerAuthentications of its own say.
    pub(super) fn made_up(&self) -> impl Iterator<Item = &PolicyName> {
        let least = Name::try_from("0").ok().zip(Namespace::try_from("0").ok());
        let least = least.map(|(name, namespace)| Key::Authorization(PolicyName::new(namespace, name)));
        let keys = least.map(|least| self.claims.range(least..)).into_iter().flatten();
        let policies = keys
            .map_while(|(key, _)| if let Key::Authorization(name) = key { Some((key, name)) } else { None });
        // No object of Kubernetes has such a character in its name.
        policies.filter(|(key, _)| self.first(key).is_some_and(|id| id.1.contains('_'))).map(|(_, name)| name)
    }

    /// The namespaces that anything is of.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.keys()
    }

    /// The pods of a namespace.
    pub(super) fn pods_of(&self, namespace: &Namespace) -> Vec<Key> {
        // No name comes before it.
        let Ok(least) = Name::try_from("0") else { return Vec::new() };
        let least = Key::Workload(PodName::new(namespace.clone(), least));
        let is_of = |key: &&Key| matches!(key, Key::Workload(pod) if pod.namespace == *namespace);
        self.claims.range(least..).map(|(key, _)| key).take_while(is_of).cloned().collect()
    }

    /// The workloads that count of those behind a Service.
    pub(super) fn behind(&self, service: &str) -> impl Iterator<Item = &Object> {
        self.counting(self.behind.get(service))
    }

    /// The workloads that count of those that name a policy.
    pub(super) fn naming(&self, policy: &str) -> impl Iterator<Item = &Object> {
        self.counting(self.naming.get(policy))
    }

    fn counting<'a>(&'a self, ids: Option<&'a BTreeSet<Id>>) -> impl Iterator<Item = &'a Object> {
        ids.into_iter().flatten().filter_map(|id| {
            let object = self.entries.get(id)?.object.as_ref()?;
            (self.first(&object.key()) == Some(id)).then_some(object)
        })
    }

    /// Holds a resource, or holds it no more, and notes what that changes.
    pub(super) fn put(&mut self, id: Id, new: Option<Entry>, dirty: &mut Dirty) {
        let old = self.entries.remove(&id);
        if old.is_none() && new.is_none() {
            return;
        }
        dirty.told.insert(id.clone());
        self.guard(old.as_ref(), new.as_ref(), dirty);
        if new.as_ref().is_some_and(Entry::is_remarkable) {
            self.remarkable.insert(id.clone());
        } else {
            self.remarkable.remove(&id);
        }
        let same = matches!((&old, &new), (Some(old), Some(new)) if old.object == new.object && old.is_stand_in == new.is_stand_in);
        if same {
            // The very object of before: by that others know that nothing changed.
            let object = old.and_then(|old| old.object);
            self.entries.extend(new.map(|new| (id, Entry { object, ..new })));
            return;
        }
        if let Some(Entry { object: Some(object), is_stand_in, .. }) = old {
            self.unlink(&id, &object, is_stand_in, dirty);
        }
        let linked = new.as_ref().and_then(|entry| Some((entry.object.clone()?, entry.is_stand_in)));
        self.entries.extend(new.map(|new| (id.clone(), new)));
        if let Some((object, is_stand_in)) = linked {
            self.link(&id, &object, is_stand_in, dirty);
        }
    }

    /// What is somebody's, and not reached.
    pub(super) fn guarded(&self) -> impl Iterator<Item = IpAddr> {
        self.guarded.keys().copied().chain(self.of_passed_over())
    }

    /// The addresses of those that do not count, as far as the one that does has not got them.
    fn of_passed_over(&self) -> impl Iterator<Item = IpAddr> {
        self.passed_over().flat_map(|(_, entry, first)| {
            let of = |object: Option<&Object>| object.map(Object::addresses).unwrap_or_default().to_vec();
            let first = of(self.entries.get(first).and_then(|entry| entry.object.as_ref()));
            of(entry.object.as_ref()).into_iter().filter(move |address| !first.contains(address))
        })
    }

    fn guard(&mut self, old: Option<&Entry>, new: Option<&Entry>, dirty: &mut Dirty) {
        for address in new.into_iter().flat_map(|entry| &entry.guarded) {
            let count = self.guarded.entry(*address).or_default();
            *count += 1;
            dirty.guarded |= *count == 1;
        }
        for address in old.into_iter().flat_map(|entry| &entry.guarded) {
            let Some(count) = self.guarded.get_mut(address) else { continue };
            *count -= 1;
            if *count == 0 {
                self.guarded.remove(address);
                dirty.guarded = true;
            }
        }
    }

    fn link(&mut self, id: &Id, object: &Object, is_stand_in: bool, dirty: &mut Dirty) {
        let claim = self.claim(id, object, is_stand_in);
        self.claims.entry(object.key()).or_default().insert(claim);
        self.note_contention(&object.key(), dirty);
        if !is_stand_in {
            *self.accepted.entry(id.0).or_default() += 1;
        }
        if let Some(namespace) = object.namespace().filter(|_| !is_stand_in) {
            let count = self.namespaces.entry(namespace.clone()).or_default();
            *count += 1;
            dirty.tenants |= *count == 1;
        }
        if let Object::Workload(held) = object {
            for service in held.services.keys() {
                self.behind.entry(service.clone()).or_default().insert(id.clone());
            }
            for policy in &held.policies {
                self.naming.entry(policy.clone()).or_default().insert(id.clone());
            }
        }
        self.owners.enter(id, object, &mut dirty.contested);
        self.touch(object, dirty);
    }

    fn unlink(&mut self, id: &Id, object: &Object, is_stand_in: bool, dirty: &mut Dirty) {
        self.touch(object, dirty);
        self.owners.leave(id, object, &mut dirty.contested);
        self.dispossessed.remove(id);
        let claim = self.claim(id, object, is_stand_in);
        take_out(&mut self.claims, &object.key(), &claim);
        self.note_contention(&object.key(), dirty);
        if let Some(count) = self.accepted.get_mut(&id.0).filter(|_| !is_stand_in) {
            *count -= 1;
        }
        if let Some(namespace) = object.namespace().filter(|_| !is_stand_in)
            && let Some(count) = self.namespaces.get_mut(namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(namespace);
                dirty.tenants = true;
            }
        }
        if let Object::Workload(held) = object {
            held.services.keys().for_each(|service| take_out(&mut self.behind, service, id));
            held.policies.iter().for_each(|policy| take_out(&mut self.naming, policy, id));
        }
    }

    fn claim(&self, id: &Id, object: &Object, is_stand_in: bool) -> Claim {
        let is_others = matches!(object, Object::Workload(_)) && !id.1.starts_with(&self.own);
        (!is_stand_in, is_others, id.clone())
    }

    fn note_contention(&mut self, key: &Key, dirty: &mut Dirty) {
        let is_contended = self.claims.get(key).is_some_and(|claims| claims.len() > 1);
        dirty.guarded |= is_contended || self.contended.contains(key);
        if is_contended && !matches!(key, Key::Kept | Key::NetworkEverywhere) {
            self.contended.insert(key.clone());
        } else {
            self.contended.remove(key);
        }
    }

    /// Notes what an object is part of; of pods of one name, what each of them is part of, since another of them may count now.
    fn touch(&self, object: &Object, dirty: &mut Dirty) {
        let key = object.key();
        dirty.tenants |= matches!(key, Key::Tenant(_) | Key::Kept | Key::Namespace(_));
        let pods = self.objects(&key).chain([object]).filter_map(|object| match object {
            Object::Workload(held) => Some(held),
            _ => None,
        });
        for held in pods {
            let services = held.services.keys().filter_map(|name| names::service(name, &self.domain).ok());
            dirty.keys.extend(services.map(Key::Service));
            let policies = held.policies.iter().filter_map(|name| names::policy(name).ok());
            dirty.keys.extend(policies.map(Key::Authorization));
        }
        dirty.keys.insert(key);
    }
}

fn take_out<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
