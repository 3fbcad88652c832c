//! Listening sockets inside a pod's network namespace.
//!
//! Where they are bound is steering's wish ([`ListenPlan`]). They are made on the calling thread, which is back home
//! before this returns. Nothing here may listen on an address that the pod's neighbours can reach unsteered.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use ebpf_redirect::{ListenPlan, Listeners, Side};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys::{netns::Netns, socket};

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
    /// Makes them all, or none. IPv6 ones only where the pod has IPv6. What they accept gives up a peer that leaves data
    /// `unacknowledged` for so long.
    pub fn bind(
        netns: &Netns,
        home: &Netns,
        plan: &ListenPlan,
        ipv6: bool,
        unacknowledged: Duration,
    ) -> Result<Self, ListenError> {
        let mut wanted = vec![(Side::Outbound, plan.outbound_v4), (Side::Inbound, plan.inbound_v4)];
        if ipv6 {
            wanted.extend([(Side::Outbound, plan.outbound_v6), (Side::Inbound, plan.inbound_v6)]);
        }
        let options = Options { transparent: plan.transparent, unacknowledged };
        let bound = netns.run(home, || {
            raise_backlog_limit();
            Ok(wanted
                .into_iter()
                .map(|(side, address)| listen(side, address, options))
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

    /// Those that another process has made and handed over.
    pub fn handed_over(listeners: impl Iterator<Item = (Side, SocketAddr, OwnedFd)>) -> Self {
        Self(listeners.map(|(side, address, socket)| Listener { side, address, socket }).collect())
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

#[derive(Debug, Clone, Copy)]
struct Options {
    transparent: bool,
    unacknowledged: Duration,
}

fn listen(side: Side, address: SocketAddr, options: Options) -> Result<Listener, ListenError> {
    let make = || -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Accepted sockets hold the pod's own address and port; without this a restarting app meets EADDRINUSE.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if options.transparent {
            set_transparent(&socket, address)?;
        }
        // Before it listens: what a connection inherits, it inherits when the kernel makes it, which may be long before it
        // is accepted.
        socket::prepare(&socket, options.unacknowledged)?;
        if side == Side::Outbound {
            // The pod's own apps, which are here.
            socket::unpaced(&socket)?;
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn what_is_queued_before_anybody_accepts_has_every_option_as_well() {
        let home = Netns::current().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let plan = ListenPlan {
            outbound_v4: any,
            outbound_v6: any,
            inbound_v4: any,
            inbound_v6: any,
            transparent: false,
        };
        let bound = PodListeners::bind(&home, &home, &plan, false, Duration::from_secs(30)).unwrap();
        for listener in bound {
            // The kernel completes it by itself: nobody has touched the listener since.
            let client = TcpStream::connect(listener.address).unwrap();
            let (side, congestion) = (listener.side, sockopt::tcp_congestion(&client).unwrap());
            let listener = TcpListener::from(listener);
            listener.set_nonblocking(false).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 30_000);
            assert!(
                sockopt::tcp_nodelay(&accepted).unwrap() && sockopt::socket_keepalive(&accepted).unwrap()
            );
            assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(60));
            assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), Duration::from_secs(10));
            let expected = if side == Side::Outbound { "reno" } else { &*congestion };
            assert_eq!(sockopt::tcp_congestion(&accepted).unwrap(), expected, "{side:?}");
        }
    }
}
