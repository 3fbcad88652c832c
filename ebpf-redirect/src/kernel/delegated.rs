//! What the path of a connection needs of the hooks: the notes on sockets, and nothing else of the instance.
//!
//! The map of notes is socket storage: who holds it reads and writes notes on sockets of which it has a descriptor, and on no
//! others. So a process that is given this map alone can mark and ask about its own sockets; it can enrol, steer, fence or let go
//! nobody, and cannot make what others count. No other map may come to this file.

use std::{
    net::{Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use ebpf_redirect_abi::{Endpoint, Note, kind};

use super::address;
use crate::{
    Counter, Enrolled, Enrolment, ListenPlan, Mechanism, Origin, Redirect, RedirectError, Side, Spared,
    canonical, delegation::refused, sys::bpf::Table,
};

/// Notes on sockets, by descriptor.
pub(super) type Sockets = Table<i32, Note>;

/// A [`Redirect`] for a process that was given the map of notes.
#[derive(Debug)]
pub(crate) struct Delegated {
    sockets: Sockets,
}

impl Delegated {
    /// Takes the map. An error where the descriptor is another map's, or none's.
    pub(crate) fn new(sockets: OwnedFd) -> Result<Self, RedirectError> {
        let sockets = Sockets::new(sockets);
        match sockets.is_socket_storage() {
            Ok(true) => Ok(Self { sockets }),
            Ok(false) => {
                Err(RedirectError::Delegation { why: "the map is not that of the notes on sockets" })
            }
            Err(error) => Err(RedirectError::syscall("ask about", "the notes on sockets", error)),
        }
    }
}

impl Redirect for Delegated {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Kernel
    }

    fn listen_plan(&self) -> ListenPlan {
        listen_plan()
    }

    fn enrol(&self, _: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        refused("enrol a pod")
    }

    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError> {
        exempt(&self.sockets, socket, client)
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        origin(&self.sockets, accepted, side, accept_addr)
    }

    fn release_unclaimed(&self, _: Spared<'_>) -> Result<usize, RedirectError> {
        refused("release pods")
    }

    /// The hooks' own are the daemon's to read.
    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        Ok(Vec::new())
    }
}

/// Any port: the lookup program gives the connections to the socket, whatever it is bound to. On loopback, so that nobody
/// outside the pod can dial the listener itself.
pub(super) fn listen_plan() -> ListenPlan {
    let v4 = SocketAddr::from(([127, 0, 0, 1], 0));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    ListenPlan { outbound_v4: v4, outbound_v6: v6, inbound_v4: v4, inbound_v6: v6, transparent: false }
}

/// Notes on a socket that it is the proxy's.
pub(super) fn exempt(
    sockets: &Sockets,
    socket: BorrowedFd<'_>,
    client: Option<SocketAddr>,
) -> Result<(), RedirectError> {
    let note = match client {
        None => Note { kind: kind::EXEMPT, ..Note::default() },
        Some(client) => {
            Note { kind: kind::DELIVERY, own: Endpoint::default(), peer: address::endpoint(client) }
        }
    };
    sockets.set(&socket.as_raw_fd(), &note).map_err(|e| RedirectError::syscall("exempt", "a socket", e))
}

/// Where an accepted connection was going and where it came from.
pub(super) fn origin(
    sockets: &Sockets,
    accepted: BorrowedFd<'_>,
    side: Side,
    accept_addr: SocketAddr,
) -> Result<Origin, RedirectError> {
    match side {
        Side::Outbound => outbound_origin(sockets, accepted),
        Side::Inbound => inbound_origin(accepted, accept_addr),
    }
}

/// One look at the socket's note: only a steered connection has one.
fn outbound_origin(sockets: &Sockets, accepted: BorrowedFd<'_>) -> Result<Origin, RedirectError> {
    let note = sockets.get(&accepted.as_raw_fd());
    let note = note.map_err(|error| RedirectError::syscall("origin", "an accepted socket", error))?;
    let note = note.filter(|note| note.kind == kind::ACCEPTED).ok_or(RedirectError::NotSteered)?;
    Ok(Origin { destination: address::socket_addr(&note.peer), client: address::socket_addr(&note.own) })
}

/// The kernel keeps both addresses of a connection that was given to another listener.
fn inbound_origin(accepted: BorrowedFd<'_>, accept_addr: SocketAddr) -> Result<Origin, RedirectError> {
    let destination = rustix::net::getsockname(accepted)
        .map_err(|errno| RedirectError::syscall("getsockname", "an accepted socket", errno.into()))?;
    let destination = SocketAddr::try_from(destination)
        .map_err(|errno| RedirectError::syscall("getsockname", "an accepted socket", errno.into()))?;
    let destination = canonical(destination);
    if destination.ip().is_loopback() {
        // Inbound connections to loopback pass by; this one dialled the listener's own port.
        return Err(RedirectError::NotSteered);
    }
    Ok(Origin { destination, client: canonical(accept_addr) })
}
