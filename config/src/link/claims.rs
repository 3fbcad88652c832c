//! Who holds what there is only once: addresses, network namespaces, namespaces of tenants.
//!
//! What is in force holds its things until it changes itself or goes, so that nobody takes another's by writing a file; but
//! for the address of a Service, which a pod takes. Decided before anything is placed: an edit may move several objects at
//! once (two that swap), and one of the moves may fail, which gives that object back what it had. Must never depend on what
//! a file is called where an object is in force; among newcomers the older one is first, then the path.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Candidate, Linking, Refusal, as_pod, as_service, workloads::OfANode};
use crate::{
    finding::Reason,
    lower::{Draft, Lowered, Place, WorkloadDraft},
    name::{Namespace, NodeName},
};

/// Something that one object has and no other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Address(IpAddr),
    /// By the one spelling of its path.
    Netns(PathBuf),
    /// Of a tenant.
    Namespace(Namespace),
    /// What namespaces have that no tenant lists.
    Default,
}

/// What objects have.
pub(super) type Holders = BTreeMap<Thing, Arc<Lowered>>;

/// What a version of an object wants for itself, and where it says so.
pub(super) fn things<'a>(lowered: &'a Lowered, node: Option<&NodeName>) -> Vec<(Thing, &'a Place)> {
    if let Draft::Tenant(draft) = &lowered.draft {
        let namespaces = draft.tenant.namespaces.iter().cloned().map(Thing::Namespace);
        let default = draft.default_place.iter().map(|place| (Thing::Default, place));
        return namespaces.zip(&draft.namespace_places).chain(default).collect();
    }
    if let Some(service) = as_service(lowered) {
        return service.vips.iter().copied().map(Thing::Address).zip(&service.vip_places).collect();
    }
    let Some(pod) = as_pod(lowered) else { return Vec::new() };
    let addresses = pod.workload.addresses.iter().copied().map(Thing::Address).zip(&pod.address_places);
    let netns =
        netns_here(pod, node).map(|path| Thing::Netns(one_spelling(path))).zip(pod.netns_place.as_ref());
    addresses.chain(netns).collect()
}

/// A path means a namespace of the machine it is on: the same one on another node is another namespace.
pub(super) fn netns_here<'a>(pod: &'a WorkloadDraft, node: Option<&NodeName>) -> Option<&'a PathBuf> {
    let of = pod.workload.node.as_ref();
    let is_here = node.is_none_or(|here| of.is_none_or(|node| node == here));
    pod.workload.netns.as_ref().filter(|_| is_here)
}

/// `/var/run` is a link to `/run` wherever network namespaces are bound to files; both are written.
fn one_spelling(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
}

/// Gives an object all that it wants, or nothing.
pub(super) fn take(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let wanted = things(lowered, linking.node.as_ref());
    for (thing, place) in &wanted {
        let mut holders = [&linking.reserved, &linking.taken].into_iter().filter_map(|held| held.get(thing));
        let is_others =
            |holder: &&Arc<Lowered>| holder.object != lowered.object && !gives_way(holder, lowered, thing);
        if let Some(holder) = holders.find(is_others) {
            return Err(taken(thing, place, holder));
        }
    }
    linking.taken.extend(wanted.into_iter().map(|(thing, _)| (thing, Arc::clone(lowered))));
    Ok(())
}

/// A pod has its address from the network, and who writes a Service may write any: nobody shuts a pod out, which would then
/// be open, by a Service that was there first.
fn gives_way(holder: &Lowered, claimant: &Lowered, thing: &Thing) -> bool {
    matches!(thing, Thing::Address(_)) && as_service(holder).is_some() && as_pod(claimant).is_some()
}

fn taken(thing: &Thing, place: &Place, holder: &Lowered) -> Refusal {
    let who = format!("{} already ({}:{})", holder.object, holder.file.display(), holder.at.line);
    let message = match thing {
        Thing::Address(address) => {
            format!("{address} belongs to {who}: give each pod and Service an address of its own")
        }
        Thing::Netns(path) => {
            format!("{} is the network namespace of {who}: give each pod its own", path.display())
        }
        Thing::Namespace(namespace) => {
            format!("namespace {namespace} belongs to {who}: remove it from one of them")
        }
        Thing::Default => format!("{who} is the default: only one Tenant can be, remove it from one of them"),
    };
    Refusal { place: place.clone(), reason: Reason::Conflict, message }
}

