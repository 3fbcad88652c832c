//! Which edits are quiet: those that decide nothing about any object but the edited ones and what names them.
//!
//! Whatever is decided among many (who has an address that two want, what a budget has room for, which namespaces there are) is
//! decided by linking everything. It must never call an edit quiet on a guess: where it cannot tell, the edit is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    Candidate, Edit, Linking, as_service, claims,
    claims::Thing,
    quotas, tenants,
    workloads::{OfANode, of_nodes},
};
use crate::{
    finding::ObjectRef,
    lower::Lowered,
    name::{Namespace, NodeName},
    object::Kind,
};

/// What an edit is judged by.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// All for which tenants have room, with the version that will be in force when the next edit is looked at.
    pub(super) candidates: BTreeMap<ObjectRef, Candidate>,
    pub(super) is_unbudgeted: bool,
    /// Who wants each thing, in any version.
    claims: BTreeMap<Thing, Vec<ObjectRef>>,
    /// How many pods say each thing of a node's address.
    nodes: BTreeMap<OfANode, usize>,
    /// The first object of each namespace: it makes the namespace be there.
    first: BTreeMap<Namespace, ObjectRef>,
    /// Linking the same once more might decide otherwise, since other versions are in force by then.
    is_unsettled: bool,
}

impl Quiet {
    /// Notes the first candidate of a namespace; whether this is it.
    pub(super) fn is_first(&mut self, namespace: &Namespace, candidate: &Candidate) -> bool {
        let is_first = !self.first.contains_key(namespace);
        if is_first {
            self.first.insert(namespace.clone(), candidate.object.clone());
        }
        is_first
    }

    fn claim(&mut self, thing: Thing, object: &ObjectRef) {
        let by = self.claims.entry(thing).or_default();
        if !by.contains(object) {
            by.push(object.clone());
        }
    }

    fn give_up(&mut self, thing: &Thing, object: &ObjectRef) {
        let Some(by) = self.claims.get_mut(thing) else { return };
        by.retain(|other| other != object);
        if by.is_empty() {
            self.claims.remove(thing);
        }
    }

    /// Whether nobody else wants any of these things.
    fn is_alone(&self, things: &BTreeSet<Thing>, object: &ObjectRef) -> bool {
        things.iter().all(|thing| self.claims.get(thing).is_some_and(|by| by[..] == [object.clone()]))
    }

    /// Counts a pod's word about addresses of nodes, or takes it back. Whether all that is said is the same as before.
    fn count_nodes(&mut self, said: &BTreeSet<OfANode>, is_there: bool) -> bool {
        let mut is_same = true;
        for one in said {
            let count = self.nodes.entry(one.clone()).or_default();
            is_same &= *count != usize::from(!is_there);
            *count = if is_there { *count + 1 } else { count.saturating_sub(1) };
        }
        is_same
    }
}

impl Candidate {
    /// Where it is among all candidates.
    pub(super) fn order(&self) -> (bool, Option<(&Path, usize)>, &ObjectRef) {
        let place = (!self.vanished).then_some((&*self.file, self.index));
        (self.vanished, place, &self.object)
    }

    fn things(&self, node: Option<&NodeName>) -> BTreeSet<Thing> {
        self.fresh.iter().chain(&self.in_force).flat_map(|version| things(version, node)).collect()
    }

    fn nodes(&self) -> BTreeSet<OfANode> {
        self.fresh.iter().chain(&self.in_force).flat_map(|version| of_nodes(version)).collect()
    }
}

fn things(version: &Lowered, node: Option<&NodeName>) -> BTreeSet<Thing> {
    claims::things(version, node).into_iter().map(|(thing, _)| thing).collect()
}

impl Linking {
    /// Notes what the next edit is judged by.
    pub(super) fn settle_down(&mut self, candidates: &[Candidate], kept: &[Candidate]) {
        self.findings.take_told();
        self.taken = claims::Holders::new();
        let is_lost = |candidate: &Candidate| {
            candidate.in_force.is_some() && !self.used.contains_key(&candidate.object)
        };
        self.quiet.is_unsettled = candidates.iter().any(is_lost);
        for candidate in kept {
            for thing in candidate.things(self.node.as_ref()) {
                self.quiet.claim(thing, &candidate.object);
            }
            self.quiet.count_nodes(&candidate.nodes(), true);
        }
        self.quiet.candidates =
            kept.iter().map(|candidate| (candidate.object.clone(), candidate.clone())).collect();
        self.quiet.is_unsettled |= self.quiet.candidates.len() != kept.len();
        for candidate in kept {
            self.come_into_force(&candidate.object);
        }
    }

    /// Notes which version of an object is in force from now on. Where that could decide something, nothing is quiet.
    pub(super) fn come_into_force(&mut self, object: &ObjectRef) {
        let Some(candidate) = self.quiet.candidates.get(object) else { return };
        let Some(used) = self.used.get(object) else {
            self.quiet.is_unsettled |= candidate.in_force.is_some();
            return;
        };
        let is_used =
            |version: &Option<Arc<Lowered>>| version.as_ref().is_some_and(|it| Arc::ptr_eq(it, used));
        if is_used(&candidate.in_force) {
            return;
        }
        let wanted = candidate.things(self.node.as_ref());
        let says_the_same = candidate.in_force.iter().all(|before| of_nodes(before).eq(of_nodes(used)));
        if !is_used(&candidate.fresh) || !says_the_same || !self.quiet.is_alone(&wanted, object) {
            self.quiet.is_unsettled = true;
            return;
        }
        let has = things(used, self.node.as_ref());
        for thing in wanted.difference(&has) {
            self.reserved.remove(thing);
            self.quiet.give_up(thing, object);
        }
        self.reserved.extend(has.into_iter().map(|thing| (thing, Arc::clone(used))));
        let used = Arc::clone(used);
        if let Some(candidate) = self.quiet.candidates.get_mut(object) {
            candidate.in_force = Some(used);
        }
    }

