//! Making one upstream connection: choosing the delivery, a socket in the right namespace, `connect` within its deadline.
//!
//! The thread is in another namespace during `socket()` alone, never across an `await`. A socket must never be
//! connected before steering knows it as ours: it would be captured again.

use std::{fmt::Debug, io, net::SocketAddr, os::fd::AsFd, rc::Rc, time::Duration};

use config::name::PodName;
use ebpf_redirect::{RedirectError, Side};
use futures_util::future::LocalBoxFuture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::{Delivery, UpstreamError};
use crate::{capture::Tree, cell::Cell, policy::Permit, snapshot::Destination, stream::Stream, sys::socket};

/// What is to be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// The pod behind it, where it is known.
    pub pod: Option<&'a PodName>,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Connected {
    /// What carries it.
    pub stream: Stream,
    /// How it was made.
    pub delivery: Delivery,
    /// How long it took.
    pub took: Duration,
}

/// A way of making upstream connections: the kernel's, or a test's.
pub trait Connect: Debug {
    /// Connects to `peer` for whom `permit` was given, and nobody else.
    fn connect<'a>(
        &'a self,
        cell: &'a Cell,
        permit: &'a Permit,
        peer: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>>;
}

/// Real sockets in the namespaces of real pods.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Connect for Kernel {
    fn connect<'a>(
        &'a self,
        cell: &'a Cell,
        permit: &'a Permit,
        peer: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>> {
        Box::pin(async move {
            let way = choose(cell, permit, peer);
            let address = peer.address;
            let begun = Instant::now();
            let socket =
                open(cell, &way, address).map_err(|source| UpstreamError::Failed { address, source })?;
            let stream = finish(socket, address, cell.limits.connect).await?;
            Ok(Connected { stream: stream.into(), delivery: way.delivery, took: begun.elapsed() })
        })
    }
}

/// How an endpoint is reached for a permit: part of what tells pooled connections apart.
pub fn delivery(cell: &Cell, permit: &Permit, peer: Peer<'_>) -> Delivery {
    choose(cell, permit, peer).delivery
}

/// A delivery, the namespace it starts in, and the address the server is to see.
struct Way {
    delivery: Delivery,
    from: Rc<Tree>,
    client: Option<SocketAddr>,
}

fn choose(cell: &Cell, permit: &Permit, peer: Peer<'_>) -> Way {
    // A server cannot be shown an address of the other family; it sees its own pod's instead.
    let client = Some(permit.origin.client).filter(|client| client.is_ipv4() == peer.address.is_ipv4());
    if permit.side == Side::Inbound {
        return Way { delivery: Delivery::Local, from: Rc::clone(&permit.tree), client };
    }
    if let Some(tree) = neighbour(cell, peer) {
        return Way { delivery: Delivery::Direct, from: tree, client };
    }
    let outside = matches!(permit.destination, Destination::Outside);
    let delivery = if outside { Delivery::Passthrough } else { Delivery::Network };
    Way { delivery, from: Rc::clone(&permit.tree), client: None }
}

/// The peer's tree, where the peer is of this tenant and on this node. That an endpoint names a pod is not enough:
/// from inside that pod's namespace nothing but the pod's own address may be dialled.
fn neighbour(cell: &Cell, peer: Peer<'_>) -> Option<Rc<Tree>> {
    cell.tree(peer.pod?).filter(|tree| tree.workload.addresses.contains(&peer.address.ip()))
}

/// A socket in the namespace where the way starts, known to steering as ours.
fn open(cell: &Cell, way: &Way, address: SocketAddr) -> io::Result<TcpSocket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = way
        .from
        .netns
        .run(&cell.home, || Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP)))?;
    socket::prepare(&socket, cell.limits.unacknowledged)?;
    cell.redirect.exempt(socket.as_fd(), way.client).map_err(|error| match error {
        RedirectError::Syscall { source, .. } => source,
        other => io::Error::other(other),
    })?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

async fn finish(
    socket: TcpSocket,
    address: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, UpstreamError> {
    let elapsed = || UpstreamError::Timeout { address, after: patience };
    let connected = timeout(patience, socket.connect(address)).await.map_err(|_| elapsed())?;
    connected.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamError::Refused { address },
        io::ErrorKind::TimedOut => elapsed(),
        _ => UpstreamError::Failed { address, source },
    })
}
