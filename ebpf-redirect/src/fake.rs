//! A [`Redirect`] that steers nothing, for unit tests: the accepted connection's own addresses are its origin,
//! unless a test says otherwise.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    Counter, Enrolled, Enrolment, Exclusions, ListenPlan, Listeners, Mechanism, Origin, Parting, Redirect,
    RedirectError, Side, WayBack,
};

/// A [`Redirect`] whose answers a test sets.
#[derive(Debug, Default)]
pub struct FakeRedirect {
    destinations: Mutex<HashMap<SocketAddr, SocketAddr>>,
    ways_back: Arc<AtomicUsize>,
    left: Arc<Mutex<Vec<Parting>>>,
    enrolments: AtomicUsize,
}

impl FakeRedirect {
    /// Says that connections from `client` were going to `destination`.
    pub fn steer(&self, client: SocketAddr, destination: SocketAddr) {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner).insert(client, destination);
    }

    /// How many pods are not steered any more, but have a way back that is held.
    pub fn ways_back(&self) -> usize {
        self.ways_back.load(Relaxed)
    }

    /// How pods were left, in that order.
    pub fn left(&self) -> Vec<Parting> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many pods were enrolled so far, each time counted.
    pub fn enrolments(&self) -> usize {
        self.enrolments.load(Relaxed)
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
        self.enrolments.fetch_add(1, Relaxed);
        let (ways_back, left) = (Arc::clone(&self.ways_back), Arc::clone(&self.left));
        Ok(Box::new(FakeEnrolled { ways_back, left }))
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
struct FakeEnrolled {
    ways_back: Arc<AtomicUsize>,
    left: Arc<Mutex<Vec<Parting>>>,
}

#[derive(Debug)]
struct FakeWayBack(Arc<AtomicUsize>);

impl WayBack for FakeWayBack {}

impl Drop for FakeWayBack {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Enrolled for FakeEnrolled {
    fn release(self: Box<Self>) -> Option<Box<dyn WayBack>> {
        self.ways_back.fetch_add(1, Relaxed);
        Some(Box::new(FakeWayBack(self.ways_back)))
    }

    fn leave(self: Box<Self>, parting: Parting) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(parting);
    }

    fn set_exclusions(&mut self, _: &Exclusions, _: &Listeners<'_>) -> Result<(), RedirectError> {
        Ok(())
    }

    fn replace_listeners(&mut self, _: &Listeners<'_>) -> Result<(), RedirectError> {
        Ok(())
    }
}
