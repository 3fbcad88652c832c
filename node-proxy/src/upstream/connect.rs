//! Making one upstream connection: choosing the delivery, a socket in the right namespace, `connect` within its deadline.
//!
//! The thread is in another namespace during `socket()` alone, never across an `await`. A socket must never be
//! connected before steering knows it as ours: it would be captured again.

use std::{fmt::Debug, io, net::SocketAddr, os::fd::AsFd, rc::Rc, sync::Arc, time::Duration};

use config::{model::Workload, name::PodName};
use ebpf_redirect::{RedirectError, Side};
use futures_util::future::LocalBoxFuture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::{
    Delivery, UpstreamError,
    choice::{self, Choice, Facts, Place, Why},
    course::Course,
    handoff,
    shortcuts::{Goal, Shortcut},
    tunnel::Callee,
};
use crate::{
    capture::Tree,
    cell::Cell,
    handoff::Line,
    policy::{
        self, Admission, Permit,
        network::{Asked, Evaluated},
    },
    snapshot::Destination,
    stream::Stream,
    sys::socket,
    telemetry::Reason,
    tenancy::Taken,
};

/// What is to be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// The pod behind it, where it is known.
    pub pod: Option<&'a PodName>,
    /// Where it is noted how it is reached.
    pub course: &'a Course,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Connected {
    /// What carries it.
    pub stream: Stream,
    /// How it was made, and why so.
    pub choice: Choice,
    /// How long it took.
    pub took: Duration,
    /// What keeps it known where it goes straight to a neighbour's app. Drop it no earlier than the stream.
    pub shortcut: Option<Box<Shortcut>>,
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
            let begun = Instant::now();
            let connected = go(cell, permit, peer, choose(cell, permit, peer)?).await;
            let connected = match connected {
                // The receiver's NetworkPolicies do not let it in, or ours do not let it out any more: no way past the network
                // is one that is not known at each end to be allowed by that end's.
                Err(UpstreamError::Declined { reason: Reason::NetworkPolicy, .. }) => {
                    go(cell, permit, peer, across(cell, permit, peer)?).await
                }
                connected => connected,
            };
            connected.map(|connected| Connected { took: begun.elapsed(), ..connected })
        })
    }
}

/// Goes a way that was chosen.
async fn go(cell: &Cell, permit: &Permit, peer: Peer<'_>, way: Way) -> Result<Connected, UpstreamError> {
    let (address, choice, epoch) = (peer.address, way.choice, cell.epoch());
    let (stream, goal): (Stream, _) = match way.start {
        Start::Line(line) => {
            // Into another process it is a socket, and takes its place among them.
            let taken = match line.inbox.is_elsewhere() {
                true => Some(cell.socket().await.ok_or(UpstreamError::ConnectionLimit { address })?),
                false => None,
            };
            let end = handoff::open(&cell.calls, permit, &line, address, cell.limits.connect).await?;
            (Stream::from((end, taken)), Some(Goal::Guest(line.workload)))
        }
        Start::Tunnel(workload) => {
            let trace = peer.course.trace_or(|| fastrand::u128(..));
            let callee = Callee { workload: &workload, target: address, trace };
            (cell.tunnels.open(cell, permit, callee).await?.part_of(trace).into(), None)
        }
        Start::Netns(tree, client) => {
            let stream = dial(cell, &tree, client, address).await?.into();
            let outside = way.leaves.then_some(Goal::Outside);
            (stream, way.admission.map_or(outside, |_| Some(Goal::Neighbour(tree))))
        }
    };
    let shortcut = goal.and_then(|goal| cell.shortcuts.enter(permit, goal, address, &stream)).map(Box::new);
    if shortcut.is_some() && cell.epoch() != epoch {
        stays(cell, permit, peer, choice).inspect_err(|_| stream.reset())?;
    }
    Ok(Connected { stream, choice, took: Duration::ZERO, shortcut })
}

