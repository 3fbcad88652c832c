//! A cell's thread: its event loop, its trees' accept loops, its heartbeat.
//!
//! It takes messages from the supervisor and carries connections. It must never wait for the supervisor, nor for
//! any other cell.

use std::{
    io,
    rc::Rc,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

use config::name::TenantId;
use ebpf_redirect::Redirect;
use tokio::{runtime, sync::mpsc, task::LocalSet};

pub(super) use self::clock::Clock;

use self::grove::{Event, Grove};
use super::{message::ToCell, process::Ways};
use crate::{
    cell::{Cell, CellParts, Find, Limits},
    handoff::{self, Inbox},
    hbone::Site,
    identity::credentials::Sources,
    snapshot::Snapshot,
    sys::{
        arena::Arena,
        beat::Beat,
        clock::{Class, Doing, ThreadId},
        netns::Netns,
        process::Process,
        sockets::Sockets,
    },
    telemetry::AccessLog,
    tenancy::{Ledger, Tenure, cpu::Pacer, meter},
    upstream::connect::Connect,
};

mod clock;
mod grove;

/// Time between two heartbeats.
pub(super) const BEAT: Duration = Duration::from_millis(100);
/// Virtual; only what is touched is paid for.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// What a lane is started with.
pub(super) struct LaneParts {
    pub(super) tenant: TenantId,
    pub(super) redirect: Arc<dyn Redirect>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) access_log: AccessLog,
    pub(super) limits: Limits,
    pub(super) site: Arc<Site>,
    pub(super) tenure: Tenure,
    pub(super) sockets: Sockets,
    pub(super) connect: fn() -> Rc<dyn Connect>,
    pub(super) identity: Sources,
    pub(super) find: Option<Arc<dyn Find>>,
    pub(super) arena: Arc<Arena>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) handoffs: Arc<Inbox>,
    pub(super) inbox: mpsc::Receiver<ToCell>,
    /// What its process is given, where it has one of its own.
    pub(super) ways: Option<Ways>,
    /// The CPU time that is the cell's.
    pub(super) clock: fn() -> Duration,
}

/// A running lane, as the supervisor sees it.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its thread, or that of its process's warden.
    pub(super) thread: JoinHandle<Result<Ending, LaneError>>,
    /// Its thread's number, once it runs; never that of a warden.
    pub(super) id: Arc<OnceLock<ThreadId>>,
    /// What that thread, or that of the warden, has used.
    pub(super) clock: Arc<Clock>,
    /// If it has a process of its own.
    pub(super) process: Option<Apart>,
}

/// A process of its own, as far as it has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Apart {
    /// Set when it is started.
    pub(super) started: Arc<OnceLock<Process>>,
    /// Set at its first heartbeat: until then nobody can say that it is stuck.
    pub(super) running: Arc<OnceLock<Process>>,
    /// Nanoseconds of its CPU clock, as the kernel said them last.
    pub(super) used: Arc<AtomicU64>,
}

/// What runs a cell.
#[derive(Debug, Clone)]
pub(super) enum Runner {
    /// A thread of this process.
    Thread(ThreadId),
    /// A process of its own.
    Process(Process),
}

/// How a lane ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to, and has nothing left.
    Finished,
    /// Another serves the tenant now.
    Superseded,
}

/// Why a lane could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    /// The thread could not be set up.
    #[error("the cell's thread could not be set up")]
    SetUp(#[source] io::Error),
    /// A listener could not be taken over, or broke.
    #[error("a listener does not work")]
    Listener(#[source] io::Error),
    /// Its process is gone, or was given up.
    #[error("the cell's process is gone: {0}")]
    Died(String),
}

impl Runner {
    /// The CPU time it has used; an error when it has ended.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        match self {
            Self::Thread(id) => id.cpu(),
            Self::Process(process) => process.cpu(),
        }
    }

    /// What it does now.
    pub(super) fn doing(&self) -> Doing {
        match self {
            Self::Thread(id) => id.doing(),
            Self::Process(process) => process.doing(),
        }
    }
}

