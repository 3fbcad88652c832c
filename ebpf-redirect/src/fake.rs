//! A [`Redirect`] that steers nothing, for unit tests: the accepted connection's own addresses are its origin,
//! unless a test says otherwise.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
};

use crate::{
    Counter, Enrolled, Enrolment, ListenPlan, Listeners, Mechanism, Origin, Redirect, RedirectError, Side,
};

/// A [`Redirect`] whose answers a test sets.
#[derive(Debug, Default)]
pub struct FakeRedirect {
    destinations: Mutex<HashMap<SocketAddr, SocketAddr>>,
}

impl FakeRedirect {
    /// Says that connections from `client` were going to `destination`.
    pub fn steer(&self, client: SocketAddr, destination: SocketAddr) {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner).insert(client, destination);
    }
}

impl Redirect for FakeRedirect {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Fake
    }

    fn listen_plan(&self) -> ListenPlan {
        let v4 = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        let v6 = SocketAddr::from((IpAddr::V6(Ipv6Addr::LOCALHOST), 0));
        ListenPlan { outbound_v4: v4, outbound_v6: v6, inbound_v4: v4, inbound_v6: v6, transparent: false }
    }

    fn enrol(&self, _: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        Ok(Box::new(FakeEnrolled))
    }

    fn exempt(&self, _: BorrowedFd<'_>, _: Option<SocketAddr>) -> Result<(), RedirectError> {
        Ok(())
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        let destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let told = destinations.get(&accept_addr).copied();
        // Inbound, nothing is rewritten: the socket itself says where it was going.
        let own = || (side == Side::Inbound).then(|| own_address(accepted)).flatten();
        let destination = told.or_else(own).ok_or(RedirectError::NotSteered)?;
        Ok(Origin { destination, client: accept_addr })
    }

    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        Ok(Vec::new())
    }
}

fn own_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok()?.try_into().ok()
}

#[derive(Debug)]
struct FakeEnrolled;

impl Enrolled for FakeEnrolled {
    fn replace_listeners(&mut self, _: &Listeners<'_>) -> Result<(), RedirectError> {
        Ok(())
    }
}
