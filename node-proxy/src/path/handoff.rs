//! The loop that takes handed-off connections out of the cell's inbox and starts a task for each.
//!
//! As with a listener's: it must never end or spin because of what another tenant's cell does, nor hold more connections
//! than the cell may.

use std::{io, rc::Rc, sync::Arc};

use ebpf_redirect::{Origin, Side};

use super::listener::begin;
use crate::{
    capture::{Arrival, Captured, Delivered},
    cell::Cell,
    handoff::{Inbox, Opening},
    telemetry::Reason,
};

/// Openings taken before other tasks of the cell have their turn.
const TURN: usize = 64;

/// Takes handoffs for ever. Returns only when another cell serves the tenant; drop the future to stop it.
pub async fn handoff_loop(cell: Rc<Cell>, inbox: Arc<Inbox>) -> io::Error {
    loop {
        for _ in 0..TURN {
            let opening = inbox.next().await;
            if cell.tenure.is_over() {
                opening.refuse(Reason::CellRestarted);
                return io::Error::other("the cell was replaced");
            }
            take(&cell, &inbox, opening);
        }
        tokio::task::yield_now().await;
    }
}

/// Which tree it is for says its number, never its address, which may be another pod's by now.
fn take(cell: &Rc<Cell>, inbox: &Arc<Inbox>, opening: Opening) {
    let tree = cell.door(opening.tree);
    let address = opening.destination.ip().to_canonical();
    let Some(tree) = tree.filter(|tree| tree.workload.addresses.contains(&address)) else {
        cell.ledger.refused(Reason::EndpointGone);
        return opening.refuse(Reason::EndpointGone);
    };
    let Opening { mut pipe, source, client, destination, .. } = opening;
    inbox.admit(&mut pipe);
    let delivered = Delivered {
        origin: Origin { destination, client },
        identity: source.identity.clone(),
        pod: Some(source.pod.clone()),
        unseen_from: Some(source),
        trace: None,
        said: None,
    };
    let arrival = Arrival::Delivered(Box::new(delivered));
    begin(cell, Captured { stream: pipe.into(), accept_addr: client, side: Side::Inbound, tree, arrival });
}