/// Whether a way may still be gone: the configuration may have changed while the connection was being made.
fn stays(cell: &Cell, permit: &Permit, peer: Peer<'_>, made: Choice) -> Result<(), UpstreamError> {
    let now = choose(cell, permit, peer)?.choice;
    if now.why == Why::NetworkPolicy && made.why != Why::NetworkPolicy {
        return Err(UpstreamError::Declined { address: peer.address, reason: Reason::NetworkPolicy });
    }
    Ok(())
}

/// How an endpoint is reached for a permit, as far as this end can say: part of what tells pooled connections apart.
pub fn choice(cell: &Cell, permit: &Permit, peer: Peer<'_>) -> Result<Choice, UpstreamError> {
    choose(cell, permit, peer).map(|way| way.choice)
}

/// A delivery, and where it starts.
struct Way {
    choice: Choice,
    start: Start,
    /// That the receiver's policies were asked, where its own cell will not be.
    admission: Option<Admission>,
    /// Whether a Service leads out of the mesh.
    leaves: bool,
}

enum Start {
    /// A socket in the namespace of this tree. The address is what the server is to see as its client's.
    Netns(Rc<Tree>, Option<SocketAddr>),
    /// The inbox of another cell.
    Line(Line),
    /// The proxy in front of this workload.
    Tunnel(Arc<Workload>),
}

/// A peer on this node.
enum Near {
    /// Its tree is in this cell.
    Neighbour(Rc<Tree>),
    /// Its tree is in another.
    Guest(Line),
}

/// Gathers the facts, has them judged, and finds the start of the way that was chosen.
fn choose(cell: &Cell, permit: &Permit, peer: Peer<'_>) -> Result<Way, UpstreamError> {
    let near = if permit.side == Side::Inbound { None } else { near(cell, peer)? };
    let network_allows = near.as_ref().is_some_and(|near| network_allows(cell, permit, near, peer));
    way(cell, permit, peer, Known { near, network_allows })
}

/// The way to a peer of this node where the network can see it.
fn across(cell: &Cell, permit: &Permit, peer: Peer<'_>) -> Result<Way, UpstreamError> {
    way(cell, permit, peer, Known { near: near(cell, peer)?, network_allows: false })
}

/// What is known of a way that could be short.
struct Known {
    near: Option<Near>,
    network_allows: bool,
}

fn way(cell: &Cell, permit: &Permit, peer: Peer<'_>, known: Known) -> Result<Way, UpstreamError> {
    let Known { near, network_allows } = known;
    // A server cannot be shown an address of the other family; it sees its own pod's instead.
    let client = Some(permit.origin.client).filter(|client| client.is_ipv4() == peer.address.is_ipv4());
    let place = match (&near, permit.side, &permit.destination) {
        (_, Side::Inbound, _) => Place::Home,
        (Some(Near::Neighbour(_)), ..) => Place::Neighbour,
        (Some(Near::Guest(_)), ..) => Place::Guest,
        (None, _, Destination::Outside) => Place::Outside,
        (None, ..) => Place::Elsewhere,
    };
    let workload = if permit.side == Side::Inbound { None } else { workload(cell, peer) };
    let meshed = workload.as_ref().is_some_and(|workload| workload.meshed);
    let choice = choice::choose(Facts { place, meshed, network_allows });
    let across = matches!(choice.delivery, Delivery::Tunnel | Delivery::Network);
    if across && peer.pod.is_some() && workload.is_none() {
        // Whoever has the address by now is not who was meant, and must not get a byte in the clear.
        return Err(UpstreamError::Gone { address: peer.address });
    }
    peer.course.takes(choice);
    let leaves = across && workload.is_none() && near.is_none();
    if leaves {
        let caller = &permit.tree.workload.pod.namespace;
        policy::egress::admit_outside(&cell.snapshot(), caller, peer.address)
            .map_err(UpstreamError::Denied)?;
    }
    let own = |client| Start::Netns(Rc::clone(&permit.tree), client);
    let admission = match (choice.delivery, &near) {
        (Delivery::Direct, Some(Near::Neighbour(tree))) => {
            let admission = policy::admit_directly(&cell.snapshot(), permit, &tree.workload, peer.address);
            Some(admission.map_err(UpstreamError::Denied)?)
        }
        _ => None,
    };
    let start = match (choice.delivery, near) {
        (Delivery::Tunnel, _) => workload.map_or_else(|| own(None), Start::Tunnel),
        (Delivery::Direct, Some(Near::Neighbour(tree))) => Start::Netns(tree, client),
        (Delivery::Handoff, Some(Near::Guest(line))) => Start::Line(line),
        (Delivery::Local, _) => own(client),
        _ => own(None),
    };
    Ok(Way { choice, start, admission, leaves })
}