impl Lane {
    /// Starts a lane's thread.
    pub(super) fn start(parts: LaneParts) -> io::Result<Self> {
        let id = Arc::new(OnceLock::new());
        let (its, clock) = (Arc::clone(&id), Arc::new(Clock::default()));
        let begins = Arc::clone(&clock);
        // The kernel keeps 15 bytes of it: enough to know a tenant in `top -H`.
        let builder = thread::Builder::new().name(parts.tenant.as_str().to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            let _running = begins.begins();
            its.get_or_init(ThreadId::current);
            run(parts)
        })?;
        Ok(Self { thread, id, clock, process: None })
    }

    /// Whether it is a process of its own.
    pub(super) fn is_process(&self) -> bool {
        self.process.is_some()
    }

    /// The number of its process, where it has one of its own.
    pub(super) fn place(&self) -> Option<i32> {
        Some(self.process.as_ref()?.started.get()?.id())
    }

    /// What runs it, once it runs.
    pub(super) fn runner(&self) -> Option<Runner> {
        match &self.process {
            Some(process) => process.running.get().cloned().map(Runner::Process),
            None => self.id.get().copied().map(Runner::Thread),
        }
    }

    /// Gives it up: a process is ended, and all it holds with it; a thread has only what others leave it.
    pub(super) fn give_up(&self) {
        if let Some(process) = self.process.as_ref().and_then(|process| process.started.get()) {
            return process.kill();
        }
        if let Some(id) = self.id.get()
            && let Err(error) = id.change_class(Class::Idle)
        {
            tracing::debug!(%error, "a thread that was given up keeps its share of the CPU");
        }
    }
}

fn run(parts: LaneParts) -> Result<Ending, LaneError> {
    // First of all, so that everything the cell allocates is its own.
    parts.arena.bind().map_err(LaneError::SetUp)?;
    let home = Netns::current().map_err(LaneError::SetUp)?;
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().on_thread_park(meter::sleeps).on_thread_unpark(meter::wakes);
    let runtime = builder.build().map_err(LaneError::SetUp)?;
    let tenure = parts.tenure.clone();
    let mut pacer = Pacer::new(Arc::clone(&parts.ledger));
    let local = LocalSet::new();
    let mut life = local.spawn_local(live(parts, home));
    // Asked at every turn of the loop, so that a cell that was given up serves nobody when it comes back.
    let turn = std::future::poll_fn(|cx| {
        if tenure.is_over() {
            return Poll::Ready(Ok(Ok(Ending::Superseded)));
        }
        pacer.turn();
        std::pin::Pin::new(&mut life).poll(cx)
    });
    local.block_on(&runtime, turn).unwrap_or_else(|ended| {
        // Only a panic ends it so; the supervisor sees it as the thread's.
        std::panic::resume_unwind(ended.into_panic())
    })
}

async fn live(parts: LaneParts, home: Netns) -> Result<Ending, LaneError> {
    let LaneParts { mut inbox, arena: _arena, connect, snapshot, handoffs, clock, .. } = parts;
    let before = Duration::from_nanos(parts.ledger.cpu_nanos.load(std::sync::atomic::Ordering::Relaxed));
    let cell = Cell::with_connect(
        CellParts {
            tenant: parts.tenant,
            redirect: parts.redirect,
            ledger: parts.ledger,
            access_log: parts.access_log,
            limits: parts.limits,
            site: parts.site,
            home,
            tenure: parts.tenure,
            sockets: parts.sockets,
            identity: parts.identity,
            find: parts.find,
        },
        connect(),
    );
    cell.tell_share();
    cell.swap(snapshot);
    drop(tokio::task::spawn_local(handoff::serve(Arc::clone(handoffs.post()))));
    let mut grove = Grove::new(Rc::clone(&cell), handoffs);
    let mut certificates = Box::pin(Rc::clone(&cell.credentials).run());
    let beat = Beat::every(BEAT).map_err(LaneError::SetUp)?;
    loop {
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => grove.obey(message).map_err(LaneError::Listener)?,
                // The supervisor is gone: so is the daemon.
                None => return Ok(Ending::Finished),
            },
            beaten = beat.next() => {
                beaten.map_err(LaneError::SetUp)?;
                let cpu = before + clock();
                cell.ledger.beat(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX));
                cell.tell_share();
                cell.weigh();
                cell.tell_costs();
                cell.access_log.flush();
                grove.look();
                handoff::sweep();
            }
            never = &mut certificates => match never {},
            event = grove.event() => return match event {
                Event::BrokenListener(error) => Err(LaneError::Listener(error)),
                Event::Finished => Ok(Ending::Finished),
            },
        }
    }
}
