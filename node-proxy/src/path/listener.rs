//! The loop that takes connections from one of a tree's listeners and starts a task for each.
//!
//! It must never end or spin because of what a client does, nor hold more connections than the cell may.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use ebpf_redirect::Side;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    capture::{self, Arrival, Captured, Tree},
    cell::{Cell, Seat},
    telemetry::Reason,
    tenancy::meter,
};

/// Pause after the first failed accept in a row; doubled up to [`LONGEST_PAUSE`]. What fails is a lack of descriptors
/// or memory, which a retry at once would only make worse.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts for ever. Returns only when the listener is broken, or another cell serves the tenant; drop the future to
/// stop it.
///
/// Connections that were accepted go on without it, with the options that the listener had before it listened.
pub async fn accept_loop(cell: Rc<Cell>, tree: Rc<Tree>, side: Side, listener: TcpListener) -> io::Error {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            // The replacement has the listener too; what was taken from its queue can only be refused.
            Ok((stream, accept_addr)) if cell.tenure.is_over() => {
                super::refuse(&cell, captured(stream, accept_addr, side, tree), Reason::CellRestarted);
                return io::Error::other("the cell was replaced");
            }
            Ok((stream, accept_addr)) => {
                pause = FIRST_PAUSE;
                begin(&cell, captured(stream, accept_addr, side, Rc::clone(&tree)));
            }
            Err(error) if is_fatal(&error) => return error,
            // Says something of that one connection only.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, pod = %tree.workload.pod, ?side, ?pause, "a connection could not be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn captured(stream: TcpStream, accept_addr: SocketAddr, side: Side, tree: Rc<Tree>) -> Captured {
    Captured { stream: stream.into(), accept_addr, side, tree, arrival: Arrival::Socket }
}

/// Starts the task of one connection, where the cell has a seat for it.
pub(super) fn begin(cell: &Rc<Cell>, captured: Captured) {
    let seat = cell.seat(captured.tree.id).or_else(|refused| probe_seat(cell, &captured).ok_or(refused));
    match seat {
        Ok(seat) => {
            // Not awaited in a block of its own, which would have room for it twice: before it is first polled, and after.
            let payer = cell.payers.of(captured.tree.id);
            let connection = super::carry(Rc::clone(cell), captured);
            // A tunnel's streams begin within its own turn, and pay for themselves.
            meter::spawn_for(payer, connection.map(move |()| drop(seat)));
        }
        Err(refused) => super::refuse(cell, captured, refused.reason),
    }
}

/// A place for what may be the node's own question. Asked only where the budget has none: the kernel has to say where it was going.
fn probe_seat(cell: &Rc<Cell>, captured: &Captured) -> Option<Seat> {
    let is_socket = matches!(captured.arrival, Arrival::Socket) && captured.side == Side::Inbound;
    let client = captured.accept_addr.ip().to_canonical();
    if !is_socket || !cell.snapshot().directory.node_addresses.contains(&client) {
        return None;
    }
    let origin = capture::origin(&*cell.redirect, captured).ok()?;
    cell.probe_seat(captured.side, &captured.tree, origin)
}

/// Whether the listener is unusable, as opposed to one connection or the moment (accept(2), "Error handling").
fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT)
    )
}
