//! Single decisions, live: the hooks write one record each into a ring while somebody watches, one thread reads
//! it and gives every watcher what he asked for. A watcher who is slow loses records, never delays a hook.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
};
use ebpf_redirect_abi::{Decision as Record, Event, Hook};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{address::socket_addr, state::State, tables::Tables};
use crate::{RedirectError, sys::bpf};

/// Which decisions to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this pod (`NAMESPACE/NAME`).
    pub pod: Option<String>,
}

/// One decision of one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Since the machine started.
    pub at: Duration,
    /// The hook, for example `connect4`.
    pub hook: &'static str,
    /// What it decided, for example `steered`, `passed_loopback`, `refused_no_listener`.
    pub event: &'static str,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// `NAMESPACE/NAME`, if the namespace is (still) enrolled.
    pub pod: Option<Arc<str>>,
    /// The connecting end; port 0 where it is not chosen yet.
    pub source: SocketAddr,
    /// Where it connects to.
    pub destination: SocketAddr,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = self.pod.as_deref().unwrap_or("-");
        write!(
            f,
            "{:>14.6} {:<12} {:<20} {pod} {} -> {}",
            self.at.as_secs_f64(),
            self.hook,
            self.event,
            self.source,
            self.destination
        )
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Trace {
    decisions: Receiver<Decision>,
    lost: Arc<AtomicU64>,
}

impl Trace {
    /// The next decision; `None` if there is none in that time, or none will ever be.
    pub fn next(&self, patience: Duration) -> Option<Decision> {
        self.decisions.recv_timeout(patience).ok()
    }

    /// How many this watcher has lost because he was slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The ring and who watches it.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absent while the reading thread has it. Mapped into memory only then: it would be half a megabyte of an idle daemon's.
    ring: Option<Unmapped>,
    watchers: Vec<Watcher>,
}

/// The ring while nobody reads it.
#[derive(Debug)]
struct Unmapped(Map);

impl Unmapped {
    fn map(&self) -> Result<RingBuf<&MapData>, RedirectError> {
        RingBuf::try_from(&self.0)
            .map_err(|error| RedirectError::syscall("map", "the trace's ring", io::Error::other(error)))
    }
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    decisions: SyncSender<Decision>,
    lost: Arc<AtomicU64>,
}

impl Watch {
    /// Takes the ring; nobody watches yet, whatever a dead process left.
    pub(crate) fn new(ebpf: &mut Ebpf, tables: &Tables) -> Result<Self, RedirectError> {
        let missing = || RedirectError::Object { object: "hooks", why: "it has no ring TRACE".to_owned() };
        let ring = Unmapped(ebpf.take_map("TRACE").ok_or_else(missing)?);
        tables
            .watched
            .set(&0, &0)
            .map_err(|error| RedirectError::syscall("write", "the trace switch", error))?;
        Ok(Self { inner: Mutex::new(Inner { ring: Some(ring), watchers: Vec::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a watcher; the first starts the reading thread.
pub(crate) fn subscribe(state: &Arc<State>, filter: Filter) -> Result<Trace, RedirectError> {
    let (sender, decisions) = mpsc::sync_channel(BACKLOG);
    let lost = Arc::new(AtomicU64::new(0));
    let mut inner = state.watch.lock();
    inner.watchers.push(Watcher { filter, decisions: sender, lost: Arc::clone(&lost) });
    if let Some(ring) = inner.ring.take() {
        let failed = |error| RedirectError::syscall("switch on", "the trace", error);
        state.tables.watched.set(&0, &1).map_err(failed)?;
        // The thread maps it again for itself, which then does not fail: a map cannot be lent to it.
        drop(ring.map()?);
        // Weak: a thread that waits for the next decision must not keep the hooks in the kernel.
        let weak = Arc::downgrade(state);
        thread::Builder::new().name("trace".to_owned()).spawn(move || read(&weak, ring)).map_err(failed)?;
    }
    Ok(Trace { decisions, lost })
}

/// Reads until nobody watches.
fn read(state: &Weak<State>, unmapped: Unmapped) {
    let Ok(mut ring) = unmapped.map() else { return };
    loop {
        wait(&ring);
        let Some(state) = state.upgrade() else { return };
        let mut inner = state.watch.lock();
        while let Some(item) = ring.next() {
            if let Some(decision) =
                bpf::from_bytes::<Record>(&item).and_then(|record| explain(&state, &record))
            {
                inner.watchers.retain(|watcher| watcher.tell(&decision));
            }
        }
        inner.watchers.retain(Watcher::is_there);
        if inner.watchers.is_empty() {
            drop(state.tables.watched.set(&0, &0));
            drop(ring);
            inner.ring = Some(unmapped);
            return;
        }
    }
}

fn wait(ring: &RingBuf<&MapData>) {
    let mut fds = [PollFd::new(ring, PollFlags::IN)];
    let timeout = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, Some(&timeout));
}

fn explain(state: &State, record: &Record) -> Option<Decision> {
    Some(Decision {
        at: Duration::from_nanos(record.at),
        hook: Hook::of(record.hook)?.name(),
        event: Event::of(record.event)?.name(),
        netns: record.netns,
        pod: state.registry.pod(record.netns),
        source: socket_addr(&record.source),
        destination: socket_addr(&record.destination),
    })
}

impl Watcher {
    /// Whether the other owner of the counter, who watches, still lives.
    fn is_there(&self) -> bool {
        Arc::strong_count(&self.lost) > 1
    }

    /// Whether he still watches.
    fn tell(&self, decision: &Decision) -> bool {
        if self.filter.pod.is_some() && self.filter.pod.as_deref() != decision.pod.as_deref() {
            return true;
        }
        match self.decisions.try_send(decision.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Decisions that wait for one watcher.
const BACKLOG: usize = 4096;