/// What is kept for objects in force, each in the version that it will have.
pub(super) fn reserve(
    candidates: &[Candidate],
    node: Option<&NodeName>,
    of_nodes: &BTreeSet<OfANode>,
) -> Holders {
    let in_force = candidates.iter().filter(|candidate| candidate.in_force.is_some()).collect::<Vec<_>>();
    let mut contest =
        Contest { in_force, node, holders: BTreeMap::new(), wanted: BTreeMap::new(), chosen: Vec::new() };
    contest.enter(of_nodes);
    contest.settle();
    let chosen = contest.chosen.into_iter().flatten();
    chosen
        .flat_map(|version| things(version, node).into_iter().map(|(thing, _)| (thing, Arc::clone(version))))
        .collect()
}

/// The objects in force, each starting with what it wants now and falling back to what it has.
struct Contest<'a> {
    in_force: Vec<&'a Candidate>,
    node: Option<&'a NodeName>,
    /// Who has a thing as of the last edit.
    holders: BTreeMap<Thing, usize>,
    /// Who wants it now.
    wanted: BTreeMap<Thing, BTreeSet<usize>>,
    chosen: Vec<Option<&'a Arc<Lowered>>>,
}

/// Whether two versions are one, or say the same.
pub(super) fn is_same(one: Option<&Arc<Lowered>>, other: Option<&Arc<Lowered>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other)) || one == other
}

impl<'a> Contest<'a> {
    fn enter(&mut self, of_nodes: &BTreeSet<OfANode>) {
        for index in 0..self.in_force.len() {
            let candidate = self.in_force[index];
            let had = self.things(candidate.in_force.as_ref());
            let fresh = candidate.fresh.as_ref();
            // A Service that wants the address of a node will be refused, whoever else wants it.
            let hopeless = fresh.is_some_and(|fresh| as_service(fresh).is_some())
                && self.things(fresh).iter().any(|thing| {
                    matches!(thing, Thing::Address(address) if of_nodes.contains(&OfANode::Address(*address)))
                        && !had.contains(thing)
                });
            self.holders.extend(had.into_iter().map(|thing| (thing, index)));
            self.chosen.push(None);
            self.choose(index, fresh.filter(|_| !hopeless).or(candidate.in_force.as_ref()));
        }
    }

    /// Each object falls back at most once, so this ends after as many steps as there are things.
    fn settle(&mut self) {
        // Taken from the end: first where somebody who stays decides, then where those who move meet.
        let is_held = |(thing, by): &(&Thing, &BTreeSet<usize>)| {
            self.holders.get(*thing).is_some_and(|holder| by.contains(holder))
        };
        let (held, free): (Vec<_>, Vec<_>) = self.wanted.iter().partition(is_held);
        let mut open: Vec<Thing> = free.into_iter().chain(held).map(|(thing, _)| thing.clone()).collect();
        while let Some(thing) = open.pop() {
            let Some(by) = self.wanted.get(&thing) else { continue };
            let holder = self.holders.get(&thing).filter(|holder| by.contains(holder));
            let first = holder
                .copied()
                .or_else(|| by.iter().copied().min_by_key(|index| (self.in_force[*index].age(), *index)));
            let losers: Vec<usize> = by.iter().copied().filter(|index| Some(*index) != first).collect();
            for index in losers {
                let had = self.in_force[index].in_force.as_ref();
                if is_same(self.chosen[index], had) {
                    continue;
                }
                self.choose(index, had);
                open.extend(self.things(had));
            }
        }
    }

    fn choose(&mut self, index: usize, version: Option<&'a Arc<Lowered>>) {
        for thing in self.things(self.chosen[index]) {
            if let Some(by) = self.wanted.get_mut(&thing) {
                by.remove(&index);
            }
        }
        for thing in self.things(version) {
            self.wanted.entry(thing).or_default().insert(index);
        }
        self.chosen[index] = version;
    }

    fn things(&self, version: Option<&Arc<Lowered>>) -> Vec<Thing> {
        let of =
            |version: &Arc<Lowered>| things(version, self.node).into_iter().map(|(thing, _)| thing).collect();
        version.map(of).unwrap_or_default()
    }
}
