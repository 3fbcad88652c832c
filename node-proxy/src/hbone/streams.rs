//! The streams of one tunnel together: how many there are, whether it is about to end, and why it was cut.
//!
//! Shared by the streams and by who drives the connection. It must never keep a stream alive.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use config::identity::Identity;
use h2::RecvStream;

use crate::{stream::Outflow, telemetry::Reason};

/// Streams of which the other side's end is awaited after ours, per connection.
const LINGERING: usize = 256;

/// The streams of one connection, as those see it who use it and who drives it.
#[derive(Default)]
pub struct Streams {
    open: Cell<usize>,
    /// Closed on our side; the peer has not ended them yet.
    lingering: RefCell<Vec<(RecvStream, u8)>>,
    driver: RefCell<Option<Waker>>,
    ending: Cell<bool>,
    /// Why all of them are over.
    cut: Cell<Option<Reason>>,
    /// As whom the other end was proven, on the side that opens streams.
    peer: OnceCell<Rc<Identity>>,
    /// Whether the other end takes what it is sent.
    outflow: Outflow,
}

/// One open stream; counted until dropped.
#[derive(Debug)]
pub struct Open(Rc<Streams>);

impl Open {
    pub(super) fn streams(&self) -> &Rc<Streams> {
        &self.0
    }
}

impl Streams {
    /// Counts one more.
    pub fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }

    /// Streams of a connection whose other end was proven to be this.
    pub fn with(peer: Identity) -> Self {
        Self { peer: Rc::new(peer).into(), ..Self::default() }
    }

    /// Whether the other end takes what it is sent. Who drives the connection notes it.
    pub fn outflow(&self) -> &Outflow {
        &self.outflow
    }

    /// As whom the other end was proven; of what was opened from here.
    pub fn peer(&self) -> Option<Rc<Identity>> {
        self.peer.get().map(Rc::clone)
    }

    /// Says that the peer wants the connection to end.
    pub fn end(&self) {
        self.ending.set(true);
    }

    /// Whether the peer wants the connection to end: what is idle on it is to be closed.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Says that the connection ends now, and why; its streams hear of it when it has.
    pub fn cut(&self, reason: Reason) {
        self.ending.set(true);
        self.cut.set(Some(reason));
    }

    /// Why the connection was [cut](Self::cut), if it was.
    pub fn cut_because(&self) -> Option<Reason> {
        self.cut.get()
    }

    /// How many the connection has.
    pub fn count(&self) -> usize {
        self.open.get() + self.lingering.borrow().len()
    }

    /// Looks after streams that are closed on our side. For the connection's driver, at each turn.
    pub fn poll_lingering(&self, cx: &mut Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        match &mut *driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(driver);
        let mut lingering = self.lingering.borrow_mut();
        if !lingering.is_empty() {
            lingering.retain_mut(|(received, _)| discard(received, cx));
        }
    }

    /// Gives up streams whose other side has not ended them for a whole period.
    pub fn age(&self) {
        self.lingering.borrow_mut().retain_mut(|(_, age)| {
            *age += 1;
            *age <= 2
        });
    }

    pub(super) fn linger(&self, received: RecvStream) {
        let mut lingering = self.lingering.borrow_mut();
        if lingering.len() < LINGERING {
            lingering.push((received, 0));
        }
        drop(lingering);
        self.wake();
    }

    /// Gives the driver a turn.
    pub fn wake(&self) {
        let driver = self.driver.borrow();
        if let Some(driver) = &*driver {
            driver.wake_by_ref();
        }
    }
}

/// Whether its end is still to be awaited. As with a socket that was closed: where bytes come instead, nobody reads them, and who
/// sends them is told so by a reset.
fn discard(received: &mut RecvStream, cx: &mut Context<'_>) -> bool {
    loop {
        match received.poll_data(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                drop(received.flow_control().release_capacity(bytes.len()));
                if !bytes.is_empty() {
                    return false;
                }
            }
            Poll::Ready(Some(Err(_)) | None) => return false,
            Poll::Pending => return true,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            // Who drives the connection may have waited for that.
            self.0.wake();
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.open.get()).finish_non_exhaustive()
    }
}
