//! A [`Redirect`] that steers nothing, for unit tests: the accepted connection's own addresses are its origin,
//! unless a test says otherwise.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    Counter, Enrolled, Enrolment, Exclusions, Gate, ListenPlan, Listeners, Mechanism, Origin, Parting,
    Redirect, RedirectError, Side, Spared, WayBack, gate::Gates,
};

/// A [`Redirect`] whose answers a test sets.
#[derive(Debug, Default)]
pub struct FakeRedirect {
    /// Of a client: where it was going, if that is known.
    destinations: Mutex<HashMap<SocketAddr, Option<SocketAddr>>>,
    ways_back: Arc<AtomicUsize>,
    left: Arc<Mutex<Vec<Parting>>>,
    enrolments: AtomicUsize,
    unclaimed: Arc<Mutex<HashSet<Place>>>,
    gates: OnceLock<Gates>,
}

/// Device and inode of a namespace's file.
type Place = (u64, u64);

impl FakeRedirect {
    /// Says that connections from `client` were going to `destination`.
    pub fn steer(&self, client: SocketAddr, destination: SocketAddr) {
        lock(&self.destinations).insert(client, Some(destination));
    }

    /// Says that the kernel does not tell where connections from `client` were going.
    pub fn hide(&self, client: SocketAddr) {
        lock(&self.destinations).insert(client, None);
    }

    /// How many pods are not steered any more, but have a way back that is held.
    pub fn ways_back(&self) -> usize {
        self.ways_back.load(Relaxed)
    }

    /// How pods were left, in that order.
    pub fn left(&self) -> Vec<Parting> {
        lock(&self.left).clone()
    }

    /// Says that a process which has ended left whoever is in this namespace.
    pub fn leave_behind(&self, netns: BorrowedFd<'_>) {
        lock(&self.unclaimed).extend(place(netns));
    }

    /// How many pods are refused that nobody has enrolled.
    pub fn unclaimed(&self) -> usize {
        lock(&self.unclaimed).len()
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

    fn gate(&self) -> Option<Gate> {
        self.gates.get_or_init(|| Gates::own(64)).take()
    }

    fn listen_plan(&self) -> ListenPlan {
        let v4 = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        let v6 = SocketAddr::from((IpAddr::V6(Ipv6Addr::LOCALHOST), 0));
        ListenPlan { outbound_v4: v4, outbound_v6: v6, inbound_v4: v4, inbound_v6: v6, transparent: false }
    }

    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        self.enrolments.fetch_add(1, Relaxed);
        let place = place(pod.netns);
        lock(&self.unclaimed).retain(|left| Some(*left) != place);
        let (ways_back, left) = (Arc::clone(&self.ways_back), Arc::clone(&self.left));
        Ok(Box::new(FakeEnrolled { ways_back, left, place, unclaimed: Arc::clone(&self.unclaimed) }))
    }

    fn release_unclaimed(&self, spared: Spared<'_>) -> Result<usize, RedirectError> {
        let Spared::These(namespaces) = spared else { return Ok(0) };
        let spared: HashSet<Place> = namespaces.iter().filter_map(|netns| place(*netns)).collect();
        Ok(lock(&self.unclaimed).extract_if(|left| !spared.contains(left)).count())
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
        let destinations = lock(&self.destinations);
        let told = match destinations.get(&accept_addr) {
            Some(None) => {
                let unknown = io::ErrorKind::NotFound.into();
                return Err(RedirectError::syscall("origin", "an accepted socket", unknown));
            }
            told => told.copied().flatten(),
        };
        // Inbound, nothing is rewritten: the socket itself says where it was going.
        let own = || (side == Side::Inbound).then(|| own_address(accepted)).flatten();
        let destination = told.or_else(own).ok_or(RedirectError::NotSteered)?;
        Ok(Origin { destination, client: accept_addr })
    }

    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        Ok(Vec::new())
    }
}

fn place(netns: BorrowedFd<'_>) -> Option<Place> {
    rustix::fs::fstat(netns).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok()?.try_into().ok()
}

#[derive(Debug)]
struct FakeEnrolled {
    ways_back: Arc<AtomicUsize>,
    left: Arc<Mutex<Vec<Parting>>>,
    place: Option<Place>,
    unclaimed: Arc<Mutex<HashSet<Place>>>,
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
        lock(&self.left).push(parting);
        lock(&self.unclaimed).extend(self.place);
    }

    fn set_exclusions(&mut self, _: &Exclusions, _: &Listeners<'_>) -> Result<(), RedirectError> {
        Ok(())
    }

    fn replace_listeners(&mut self, _: &Listeners<'_>) -> Result<(), RedirectError> {
        Ok(())
    }
}
