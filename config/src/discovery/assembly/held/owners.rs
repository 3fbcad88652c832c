//! Whose an address is where several resources say that they are reached by it.
//!
//! A pod has its address from the network, a Service of Kubernetes its own from the API server; any other may be written by whoever
//! writes a ServiceEntry. So nobody's traffic goes to another owner by that one's word: between owners a pod comes first, then such a
//! Service, then the others by name. It must never depend on who came first. What one owner says twice is that owner's affair.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    net::IpAddr,
};

use super::{super::super::lower::Object, Dirty, Entry, Held, Id};

/// Who says that he is reached by an address.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// In the order in which they count. Vectors, as hardly any has two.
    claims: HashMap<IpAddr, Vec<(Rank, Id)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Pod,
    Kubernetes,
    Other,
}

impl Owners {
    /// Takes note of what a resource says of itself; gives the addresses by which others are reached, too.
    pub(super) fn enter(&mut self, id: &Id, object: &Object, contested: &mut BTreeSet<IpAddr>) {
        let Some(rank) = rank(object) else { return };
        for address in object.addresses() {
            let claims = self.claims.entry(*address).or_default();
            let claim = (rank, id.clone());
            if let Err(at) = claims.binary_search(&claim) {
                claims.reserve_exact(1);
                claims.insert(at, claim);
            }
            if claims.len() > 1 {
                contested.insert(*address);
            }
        }
    }

    /// Takes it back.
    pub(super) fn leave(&mut self, id: &Id, object: &Object, contested: &mut BTreeSet<IpAddr>) {
        for address in object.addresses() {
            let Some(claims) = self.claims.get_mut(address) else { continue };
            claims.retain(|(_, other)| other != id);
            if claims.is_empty() {
                self.claims.remove(address);
            } else {
                contested.insert(*address);
            }
        }
    }

    /// Who has an address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Id> {
        self.claims.get(&address)?.first().map(|(_, id)| id)
    }

    /// All who say that they have.
    pub(super) fn all(&self, address: IpAddr) -> impl Iterator<Item = &Id> {
        self.claims.get(&address).into_iter().flatten().map(|(_, id)| id)
    }
}

impl Held {
    /// Services that say that they are reached by what is another owner's.
    pub(in crate::discovery::assembly) fn dispossessed(&self) -> impl Iterator<Item = (&Id, &Entry)> {
        self.dispossessed.iter().filter_map(|id| Some((id, self.entries.get(id)?)))
    }

    /// The addresses of a Service that are another owner's, each with that one.
    pub(in crate::discovery::assembly) fn lost<'a>(
        &'a self,
        object: &'a Object,
    ) -> impl Iterator<Item = (IpAddr, &'a Id)> {
        let vips = if matches!(object, Object::Service(_)) { object.addresses() } else { &[] };
        let is_others = |id: &Id| {
            let owner = self.entries.get(id).and_then(|entry| entry.object.as_ref()?.namespace());
            owner.is_some_and(|owner| Some(owner) != object.namespace())
        };
        vips.iter().filter_map(move |vip| Some((*vip, self.owners.of(*vip).filter(|id| is_others(id))?)))
    }

    /// Settles whose the addresses are that may be another's now, and notes whom that concerns. Once for all that came, since any number
    /// may name one address.
    pub(in crate::discovery::assembly) fn settle(&mut self, dirty: &mut Dirty) {
        let contested = mem::take(&mut dirty.contested);
        let concerned: BTreeSet<Id> =
            contested.iter().flat_map(|address| self.owners.all(*address)).cloned().collect();
        for id in concerned {
            let Some(object) = self.entries.get(&id).and_then(|entry| entry.object.clone()) else { continue };
            let Object::Service(_) = object else { continue };
            if self.lost(&object).next().is_some() {
                self.dispossessed.insert(id.clone());
            } else {
                self.dispossessed.remove(&id);
            }
            dirty.keys.insert(object.key());
            dirty.told.insert(id);
        }
    }
}

/// What is no pod and no Service has nothing that another could want: many entries may name one address outside.
fn rank(object: &Object) -> Option<Rank> {
    match object {
        Object::Workload(held) if held.is_pod => Some(Rank::Pod),
        Object::Service(held) if held.is_kubernetes => Some(Rank::Kubernetes),
        Object::Service(_) => Some(Rank::Other),
        _ => None,
    }
}
