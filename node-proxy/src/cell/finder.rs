//! Destinations that the snapshot does not have yet: asked for on first use, where a control plane knows more than this node.
//!
//! Who dials one waits, for a bounded time, and so do a bounded number of a cell's connections. A destination of which nobody says
//! whether it is of the mesh must never be passed through: it may be a pod that takes no plaintext, or one behind a proxy of its own.

use std::{
    cell::{Cell as Slot, RefCell},
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use config::name::TenantId;
use futures_util::future::BoxFuture;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How long an answer is waited for, and then what was answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Connections of one cell that wait at a time. Those beyond are refused, since nobody's dialling around is to hold memory.
const WAITING: usize = 1024;
/// Addresses that are remembered to be outside.
const OUTSIDE: usize = 4096;
/// For how long: who asks again is answered by what is known on the node, which is told when that changes.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What there is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Something of the mesh: a snapshot that has it is on its way.
    Known,
    /// Nothing of the mesh.
    Outside,
    /// Nobody can say.
    Unanswered,
}

/// Who can be asked. One of a daemon, shared by its cells.
pub trait Find: Send + Sync + fmt::Debug {
    /// What there is at an address that a tenant's pod has dialled.
    fn find(&self, tenant: &TenantId, address: IpAddr) -> BoxFuture<'static, Found>;
}

/// A cell's own way of asking.
#[derive(Debug)]
pub struct Finder {
    tenant: TenantId,
    find: Option<Arc<dyn Find>>,
    outside: RefCell<HashMap<IpAddr, Instant>>,
    waiting: Slot<usize>,
    swapped: Notify,
}

/// Nobody says what a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

impl Finder {
    /// Asks this one; where there is none, everything that there is, is in the snapshot.
    pub fn new(tenant: TenantId, find: Option<Arc<dyn Find>>) -> Self {
        let (outside, waiting, swapped) = (RefCell::default(), Slot::default(), Notify::default());
        Self { tenant, find, outside, waiting, swapped }
    }

    /// A new snapshot is in place.
    pub fn swapped(&self) {
        self.swapped.notify_waiters();
    }

    /// Whether it is to be asked about an address that the snapshot does not have.
    pub fn is_open(&self, address: IpAddr) -> bool {
        let is_remembered = || {
            let outside = self.outside.borrow();
            outside.get(&address).is_some_and(|until| Instant::now() < *until)
        };
        self.find.is_some() && !is_nobodys(address) && !is_remembered()
    }

    /// Waits until `look` finds what there is at an address; `None` if it is outside.
    pub async fn find<T>(&self, address: IpAddr, look: impl Fn() -> Option<T>) -> Result<Option<T>, Unknown> {
        let Some(find) = &self.find else { return Ok(None) };
        let _place = Place::take(&self.waiting).ok_or(Unknown)?;
        let found = async {
            match find.find(&self.tenant, address).await {
                Found::Outside => {
                    self.remember(address);
                    Ok(None)
                }
                Found::Unanswered => Err(Unknown),
                Found::Known => self.wait_for(&look).await.map(Some).ok_or(Unknown),
            }
        };
        timeout(PATIENCE, found).await.unwrap_or(Err(Unknown))
    }

    async fn wait_for<T>(&self, look: &impl Fn() -> Option<T>) -> Option<T> {
        loop {
            // Before the look: what is swapped in after it is not missed.
            let swapped = self.swapped.notified();
            if let Some(found) = look() {
                return Some(found);
            }
            swapped.await;
        }
    }

    fn remember(&self, address: IpAddr) {
        let mut outside = self.outside.borrow_mut();
        let now = Instant::now();
        if outside.len() >= OUTSIDE {
            outside.retain(|_, until| now < *until);
        }
        // Beyond that each is asked for anew.
        if outside.len() < OUTSIDE {
            outside.insert(address, now + REMEMBERED);
        }
    }
}

/// Whether an address is nobody's whom others could ask about: the pod's own, or of many.
pub(crate) fn is_nobodys(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

/// One of those who wait.
struct Place<'a>(&'a Slot<usize>);

impl<'a> Place<'a> {
    fn take(waiting: &'a Slot<usize>) -> Option<Self> {
        let others = waiting.get();
        (others < WAITING).then(|| {
            waiting.set(others + 1);
            Self(waiting)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;

    /// Answers as it is told, and counts how often it was asked.
    #[derive(Debug)]
    struct Told(Option<Found>, Mutex<usize>);

    impl Find for Told {
        fn find(&self, _tenant: &TenantId, _address: IpAddr) -> BoxFuture<'static, Found> {
            *self.1.lock().unwrap() += 1;
            match self.0 {
                Some(found) => Box::pin(std::future::ready(found)),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    fn tenant() -> TenantId {
        TenantId::Namespace("shop".try_into().unwrap())
    }

    fn finder(found: Option<Found>) -> (Arc<Told>, Finder) {
        let told = Arc::new(Told(found, Mutex::new(0)));
        (Arc::clone(&told), Finder::new(tenant(), Some(told)))
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    #[tokio::test(start_paused = true)]
    async fn what_is_outside_is_asked_for_once_a_second() {
        let (told, finder) = finder(Some(Found::Outside));
        for _ in 0..3 {
            if finder.is_open(ADDRESS) {
                assert_eq!(finder.find(ADDRESS, || None::<()>).await, Ok(None));
            }
        }
        assert_eq!(*told.1.lock().unwrap(), 1);
        tokio::time::advance(REMEMBERED).await;
        assert!(finder.is_open(ADDRESS), "what is known on the node may have changed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_waited_for_until_a_snapshot_has_it() {
        let (_, finder) = finder(Some(Found::Known));
        let there = Slot::new(false);
        let find = finder.find(ADDRESS, || there.get().then_some("it"));
        let swap = async {
            tokio::task::yield_now().await;
            finder.swapped();
            tokio::task::yield_now().await;
            there.set(true);
            finder.swapped();
        };
        let (found, ()) = tokio::join!(find, swap);
        assert_eq!(found, Ok(Some("it")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_says_anything_of_is_never_outside() {
        for (found, why) in [
            (Some(Found::Unanswered), "nobody can be asked"),
            (Some(Found::Known), "it never comes"),
            (None, "no answer comes"),
        ] {
            let (_, finder) = finder(found);
            assert_eq!(finder.find(ADDRESS, || None::<()>).await, Err(Unknown), "{why}");
            assert!(finder.is_open(ADDRESS), "{why}: and it is asked again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_cell_may_have_waiting_are_told_so_at_once_and_places_are_given_back() {
        let (told, finder) = finder(None);
        let mut waiting: Vec<_> =
            (0..WAITING).map(|_| Box::pin(finder.find(ADDRESS, || None::<()>))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        assert_eq!(finder.find(ADDRESS, || None::<()>).await, Err(Unknown));
        assert_eq!(*told.1.lock().unwrap(), WAITING);
        drop(waiting);
        assert_eq!(finder.waiting.get(), 0);
    }

    #[test]
    fn a_cell_that_knows_everything_asks_nobody_and_nobody_is_asked_about_the_pod_itself() {
        assert!(!Finder::new(tenant(), None).is_open(ADDRESS));
        let (_, finder) = finder(None);
        assert!(finder.is_open(ADDRESS));
        for own in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert!(!finder.is_open(own.parse().unwrap()), "{own}");
        }
    }
}
