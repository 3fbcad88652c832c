//! What the path of a connection needs where iptables steers: socket options, and the process's own counts.
//!
//! Nothing has to be given to a process for it but the right to set a mark and a foreign address (CAP_NET_ADMIN). It must never
//! touch a rule.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use socket2::{Domain, SockAddr, SockRef};

use super::rules;
use crate::{
    Counter, Enrolled, Enrolment, ListenPlan, Mechanism, Origin, Redirect, RedirectError, Side, Spared,
    delegation::refused, sys,
};

/// What counters say of where something was counted.
#[derive(Debug)]
pub(crate) struct Hooks {
    pub(crate) output: &'static str,
    pub(crate) prerouting: &'static str,
    pub(crate) accept: &'static str,
}

impl Hooks {
    pub(crate) const IPTABLES: Self =
        Self { output: "iptables_output", prerouting: "iptables_prerouting", accept: "iptables_accept" };
}

/// A [`Redirect`] for the path of connections.
#[derive(Debug)]
pub(crate) struct Delegated {
    hooks: Hooks,
    outbound_steered: AtomicU64,
    inbound_steered: AtomicU64,
    refused_not_steered: AtomicU64,
    exempted: AtomicU64,
}

impl Delegated {
    pub(crate) fn new(hooks: Hooks) -> Self {
        let [outbound_steered, inbound_steered, refused_not_steered, exempted] =
            std::array::from_fn(|_| AtomicU64::new(0));
        Self { hooks, outbound_steered, inbound_steered, refused_not_steered, exempted }
    }
}

impl Redirect for Delegated {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Iptables
    }

    /// The rules name the ports the listeners got, so any will do.
    fn listen_plan(&self) -> ListenPlan {
        ListenPlan {
            outbound_v4: (Ipv4Addr::LOCALHOST, 0).into(),
            outbound_v6: (Ipv6Addr::LOCALHOST, 0).into(),
            inbound_v4: (Ipv4Addr::UNSPECIFIED, 0).into(),
            inbound_v6: (Ipv6Addr::UNSPECIFIED, 0).into(),
            transparent: false,
        }
    }

    fn enrol(&self, _: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        refused("enrol a pod")
    }

    /// With `client`, the socket is bound to the client's address and any port: the client's own port may be taken.
    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError> {
        self.exempted.fetch_add(1, Relaxed);
        let socket = SockRef::from(&socket);
        socket.set_mark(rules::PROXY_MARK).map_err(|e| RedirectError::syscall("SO_MARK", "a delivery", e))?;
        let Some(client) = client else { return Ok(()) };
        let family = socket.domain().map_err(|e| RedirectError::syscall("SO_DOMAIN", "a delivery", e))?;
        let is_of_family = match client {
            SocketAddr::V4(_) => family == Domain::IPV4,
            SocketAddr::V6(_) => family == Domain::IPV6,
        };
        if !is_of_family {
            return Ok(());
        }
        speak_as(&socket, client.ip()).map_err(|e| RedirectError::syscall("bind", client, e))
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        let socket = SockRef::from(&accepted);
        let destination =
            if accept_addr.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
        let local = socket.local_addr().map_err(|e| RedirectError::syscall("getsockname", accept_addr, e))?;
        // Without NAT, or where connection tracking knows nothing of it, somebody dialled the listener itself.
        let destination =
            destination.ok().and_then(|to| to.as_socket()).filter(|to| Some(*to) != local.as_socket());
        let Some(destination) = destination else {
            self.refused_not_steered.fetch_add(1, Relaxed);
            return Err(RedirectError::NotSteered);
        };
        match side {
            Side::Outbound => self.outbound_steered.fetch_add(1, Relaxed),
            Side::Inbound => self.inbound_steered.fetch_add(1, Relaxed),
        };
        Ok(Origin { destination, client: accept_addr })
    }

    fn release_unclaimed(&self, _: Spared<'_>) -> Result<usize, RedirectError> {
        refused("release pods")
    }

    /// Of this process alone.
    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        let counter = |hook, event, count: &AtomicU64| Counter { hook, event, count: count.load(Relaxed) };
        Ok(vec![
            counter(self.hooks.output, "steered", &self.outbound_steered),
            counter(self.hooks.prerouting, "steered", &self.inbound_steered),
            counter(self.hooks.accept, "refused_not_steered", &self.refused_not_steered),
            counter(self.hooks.output, "passed_exempt", &self.exempted),
        ])
    }
}

/// Makes a socket connect from an address that is not this namespace's.
fn speak_as(socket: &SockRef<'_>, client: IpAddr) -> io::Result<()> {
    match client {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => sys::socket::set_transparent_v6(socket.as_fd())?,
    }
    // The port is chosen at connect, by the whole tuple: otherwise one client address had 28,000 ports in all.
    sys::socket::set_bind_address_no_port(socket.as_fd())?;
    socket.bind(&SockAddr::from(SocketAddr::new(client, 0)))
}
