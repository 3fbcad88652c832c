//! What a cell's process asks about destinations that its snapshot does not have: its own end, and the daemon's.
//!
//! The process may ask for anything, as often as it likes: the daemon looks at a bounded number of its questions at a time, and what
//! is beyond waits for nothing. It must never learn more than whether an address is of the mesh.

use std::{
    collections::HashMap,
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use config::name::TenantId;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::cell::{Find, Found, finder};

/// Questions of one process that wait at a time.
pub(super) const WAITING: usize = 64;

/// The process's end: asks the daemon.
#[derive(Debug)]
pub(super) struct Asking {
    asks: mpsc::Sender<IpAddr>,
    /// Who waits for what is said of an address.
    waiting: Mutex<HashMap<IpAddr, Vec<oneshot::Sender<Found>>>>,
}

impl Asking {
    /// With what comes of it to be sent to the daemon.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<IpAddr>) {
        let (asks, asked) = mpsc::channel(WAITING);
        (Arc::new(Self { asks, waiting: Mutex::default() }), asked)
    }

    /// What the daemon says.
    pub(super) fn hear(&self, address: IpAddr, is_known: Option<bool>) {
        let found = match is_known {
            Some(true) => Found::Known,
            Some(false) => Found::Outside,
            None => Found::Unanswered,
        };
        for waiting in self.waiting().remove(&address).unwrap_or_default() {
            // Who asked may have stopped waiting.
            let _ = waiting.send(found);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<oneshot::Sender<Found>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Find for Asking {
    fn find(&self, _tenant: &TenantId, address: IpAddr) -> BoxFuture<'static, Found> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting();
        // Of questions that the daemon had no room for, nobody hears any more.
        if waiting.len() >= 2 * WAITING {
            waiting.retain(|_, all| all.iter().any(|one| !one.is_closed()));
        }
        let others = waiting.entry(address).or_default();
        others.retain(|other| !other.is_closed());
        // One question is enough for all, unless the one before found no room.
        let is_asked = !others.is_empty() || self.asks.try_send(address).is_ok();
        if !is_asked {
            waiting.remove(&address);
            return ready(Found::Unanswered).boxed();
        }
        others.push(answer);
        answered.map(|found| found.unwrap_or(Found::Unanswered)).boxed()
    }
}

/// The daemon's end: looks for what one process asks.
#[derive(Debug)]
pub(super) struct Desk {
    asks: mpsc::Sender<IpAddr>,
}

impl Desk {
    /// With what has been asked.
    pub(super) fn new() -> (Self, mpsc::Receiver<IpAddr>) {
        let (asks, asked) = mpsc::channel(WAITING);
        (Self { asks }, asked)
    }

    /// A question. With too many waiting it is dropped: who asked gives up after a while, and asks again.
    pub(super) fn hear(&self, address: IpAddr) {
        let _ = self.asks.try_send(address);
    }
}

/// What is found for each question, as soon as it is; for ever.
#[derive(Debug)]
pub(super) struct Answers {
    asked: mpsc::Receiver<IpAddr>,
    find: Option<Arc<dyn Find>>,
    tenant: TenantId,
    open: FuturesUnordered<BoxFuture<'static, (IpAddr, Found)>>,
}

impl Answers {
    /// By this one; where there is none, nothing is ever asked for.
    pub(super) fn new(find: Option<Arc<dyn Find>>, tenant: TenantId, asked: mpsc::Receiver<IpAddr>) -> Self {
        Self { asked, find, tenant, open: FuturesUnordered::new() }
    }

    /// The next answer, as it is told.
    pub(super) async fn next(&mut self) -> (IpAddr, Option<bool>) {
        let Some(find) = &self.find else { return pending().await };
        loop {
            tokio::select! {
                Some(address) = self.asked.recv(), if self.open.len() < WAITING => {
                    // Who asked waits no longer.
                    let found = timeout(finder::PATIENCE, find.find(&self.tenant, address));
                    self.open.push(found.map(move |found| (address, found.unwrap_or(Found::Unanswered))).boxed());
                }
                Some((address, found)) = self.open.next(), if !self.open.is_empty() => {
                    let is_known = match found {
                        Found::Known => Some(true),
                        Found::Outside => Some(false),
                        Found::Unanswered => None,
                    };
                    return (address, is_known);
                }
                else => return pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn tenant() -> TenantId {
        TenantId::Namespace("shop".try_into().unwrap())
    }

    #[derive(Debug)]
    struct Knows(IpAddr);

    impl Find for Knows {
        fn find(&self, _tenant: &TenantId, address: IpAddr) -> BoxFuture<'static, Found> {
            ready(if address == self.0 { Found::Known } else { Found::Outside }).boxed()
        }
    }

    #[tokio::test]
    async fn what_a_process_asks_is_answered_by_the_daemon_and_asked_once_for_all_who_wait() {
        let (asking, mut sent) = Asking::new();
        let (desk, asked) = Desk::new();
        let mut answers = Answers::new(Some(Arc::new(Knows(ADDRESS))), tenant(), asked);
        let waiting = [ADDRESS, ADDRESS, [10, 0, 0, 8].into()].map(|address| asking.find(&tenant(), address));
        for _ in 0..2 {
            desk.hear(sent.try_recv().unwrap());
            let (address, is_known) = answers.next().await;
            asking.hear(address, is_known);
        }
        assert!(sent.try_recv().is_err(), "two that wait for one address ask once");
        let found = futures_util::future::join_all(waiting).await;
        assert_eq!(found, [Found::Known, Found::Known, Found::Outside]);
        assert!(asking.waiting().is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_room_for_a_question_is_told_so_at_once() {
        let (asking, _sent) = Asking::new();
        let address = |last: u8| IpAddr::from([10, 0, 1, last]);
        let waiting: Vec<_> = (0..64).map(|last| asking.find(&tenant(), address(last))).collect();
        assert_eq!(asking.find(&tenant(), address(64)).await, Found::Unanswered);
        drop(waiting);
        asking.hear(address(0), None);
        assert_eq!(asking.waiting().len(), 63, "what is answered is not kept");
        for last in 65..=255 {
            drop(asking.find(&tenant(), address(last)));
        }
        assert!(asking.waiting().len() <= 2 * WAITING, "nor, for ever, what nobody waits for");
    }
}
