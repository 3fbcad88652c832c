//! Listening sockets inside a pod's network namespace.
//!
//! Where they are bound is steering's wish ([`ListenPlan`]). They are made on the calling thread, which is back home
//! before this returns. Nothing here may listen on an address that the pod's neighbours can reach unsteered.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ebpf_redirect::{ListenPlan, Listeners, Side};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys::netns::Netns;

/// Connections that wait to be accepted: as many as the kernel's default `somaxconn` since 5.4.
const BACKLOG: i32 = 4096;

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Which way its connections go.
    pub side: Side,
    /// Where it is bound.
    pub address: SocketAddr,
    socket: OwnedFd,
}

/// The listening sockets of one pod.
#[derive(Debug)]
pub struct PodListeners(Vec<Listener>);

/// A listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The namespace cannot be entered.
    #[error("its network namespace cannot be entered (Canopy needs CAP_SYS_ADMIN for that)")]
    Enter(#[source] io::Error),
    /// Another socket of the pod has the address.
    #[error(
        "{address} is in use in the pod's network namespace: end what listens there (`ss -ltnp` inside it)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address} in the pod's network namespace")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl PodListeners {
    /// Makes them all, or none. IPv6 ones only where the pod has IPv6.
    pub fn bind(netns: &Netns, home: &Netns, plan: &ListenPlan, ipv6: bool) -> Result<Self, ListenError> {
        let mut wanted = vec![(Side::Outbound, plan.outbound_v4), (Side::Inbound, plan.inbound_v4)];
        if ipv6 {
            wanted.extend([(Side::Outbound, plan.outbound_v6), (Side::Inbound, plan.inbound_v6)]);
        }
        let transparent = plan.transparent;
        let bound = netns.run(home, || {
            raise_backlog_limit();
            Ok(wanted
                .into_iter()
                .map(|(side, address)| listen(side, address, transparent))
                .collect::<Result<Vec<_>, _>>())
        });
        bound.map_err(ListenError::Enter)?.map(Self)
    }

    /// The sockets, as steering wants to know them.
    pub fn borrow(&self) -> Listeners<'_> {
        let find = |side, v4| {
            let fits = |listener: &&Listener| listener.side == side && listener.address.is_ipv4() == v4;
            self.0.iter().find(fits).map(|listener| listener.socket.as_fd())
        };
        Listeners {
            outbound_v4: find(Side::Outbound, true),
            outbound_v6: find(Side::Outbound, false),
            inbound_v4: find(Side::Inbound, true),
            inbound_v6: find(Side::Inbound, false),
        }
    }

    /// Second descriptors of the same sockets: what waits in their backlogs is not lost when one set is closed.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |Listener { side, address, socket }: &Listener| {
            Ok(Listener { side: *side, address: *address, socket: socket.try_clone()? })
        };
        Ok(Self(self.0.iter().map(clone).collect::<io::Result<_>>()?))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.0.iter()
    }
}

impl IntoIterator for PodListeners {
    type Item = Listener;
    type IntoIter = std::vec::IntoIter<Listener>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Listener> for std::net::TcpListener {
    fn from(listener: Listener) -> Self {
        listener.socket.into()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn listen(side: Side, address: SocketAddr, transparent: bool) -> Result<Listener, ListenError> {
    let make = || -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Accepted sockets hold the pod's own address and port; without this a restarting app meets EADDRINUSE.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if transparent {
            set_transparent(&socket, address)?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Listener { side, address, socket: socket.into() })
    };
    make().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Bind { address, source },
    })
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

/// `somaxconn` is per network namespace, and caps the backlog silently. Best effort: a lower cap means that bursts of
/// connections are retried by their clients' kernels, not that anything is lost.
fn raise_backlog_limit() {
    const PATH: &str = "/proc/sys/net/core/somaxconn";
    let limit = fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if limit.is_some_and(|limit| limit < BACKLOG)
        && let Err(error) = fs::write(PATH, BACKLOG.to_string())
    {
        tracing::debug!(%error, "a pod's somaxconn stays below the listeners' backlog");
    }
}