/// Whether NetworkPolicies are known to allow a delivery that the network cannot see: those of this tenant's ends. Another
/// tenant's cell asks its own.
fn network_allows(cell: &Cell, permit: &Permit, near: &Near, peer: Peer<'_>) -> bool {
    let (receiver, asked) = match near {
        Near::Neighbour(tree) => (&tree.workload, Asked::Both),
        Near::Guest(line) => (&line.workload, Asked::Source),
    };
    let (snapshot, from) = (cell.snapshot(), &permit.tree.workload);
    policy::network::between(&snapshot, asked, from, receiver, peer.address) == Evaluated::Allowed
}

/// Where on this node the peer is. An address that is another's by now, or may be in a moment, is refused.
fn near(cell: &Cell, peer: Peer<'_>) -> Result<Option<Near>, UpstreamError> {
    if let Some(tree) = neighbour(cell, peer) {
        return Ok(Some(Near::Neighbour(tree)));
    }
    let board = cell.board();
    let Some(pod) = peer.pod else { return Ok(None) };
    if board.is_gone(pod, peer.address.ip()) {
        return Err(UpstreamError::Gone { address: peer.address });
    }
    let its = |line: &&Line| {
        line.workload.tenant != cell.tenant && line.workload.addresses.contains(&peer.address.ip())
    };
    let line = board.line(pod).filter(its);
    Ok(line.cloned().map(Near::Guest))
}

/// The peer's tree, where the peer is of this tenant and on this node. That an endpoint names a pod is not enough:
/// from inside that pod's namespace nothing but the pod's own address may be dialled.
fn neighbour(cell: &Cell, peer: Peer<'_>) -> Option<Rc<Tree>> {
    cell.tree(peer.pod?).filter(|tree| tree.workload.addresses.contains(&peer.address.ip()))
}

/// Who has the peer's address. A pod that is named by an endpoint and does not have it is nobody.
fn workload(cell: &Cell, peer: Peer<'_>) -> Option<Arc<Workload>> {
    let snapshot = cell.snapshot();
    let entry = snapshot.directory.workloads.get(&peer.address.ip().to_canonical())?;
    let is_named = peer.pod.is_none_or(|pod| *pod == entry.workload.pod);
    is_named.then(|| Arc::clone(&entry.workload))
}

/// Connects from inside a tree's namespace, within the cell's share of descriptors. `client` is who the server is to see.
pub(super) async fn dial(
    cell: &Cell,
    from: &Tree,
    client: Option<SocketAddr>,
    address: SocketAddr,
) -> Result<(TcpStream, Taken), UpstreamError> {
    let taken = cell.socket().await.ok_or(UpstreamError::ConnectionLimit { address })?;
    let socket = open(cell, from, client, address);
    let socket = socket.map_err(|source| UpstreamError::Failed { address, source })?;
    Ok((finish(socket, address, cell.limits.connect).await?, taken))
}

/// A socket in the namespace where the way starts, known to steering as ours.
fn open(cell: &Cell, from: &Tree, client: Option<SocketAddr>, address: SocketAddr) -> io::Result<TcpSocket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = from
        .netns
        .run(&cell.home, || Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP)))?;
    socket::prepare(&socket, cell.limits.unacknowledged)?;
    cell.redirect.exempt(socket.as_fd(), client).map_err(|error| match error {
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