    /// Whether edits are quiet; if so, the new versions are among the candidates.
    pub(super) fn are_quiet(&mut self, edits: &[Edit]) -> bool {
        !self.quiet.is_unsettled
            && edits.iter().all(|edit| self.is_plain(edit) && self.has_room(edit))
            && self.claim_all(edits)
    }

    /// Whether an edit is of an object that has its namespace and its version for itself.
    fn is_plain(&self, edit: &Edit) -> bool {
        let versions = || self.quiet.candidates.get(&edit.object).into_iter().chain(&edit.new);
        let stands_by_itself = |candidate: &Candidate| candidate.stand_in.is_none() && !candidate.vanished;
        let is_kind = Kind::of(&edit.object).is_some_and(|kind| KINDS.contains(&kind));
        is_kind && versions().all(stands_by_itself) && self.has_namespace(edit) && self.leaves_stand_ins(edit)
    }

    fn has_namespace(&self, edit: &Edit) -> bool {
        let Some(namespace) = namespace_of(&edit.object) else { return false };
        if !self.mesh.membership.contains_key(&namespace) {
            return false;
        }
        if self.namespaces.contains(&namespace) {
            return true;
        }
        // It is there by its first object alone, of which something may be said.
        let Some(first) = self.quiet.first.get(&namespace) else { return false };
        let Some(first) = self.quiet.candidates.get(first) else { return false };
        first.object != edit.object && edit.new.as_ref().is_none_or(|new| first.order() < new.order())
    }

    /// Whether nothing stands in for an object under a name that this one may take.
    fn leaves_stand_ins(&self, edit: &Edit) -> bool {
        let may_have_name = |kind| matches!(kind, Kind::AuthorizationPolicy | Kind::NetworkPolicy);
        !Kind::of(&edit.object).is_some_and(may_have_name) || self.stood_in.is_empty()
    }

    fn has_room(&mut self, edit: &Edit) -> bool {
        let counts = Kind::of(&edit.object).is_some_and(Kind::is_configuration);
        if !counts || self.quiet.is_unbudgeted {
            return true;
        }
        let Some(namespace) = namespace_of(&edit.object) else { return false };
        let tenant = tenants::of(self, &namespace);
        let before = self.quiet.candidates.get(&edit.object).map(quotas::weight);
        quotas::have_room(self, &tenant, (before, edit.new.as_ref().map(quotas::weight)))
    }

    /// Has the new versions claim what they want, and the old ones give up theirs, as far as nobody else wants it.
    fn claim_all(&mut self, edits: &[Edit]) -> bool {
        for Edit { object, new } in edits {
            for thing in new.iter().flat_map(|new| new.things(self.node.as_ref())) {
                self.quiet.claim(thing, object);
            }
        }
        edits.iter().all(|edit| self.claim_alone(edit))
    }

    fn claim_alone(&mut self, Edit { object, new }: &Edit) -> bool {
        let node = self.node.clone();
        let things_of = |candidate: Option<&Candidate>| {
            candidate.map(|candidate| candidate.things(node.as_ref())).unwrap_or_default()
        };
        let old = self.quiet.candidates.get(object);
        let (had, wanted) = (things_of(old), things_of(new.as_ref()));
        let nodes_of = |candidate: Option<&Candidate>| candidate.map(Candidate::nodes).unwrap_or_default();
        let (said, says) = (nodes_of(old), nodes_of(new.as_ref()));
        let is_nodes = |thing: &Thing| matches!(thing, Thing::Address(address) if self.is_a_nodes(*address));
        let is_service = new.iter().flat_map(|new| &new.fresh).any(|fresh| as_service(fresh).is_some());
        if is_service && wanted.iter().any(is_nodes) {
            return false;
        }
        let all: BTreeSet<Thing> = had.union(&wanted).cloned().collect();
        let says_the_same = self.quiet.count_nodes(&says, true) & self.quiet.count_nodes(&said, false);
        if !self.quiet.is_alone(&all, object) || !says_the_same {
            return false;
        }
        for thing in had.difference(&wanted) {
            self.quiet.give_up(thing, object);
        }
        for thing in &all {
            self.reserved.remove(thing);
        }
        // What is in force keeps what it wants now; a newcomer's is nobody's until it is in force.
        if let Some(Candidate { fresh: Some(fresh), in_force: Some(_), .. }) = new {
            let things = things(fresh, node.as_ref());
            self.reserved.extend(things.into_iter().map(|thing| (thing, Arc::clone(fresh))));
        }
        match new {
            Some(new) => drop(self.quiet.candidates.insert(object.clone(), new.clone())),
            None => drop(self.quiet.candidates.remove(object)),
        }
        true
    }
}

pub(super) fn namespace_of(object: &ObjectRef) -> Option<Namespace> {
    Namespace::try_from(&**object.namespace.as_ref()?).ok()
}

/// Kinds of which an object can be edited by itself. Of all others, any object may concern any other.
const KINDS: [Kind; 7] = [
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::AuthorizationPolicy,
    Kind::NetworkPolicy,
];
