//! A new configuration and the connections of now: each that it does not permit any more is ended at once.
//!
//! Decided by the very rules that new connections are decided by. A permission that was taken away must never outlive
//! this.

use std::sync::Arc;

use ebpf_redirect::{Origin, Side};

use crate::{
    cell::{Cell, Live},
    identity::Caller,
    policy::{self, Denied, Question, network::Evaluated},
    snapshot::Snapshot,
    upstream::{Delivery, shortcuts::Ends},
};

/// Looks at every connection of a cell again.
pub(super) fn reconsider(cell: &Cell, snapshot: &Arc<Snapshot>) {
    let unknown = Caller { identity: None, pod: None };
    cell.live.each(|live| {
        let judged =
            by_destination(snapshot, live, &unknown).and_then(|()| by_receiver(cell, snapshot, live));
        if let Err(denied) = judged {
            live.revoke(&denied);
        }
    });
    let ended = cell.shortcuts.reconsider(|ends| straight(snapshot, ends));
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

/// By the receiver's, where an opaque connection goes straight to it.
fn by_receiver(cell: &Cell, snapshot: &Snapshot, live: &Live) -> Result<(), Denied> {
    if live.handed_over.get() {
        return handed_over(snapshot, live);
    }
    let (Some((address, choice)), Some(caller)) = (live.endpoint.get(), live.caller.get()) else {
        return Ok(());
    };
    if choice.delivery != Delivery::Direct {
        return Ok(());
    }
    let peer = live.peer.borrow();
    let Some(to) = peer.as_ref().and_then(|pod| cell.tree(pod)) else { return Ok(()) };
    let ends = Ends {
        from: std::rc::Rc::clone(&live.tree),
        caller: Arc::clone(caller),
        client: live.origin.client,
        to,
        address,
    };
    straight(snapshot, &ends)
}

/// What came from another cell of this node passed by the network, too.
fn handed_over(snapshot: &Snapshot, live: &Live) -> Result<(), Denied> {
    let source = snapshot.directory.workloads.get(&live.origin.client.ip().to_canonical());
    let source = source.filter(|entry| Some(&entry.workload.pod) == live.source.as_ref());
    // A caller that is gone has lost no permission: its own cell ends what it had.
    let Some(source) = source else { return Ok(()) };
    let evaluated =
        policy::network::between(snapshot, &source.workload, &live.tree.workload, live.origin.destination);
    if evaluated == Evaluated::Allowed { Ok(()) } else { Err(Denied::NetworkPolicy) }
}

/// Whether a connection may go on to go straight to its receiver.
fn straight(snapshot: &Snapshot, ends: &Ends) -> Result<(), Denied> {
    if policy::network::between(snapshot, &ends.from.workload, &ends.to.workload, ends.address)
        != Evaluated::Allowed
    {
        return Err(Denied::NetworkPolicy);
    }
    let origin = Origin { destination: ends.address, client: ends.client };
    policy::reconsider_directly(snapshot, &ends.to.workload, &ends.caller, origin)
}
