//! Which PeerAuthentication decides for a workload, and so where it takes plaintext. Pure.
//!
//! A mode that is not known must never count as the milder one: an object that cannot be read is STRICT for all it may be about.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{PeerAuthentication, PeerMode, Scope, Workload, has_all};
use crate::name::{Namespace, PolicyName};

/// Where plaintext is refused, and which PeerAuthentication says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PeerRule {
    /// On all ports that are not listed.
    pub strict: Option<PolicyName>,
    /// Ports that are treated in another way.
    pub ports: Vec<(u16, Option<PolicyName>)>,
}

impl PeerRule {
    /// Whether plaintext is refused at any port.
    pub fn refuses(&self) -> bool {
        self.refused_by().is_some()
    }

    /// Who says that, if anybody does.
    pub fn refused_by(&self) -> Option<&PolicyName> {
        self.strict.as_ref().or_else(|| self.ports.iter().find_map(|(_, strict)| strict.as_ref()))
    }

    /// Who says that plaintext to this port is refused, if anybody does.
    pub fn strict_at(&self, port: u16) -> Option<&PolicyName> {
        let own = self.ports.iter().find(|(number, _)| *number == port);
        own.map_or(self.strict.as_ref(), |(_, strict)| strict.as_ref())
    }
}

/// PeerAuthentications by how wide they are; of several for the same, the oldest counts, then the first by name.
#[derive(Debug, Default)]
pub struct Peers<'a> {
    mesh: Option<&'a PeerAuthentication>,
    namespaces: HashMap<&'a Namespace, &'a PeerAuthentication>,
    selected: HashMap<&'a Namespace, Vec<&'a PeerAuthentication>>,
    unreadable: Vec<&'a PeerAuthentication>,
}

impl<'a> Peers<'a> {
    /// Sorts all there are.
    pub fn of(all: &'a BTreeMap<PolicyName, Arc<PeerAuthentication>>) -> Self {
        let mut peers = Self::default();
        let (unreadable, mut oldest_first): (Vec<&PeerAuthentication>, Vec<_>) =
            all.values().map(AsRef::as_ref).partition(|peer| peer.unreadable);
        peers.unreadable = unreadable;
        // Stable: those of one age stay in the order of their names. Unknown age counts as the youngest.
        oldest_first.sort_by_key(|peer| peer.created.unwrap_or(i64::MAX));
        for peer in oldest_first {
            match &peer.scope {
                Scope::Mesh => {
                    peers.mesh.get_or_insert(peer);
                }
                Scope::Namespace(namespace) => {
                    peers.namespaces.entry(namespace).or_insert(peer);
                }
                Scope::Selected { namespace: Some(namespace), .. } => {
                    peers.selected.entry(namespace).or_default().push(peer);
                }
                Scope::Pods(pods) => {
                    let namespaces: BTreeSet<&Namespace> = pods.iter().map(|pod| &pod.namespace).collect();
                    namespaces.into_iter().for_each(|of| peers.selected.entry(of).or_default().push(peer));
                }
                Scope::Selected { namespace: None, .. } | Scope::Services(_) => {}
            }
        }
        peers
    }

    /// What a workload takes.
    pub fn rule(&self, workload: &Workload) -> PeerRule {
        let namespace = &workload.pod.namespace;
        if let Some(peer) = self.unreadable.iter().find(|peer| is_about(&peer.scope, workload)) {
            return PeerRule { ports: Vec::new(), strict: Some(peer.name.clone()) };
        }
        let selects = |peer: &&&PeerAuthentication| match &peer.scope {
            Scope::Selected { labels, .. } => has_all(&workload.labels, labels),
            Scope::Pods(pods) => pods.contains(&workload.pod),
            _ => false,
        };
        let own = self.selected.get(namespace).and_then(|peers| peers.iter().find(selects)).copied();
        let wider = [own, self.namespaces.get(namespace).copied(), self.mesh];
        let decides = wider.into_iter().flatten().find_map(|peer| Some((peer, peer.mode?)));
        let strict = |peer: &PeerAuthentication, mode| (mode == PeerMode::Strict).then(|| peer.name.clone());
        let of_all = decides.and_then(|(peer, mode)| strict(peer, mode));
        let port = |peer: &PeerAuthentication, (number, mode): &(u16, Option<PeerMode>)| {
            let own = mode.map_or_else(|| of_all.clone(), |mode| strict(peer, mode));
            (*number, own)
        };
        let ports = own.into_iter().flat_map(|peer| peer.ports.iter().map(move |entry| (peer, entry)));
        PeerRule { ports: ports.map(|(peer, entry)| port(peer, entry)).collect(), strict: of_all }
    }
}

/// Whether a scope has a workload in it, as far as that can be told without Services.
pub(crate) fn is_about(scope: &Scope, workload: &Workload) -> bool {
    match scope {
        Scope::Mesh => true,
        Scope::Namespace(namespace) => *namespace == workload.pod.namespace,
        Scope::Selected { namespace, labels } => {
            namespace.as_ref().is_none_or(|namespace| *namespace == workload.pod.namespace)
                && has_all(&workload.labels, labels)
        }
        Scope::Pods(pods) => pods.contains(&workload.pod),
        Scope::Services(_) => false,
    }
}
