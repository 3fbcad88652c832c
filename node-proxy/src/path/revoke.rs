//! A new configuration and the connections of now: each that it does not permit any more is ended at once.
//!
//! Decided by the very rules that new connections are decided by. A permission that was taken away must never outlive
//! this.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc};

use config::model::Workload;
use ebpf_redirect::{Origin, Side};

use crate::{
    cell::{Cell, Live},
    identity::Caller,
    policy::{
        self, Denied, Question,
        network::{Asked, Evaluated},
    },
    snapshot::Snapshot,
    upstream::shortcuts::{Ends, Goal},
};

/// Looks at every connection of a cell again.
pub(super) fn reconsider(cell: &Cell, snapshot: &Arc<Snapshot>) {
    let unknown = Caller { identity: None, pod: None };
    let network = ByNetwork { snapshot, known: RefCell::default() };
    cell.live.each(|live| {
        let judged = by_destination(snapshot, live, &unknown)
            .and_then(|()| by_receiver(&network, live))
            .and_then(|()| by_egress(snapshot, live));
        if let Err(denied) = judged {
            live.revoke(&denied);
        }
    });
    let ended = cell.shortcuts.reconsider(|ends| straight(&network, ends));
    if !ended.is_empty() {
        let is_of = |ends: &Ends, key: &crate::upstream::pool::Key| {
            key.tree == ends.from.id && key.address == ends.address
        };
        cell.pool.retire(|key| ended.iter().any(|ends| is_of(ends, key)));
    }
}

/// By the rules of this side.
fn by_destination(snapshot: &Snapshot, live: &Live, unknown: &Caller) -> Result<(), Denied> {
    let resolved;
    let (destination, caller) = match live.side {
        Side::Outbound => {
            resolved = snapshot.resolve(&live.tree.workload.pod.namespace, live.origin.destination);
            (&resolved, live.caller.get().map_or(unknown, AsRef::as_ref))
        }
        // The listener says whose connection it is. One that is not accepted yet will be judged by this snapshot.
        Side::Inbound => match (live.destination.get(), live.caller.get()) {
            (Some(destination), Some(caller)) => (destination, caller.as_ref()),
            _ => return Ok(()),
        },
    };
    let question =
        Question { side: live.side, workload: &live.tree.workload, origin: live.origin, destination, caller };
    policy::reconsider(snapshot, &question)
}

/// By the receiver's, where an opaque connection goes straight to it; by the network's, where it goes past it by hand.
fn by_receiver(network: &ByNetwork<'_>, live: &Live) -> Result<(), Denied> {
    if let Some(source) = live.unseen_from.get() {
        return network.judge(Asked::Destination, source, &live.tree.workload, live.origin.destination);
    }
    let (Some(to), Some(address), Some(caller)) =
        (live.receiver.get(), live.endpoint.get(), live.caller.get())
    else {
        return Ok(());
    };
    let ends = Ends {
        from: Rc::clone(&live.tree),
        caller: Arc::clone(caller),
        client: live.origin.client,
        to: to.clone(),
        address,
    };
    match to {
        Goal::Outside => Ok(()),
        Goal::Neighbour(_) | Goal::Guest(_) => straight(network, &ends),
    }
}

/// By the caller's egress, where a Service leads an opaque connection out of the mesh. An endpoint that was a pod when it was
/// chosen has not become another's by leaving.
fn by_egress(snapshot: &Snapshot, live: &Live) -> Result<(), Denied> {
    let (Side::Outbound, Some(address)) = (live.side, live.endpoint.get()) else { return Ok(()) };
    let is_outside = live.peer.borrow().is_none()
        && !snapshot.directory.workloads.contains_key(&address.ip().to_canonical());
    if is_outside {
        return policy::egress::admit_outside(snapshot, &live.tree.workload.pod.namespace, address);
    }
    Ok(())
}

/// Whether a connection may go on to go straight to its receiver. Of one that is handed over, the receiver's cell decides
/// what its own policies are about.
fn straight(network: &ByNetwork<'_>, ends: &Ends) -> Result<(), Denied> {
    let (snapshot, from) = (network.snapshot, &ends.from.workload);
    match &ends.to {
        Goal::Outside => policy::egress::admit_outside(snapshot, &from.pod.namespace, ends.address),
        Goal::Guest(to) => network.judge(Asked::Source, from, to, ends.address),
        Goal::Neighbour(to) => {
            network.judge(Asked::Both, from, &to.workload, ends.address)?;
            let origin = Origin { destination: ends.address, client: ends.client };
            policy::reconsider_directly(snapshot, &to.workload, &ends.caller, origin)
        }
    }
}

/// What NetworkPolicies say by a new configuration: once for each pair of ends and port, however many connections there are.
struct ByNetwork<'a> {
    snapshot: &'a Snapshot,
    known: RefCell<HashMap<Pair, Evaluated>>,
}

/// Two workloads, by where they are in memory: those of connections that live do not go while these are looked at.
type Pair = (Asked, *const Workload, *const Workload, SocketAddr);

impl ByNetwork<'_> {
    /// They cannot be evaluated of an end that left the configuration: its tree's end ends it.
    fn judge(
        &self,
        asked: Asked,
        from: &Arc<Workload>,
        receiver: &Arc<Workload>,
        to: SocketAddr,
    ) -> Result<(), Denied> {
        if [from, receiver].iter().any(|end| !self.snapshot.is_here(&end.pod)) {
            return Ok(());
        }
        let pair = (asked, Arc::as_ptr(from), Arc::as_ptr(receiver), to);
        let evaluate = || policy::network::between(self.snapshot, asked, from, receiver, to);
        match *self.known.borrow_mut().entry(pair).or_insert_with(evaluate) {
            Evaluated::Allowed => Ok(()),
            Evaluated::Denied | Evaluated::Unknown => Err(Denied::NetworkPolicy),
        }
    }
}
