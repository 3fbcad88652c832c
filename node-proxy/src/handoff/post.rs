//! Wake-ups between cells, gathered: a cell is woken once per turn of another's event loop, not once per connection.
//!
//! Waking another thread is a system call and, where both share a CPU, often a switch to it, in the middle of what could have been
//! one batch. So a cell notes which pipes it wrote to, and passes the notes on when all tasks that were ready have run. It must
//! never hold a note back while it has nothing else to do.

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::pipe::Note;

/// Notes that may lie in a post. A pipe has at most one each way in it; with more pipes than that, the rest are woken
/// one by one.
const NOTES: usize = 512;

/// Notes that are gathered before they are passed on without waiting for the end of the turn: where the other cell has a CPU of
/// its own, it should not idle while a long turn goes on. Eight requests for one switch leave little to gain.
const GATHERED: usize = 8;

/// Where a cell is told which of its pipes can be read.
pub struct Post {
    notes: ArrayQueue<Note>,
    taker: AtomicWaker,
}

/// What this thread has to tell others.
#[derive(Default)]
struct Outbox {
    /// This thread's own post, while it is served.
    own: Option<Arc<Post>>,
    /// The task that serves it.
    server: Option<Waker>,
    due: Vec<(Arc<Post>, Note)>,
}

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

impl Default for Post {
    fn default() -> Self {
        Self { notes: ArrayQueue::new(NOTES), taker: AtomicWaker::new() }
    }
}

/// The post of the calling thread, where one is served.
pub(super) fn own() -> Option<Arc<Post>> {
    OUTBOX.try_with(|outbox| outbox.borrow().own.clone()).ok().flatten()
}

/// Passes a note on at the end of this turn; at once where this thread serves no post.
pub(super) fn send(post: &Arc<Post>, note: Note) {
    let mut note = Some(note);
    let server = OUTBOX.try_with(|outbox| {
        let mut outbox = outbox.borrow_mut();
        outbox.own.as_ref()?;
        outbox.due.extend(note.take().map(|note| (Arc::clone(post), note)));
        if outbox.due.len() >= GATHERED {
            pass_on(&mut outbox.due);
        }
        outbox.server.take()
    });
    if let Ok(Some(server)) = server {
        server.wake();
    }
    if let Some(note) = note {
        note.deliver();
    }
}

/// Delivers what comes to a thread's post, and sends what the thread has to tell. To be run as a task of its own, so that it has
/// its turn after those that were ready before.
pub async fn serve(post: Arc<Post>) {
    let _served = Served::begin(&post);
    let mut due = Vec::new();
    poll_fn(|cx| {
        post.taker.register(cx.waker());
        while let Some(note) = post.notes.pop() {
            note.deliver();
        }
        collect(cx, &mut due);
        pass_on(&mut due);
        Poll::<()>::Pending
    })
    .await;
}

fn collect(cx: &Context<'_>, due: &mut Vec<(Arc<Post>, Note)>) {
    OUTBOX.with_borrow_mut(|outbox| {
        outbox.server = Some(cx.waker().clone());
        std::mem::swap(&mut outbox.due, due);
    });
}

/// All notes first, then whoever has to read them.
fn pass_on(due: &mut Vec<(Arc<Post>, Note)>) {
    let mut last: Option<Arc<Post>> = None;
    for (post, note) in due.drain(..) {
        if let Err(note) = post.notes.push(note) {
            note.deliver();
        }
        if let Some(before) = last.replace(post)
            && last.as_ref().is_some_and(|last| !Arc::ptr_eq(last, &before))
        {
            before.taker.wake();
        }
    }
    if let Some(last) = last {
        last.taker.wake();
    }
}

/// Says that this thread serves its post, until dropped; what is due then is told at once.
struct Served;

impl Served {
    fn begin(post: &Arc<Post>) -> Self {
        OUTBOX.with_borrow_mut(|outbox| outbox.own = Some(Arc::clone(post)));
        Self
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let outbox = OUTBOX.try_with(RefCell::take).unwrap_or_default();
        outbox.due.into_iter().for_each(|(_, note)| note.deliver());
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({} notes)", self.notes.len())
    }
}
