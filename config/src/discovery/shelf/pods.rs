//! Pods by name, each with what Services say of it and the policies it has to name.
//!
//! The only resources that not everybody is told alike: what only a pod's own node may know must be in no other body.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use prost::Message;

use crate::{
    discovery::{
        Site,
        hash::Version,
        raise::{
            service::{Behind, PortOf},
            workload::raise,
        },
    },
    model::Workload,
    part,
};

/// Pods by name.
#[derive(Debug, Default)]
pub(super) struct Pods {
    slots: BTreeMap<Arc<str>, Slot>,
    /// Those of which something is another than before.
    touched: BTreeSet<Arc<str>>,
}

/// To whom a pod is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    ToItsNode,
    ToOthers,
}

/// Boxes and no vectors: there may be a million of them.
#[derive(Debug, Default)]
struct Slot {
    /// `None` while only Services know of it: it is no resource.
    pod: Option<Arc<Workload>>,
    /// In the order of the Services' names.
    services: Box<[Behind]>,
    /// In order.
    policies: Box<[Arc<str>]>,
    /// `None` if it was no resource when versions were made last.
    versions: Option<Versions>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Versions {
    own: Version,
    others: Version,
}

impl Pods {
    /// Puts a pod in the place of the one of its name, or takes that away. Gives the name.
    pub(super) fn put(
        &mut self,
        uid: &str,
        pod: Option<Arc<Workload>>,
        policies: Box<[Arc<str>]>,
    ) -> Arc<str> {
        let (name, slot) = self.touch(uid);
        slot.pod = pod;
        slot.policies = policies;
        name
    }

    /// Puts what a Service says of a pod, whether the pod is there yet or not.
    pub(super) fn put_behind(&mut self, uid: &str, service: &Arc<str>, ports: Option<&Arc<[PortOf]>>) {
        let (_, slot) = self.touch(uid);
        let mut services = std::mem::take(&mut slot.services).into_vec();
        let place = services.binary_search_by(|behind| behind.service.cmp(service));
        let new = ports.map(|ports| Behind { service: Arc::clone(service), ports: Arc::clone(ports) });
        match (place, new) {
            (Ok(place), Some(new)) => services[place] = new,
            (Ok(place), None) => {
                services.remove(place);
            }
            (Err(place), Some(new)) => services.insert(place, new),
            (Err(_), None) => {}
        }
        slot.services = services.into();
    }

    /// Has the pods whose names begin so name a policy that is about them, and no others of those.
    pub(super) fn put_policy(
        &mut self,
        begin: Option<&str>,
        policy: &Arc<str>,
        is_about: impl Fn(&Workload) -> bool,
    ) {
        let begin = begin.unwrap_or_default();
        let from = (Bound::Included(begin), Bound::Unbounded);
        let there = self.slots.range_mut::<str, _>(from).take_while(|(name, _)| name.starts_with(begin));
        for (name, slot) in there {
            let is_about = slot.pod.as_ref().is_some_and(|pod| is_about(pod));
            let place = slot.policies.binary_search(policy);
            if is_about == place.is_ok() {
                continue;
            }
            let mut policies = std::mem::take(&mut slot.policies).into_vec();
            match place {
                Ok(place) => drop(policies.remove(place)),
                Err(place) => policies.insert(place, Arc::clone(policy)),
            }
            slot.policies = policies.into();
            self.touched.insert(Arc::clone(name));
        }
    }

    /// Makes versions of what was touched, and gives the names of what says something else.
    pub(super) fn settle(&mut self, site: &Site) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            let versions = slot.make_versions(site, &name);
            let differs = slot.versions != versions;
            slot.versions = versions;
            if slot.pod.is_none() && slot.services.is_empty() {
                self.slots.remove(&name);
            }
            if differs {
                changed.push(name);
            }
        }
        changed
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.slots.iter().filter(|(_, slot)| slot.pod.is_some()).map(|(name, _)| name)
    }

    /// A name as it is shared, if there is such a pod.
    pub(super) fn name(&self, name: &str) -> Option<&Arc<str>> {
        self.slots.get_key_value(name).filter(|(_, slot)| slot.pod.is_some()).map(|(name, _)| name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Workload>> {
        self.slots.get(name)?.pod.as_ref()
    }

    pub(super) fn version(&self, name: &str, shown: impl Fn(&Workload) -> Shown) -> Option<Version> {
        let slot = self.slots.get(name)?;
        let versions = slot.versions?;
        Some(match shown(slot.pod.as_ref()?) {
            Shown::ToItsNode => versions.own,
            Shown::ToOthers => versions.others,
        })
    }

    /// A pod's version and body for a reader.
    pub(super) fn of(
        &self,
        site: &Site,
        name: &str,
        shown: impl Fn(&Workload) -> Shown,
    ) -> Option<(Version, Vec<u8>)> {
        let version = self.version(name, &shown)?;
        let slot = self.slots.get(name)?;
        let pod = slot.pod.as_ref()?;
        Some((version, slot.body(site, name, &seen(pod, shown(pod)))))
    }

    fn touch(&mut self, uid: &str) -> (Arc<str>, &mut Slot) {
        let known = self.slots.get_key_value(uid).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| Arc::from(uid));
        self.touched.insert(Arc::clone(&name));
        (Arc::clone(&name), self.slots.entry(name).or_default())
    }
}

impl Slot {
    fn make_versions(&self, site: &Site, name: &str) -> Option<Versions> {
        let pod = self.pod.as_ref()?;
        let (own, others) = (seen(pod, Shown::ToItsNode), seen(pod, Shown::ToOthers));
        let version = |pod: &Workload| Version::of(&self.body(site, name, pod));
        let of_own = version(&own);
        Some(Versions { own: of_own, others: if own == others { of_own } else { version(&others) } })
    }

    fn body(&self, site: &Site, name: &str, pod: &Workload) -> Vec<u8> {
        raise(site, name, pod, &self.services, &self.policies).encode_to_vec()
    }
}

/// What is told of a pod. The file of its network namespace is a matter of its own node, which knows it without being told.
fn seen(pod: &Arc<Workload>, shown: Shown) -> Arc<Workload> {
    let seen = match shown {
        Shown::ToItsNode => Arc::clone(pod),
        Shown::ToOthers => part::as_others_see(pod),
    };
    if seen.netns.is_none() { seen } else { Arc::new(Workload { netns: None, ..Workload::clone(&seen) }) }
}
