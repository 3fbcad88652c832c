//! The thread that keeps one cell's process: starts it, passes on what the supervisor tells it, takes its counts, and waits for it.
//!
//! It is the process's parent, and the process ends with it. It must never do what the process says, nor wait for it: whatever comes
//! of the process, the supervisor hears only that the lane has ended.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use config::{identity::Identity, part};
use ebpf_redirect::Side;
use tokio::{
    runtime,
    sync::mpsc,
    time::{Instant, interval, sleep, timeout},
};

use super::{
    Ways,
    bill::Bill,
    cells::Cells,
    child::Child,
    finding::{Answers, Desk},
    group::Group,
    page::Page,
    questions::Questions,
    rows,
    words::Words,
};
use crate::{
    capture::Presence,
    forest::{
        lane::{Apart, BEAT, Ending, LaneError, LaneParts},
        message::{Plant, ToCell},
        wire::{self, Begin, LineTold, MOST_SAID, Said, Told},
    },
    handoff::{Board, courier},
    identity::authority::remote::{Parcel, Terms, desk},
    snapshot::{Snapshot, Source},
    sys::{
        packets::{self, Packets},
        process::{End, Process},
    },
    tenancy::{Ledger, Row},
};

/// How long a process may take to its first heartbeat.
const BEGIN: Duration = Duration::from_secs(30);
/// How long one that has hung up may take to end.
const LAST: Duration = Duration::from_secs(1);
/// Looks at its counts between two at its group.
const SELDOM: u32 = 20;
/// How long one may leave unread what it is told; one that beats and does not read would pin all that it was to be told.
const UNREAD: Duration = Duration::from_secs(10);

/// With what the supervisor sees of it.
#[derive(Debug)]
pub(super) struct Warden(pub(super) Apart);

/// One process, while it lives.
struct Watch {
    packets: Packets,
    page: Page,
    group: Group,
    ledger: Arc<Ledger>,
    /// Of each tree that was told of: whose, and while anything of it lives.
    trees: RefCell<HashMap<u64, Tree>>,
    questions: Questions,
    desk: Desk,
    /// The board of now: what the process calls is judged by it.
    board: RefCell<Arc<Board>>,
    cells: RefCell<Cells>,
    bill: Bill,
    /// When it is to have ended, once it was told to.
    until: Cell<Option<Instant>>,
}

/// A tree that the process was told of.
struct Tree {
    identity: Identity,
    /// What its connections have used, as the process says it.
    row: Arc<Row>,
    _presence: Presence,
    /// The daemon's end of what the process holds while anything of it lives.
    near: UnixStream,
    /// When it is to be gone, whatever the process still holds.
    until: Option<Instant>,
}

impl Warden {
    /// Starts the process and stays until it is gone, and its group with it.
    pub(super) fn run(self, parts: LaneParts) -> Result<Ending, LaneError> {
        parts.arena.bind().map_err(LaneError::SetUp)?;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(LaneError::SetUp)?;
        runtime.block_on(async {
            let (ours, theirs) = packets::pair().map_err(LaneError::SetUp)?;
            let (desk, asked) = Desk::new();
            let answers = Answers::new(parts.find.clone(), parts.tenant.clone(), asked);
            let watch = Watch {
                packets: Packets::new(ours).map_err(LaneError::SetUp)?,
                page: Page::new(&parts.ledger).map_err(LaneError::SetUp)?,
                group: Group::make(&parts.tenant, &parts.snapshot.budget),
                ledger: Arc::clone(&parts.ledger),
                trees: RefCell::default(),
                questions: Questions::default(),
                desk,
                board: RefCell::default(),
                cells: RefCell::default(),
                bill: Bill::after(&parts.ledger, Arc::clone(&self.0.used)),
                until: Cell::default(),
            };
            // After the group, so that it goes before it, even in a panic.
            let (child, stderr) = Child::start(theirs).map_err(LaneError::SetUp)?;
            let process = child.0.clone();
            let mut words = Words::new(stderr, &parts.tenant).map_err(LaneError::SetUp)?;
            let _ = self.0.started.set(process.clone());
            watch.group.admit(process.id());
            tracing::info!(tenant = %parts.tenant, pid = process.id(), "a cell's process begins");
            let outcome = tokio::select! {
                biased;
                outcome = watch.stay(parts, answers, (&process, &self.0.running)) => outcome,
                never = words.log() => never,
            };
            drop(child);
            words.last();
            outcome
        })
    }
}

impl Watch {
    async fn stay(
        &self,
        parts: LaneParts,
        mut answers: Answers,
        (process, running): (&Process, &OnceLock<Process>),
    ) -> Result<Ending, LaneError> {
        let LaneParts { snapshot, mut inbox, redirect, identity, tenant, ways, find, .. } = parts;
        let Some(Ways { letters, its_letters, its_log }) = ways else {
            return Err(LaneError::Died("nothing was opened for it".to_owned()));
        };
        let steering = redirect.delegate().map_err(|error| LaneError::Died(error.to_string()))?;
        let (asks, asked) = mpsc::channel(desk::WAITING);
        let (tells, mut parcels) = mpsc::channel(1);
        let begin = Begin {
            tenant: tenant.clone(),
            limits: parts.limits,
            site: (*parts.site).clone(),
            counts: self.ledger.words(),
            source: source(&snapshot),
            steering: steering.bytes(),
            logs: its_log.is_some(),
            finds: find.is_some(),
            terms: Terms::of(&*identity.authority),
        };
        drop((snapshot, redirect));
        let told = async {
            let mut descriptors = vec![self.page.as_fd(), its_letters.as_fd()];
            descriptors.extend(its_log.as_ref().map(AsFd::as_fd));
            descriptors.extend(steering.descriptors());
            self.send(&Told::Begin(Box::new(begin)), &descriptors).await?;
            // The process alone has its ends from now on.
            drop(descriptors);
            drop((its_letters, its_log, steering));
            while let Some(message) = inbox.recv().await {
                self.tell(message).await?;
            }
            // Nobody keeps it any more.
            Ok(Ending::Superseded)
        };
        let calls = async {
            let error = courier::forward(letters, &tenant, || Arc::clone(&self.board.borrow())).await;
            hung_up(error.to_string()).await
        };
        let line = desk::Line { asks: asked, tells };
        let certificates = async {
            let served = desk::serve(identity, line, |identity| self.is_its_own(identity)).await;
            match served {
                Err(error) => LaneError::Died(error.to_string()),
                Ok(()) => std::future::pending().await,
            }
        };
        let parcels = async {
            while let Some(Parcel { bytes, descriptors }) = parcels.recv().await {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                self.send(&Told::Certificates(bytes), &descriptors).await?;
            }
            std::future::pending().await
        };
        let found = async {
            loop {
                let (address, is_known) = answers.next().await;
                self.send(&Told::Found { address, is_known }, &[]).await?;
            }
        };
        let outcome = tokio::select! {
            biased;
            _ = process.gone() => {
                // As long as it is not waited for, its clock is there.
                self.bill.write(process, &self.ledger);
                process.end().map_err(LaneError::SetUp).and_then(ending)
            }
            told = told => told,
            told = parcels => told,
            told = found => told,
            error = certificates => Err(error),
            error = calls => Err(error),
            error = self.listen(&asks) => Err(error),
            error = self.look(process, running) => Err(error),
        };
        // What it counted last.
        let _ = self.page.read_into(&self.ledger);
        self.bill.write(process, &self.ledger);
        self.bill.held_back(self.group.throttled(), &self.ledger);
        outcome
    }

    async fn send(&self, told: &Told, descriptors: &[BorrowedFd<'_>]) -> Result<(), LaneError> {
        let sent = timeout(UNREAD, wire::send(&self.packets, told, descriptors)).await;
        sent.map_err(|_late| LaneError::Died("it reads nothing".to_owned()))?.map_err(|error| died(&error))
    }

    /// Passes on one message. A description is asked for under a number of its own.
    async fn tell(&self, message: ToCell) -> Result<(), LaneError> {
        let told = match message {
            ToCell::Plant(plant) => return self.plant(plant).await,
            ToCell::Uproot { pod, tree, grace } => {
                if let Some(tree) = self.trees.borrow_mut().get_mut(&tree) {
                    tree.until = after(grace);
                }
                Told::Uproot { pod, tree, grace }
            }
            ToCell::Board(board) => self.board(board),
            ToCell::Swap(snapshot) => {
                self.group.limit(&snapshot.budget);
                // By nothing it would decide as if nobody had any policy.
                let Some(source) = snapshot.source.as_deref() else { return Ok(()) };
                Told::Swap(Box::new(source.clone()))
            }
            ToCell::Share(connections) => Told::Share(connections as u64),
            ToCell::Describe(answer) => match self.questions.ask(answer) {
                Some(number) => Told::Describe { number },
                None => return Ok(()),
            },
            ToCell::Unlisten { tree, grace } => Told::Unlisten { tree, grace },
            ToCell::Finish => Told::Finish,
            ToCell::Drain { grace } => {
                self.until.set(after(grace));
                Told::Drain { grace }
            }
        };
        self.send(&told, &[]).await
    }

    fn board(&self, board: Arc<Board>) -> Told {
        let mut cells = self.cells.borrow_mut();
        let lines = board.lines().map(|line| LineTold {
            workload: (*part::as_others_see(&line.workload)).clone(),
            tree: line.tree,
            cell: cells.number(&line.inbox),
        });
        let told =
            Told::Board { version: board.version, lines: lines.collect(), absent: board.absent().clone() };
        self.board.replace(board);
        told
    }

    async fn plant(&self, plant: Plant) -> Result<(), LaneError> {
        let Plant { workload, netns, tree, listeners, presence, row } = plant;
        let (near, far) = UnixStream::pair().map_err(LaneError::SetUp)?;
        near.set_nonblocking(true).map_err(LaneError::SetUp)?;
        let mut descriptors = vec![netns.as_fd(), far.as_fd()];
        descriptors.extend(listeners.iter().map(AsFd::as_fd));
        let told = Told::Plant {
            workload: Box::new((*workload).clone()),
            tree,
            listeners: listeners.iter().map(|one| (one.side == Side::Inbound, one.address)).collect(),
            counts: row.words(),
        };
        let identity = workload.identity.clone();
        self.trees.borrow_mut().insert(tree, Tree { identity, row, _presence: presence, near, until: None });
        self.send(&told, &descriptors).await
    }

    /// Whether a workload that it serves has this identity, or one that it no longer serves and whose connections may still go on.
    fn is_its_own(&self, identity: &Identity) -> bool {
        let is_there = |tree: &Tree| tree.until.is_none_or(|until| Instant::now() < until);
        self.trees.borrow().values().any(|tree| tree.identity == *identity && is_there(tree))
    }

    /// Hears what the process says, until it says what is no word of ours.
    async fn listen(&self, asks: &mpsc::Sender<Vec<u8>>) -> LaneError {
        loop {
            match wire::receive_measured::<Said>(&self.packets, MOST_SAID).await {
                Ok(Some((said, _, bytes))) => self.hear(said, bytes, asks),
                Ok(None) => return hung_up("it hung up".to_owned()).await,
                Err(error) => return died(&error),
            }
        }
    }

    fn hear(&self, said: Said, bytes: usize, asks: &mpsc::Sender<Vec<u8>>) {
        match said {
            Said::Described { number, tree } => self.questions.hear(number, tree, bytes),
            Said::Find(address) => self.desk.hear(address),
            // With too many waiting it is dropped: whoever asks, asks again.
            Said::Certificates(question) => drop(asks.try_send(question)),
            Said::Rows(told) => {
                rows::hear(told, |tree| self.trees.borrow().get(&tree).map(|tree| Arc::clone(&tree.row)));
            }
        }
    }

    /// Takes its counts, ten times a second, and lets go of what it has let go of.
    async fn look(&self, process: &Process, running: &OnceLock<Process>) -> LaneError {
        let beats = || self.ledger.heartbeats.load(Relaxed);
        let (before, begun) = (beats(), Instant::now());
        let (mut beat, mut last, mut looks) = (interval(BEAT / 2), before, (0..SELDOM).cycle());
        loop {
            beat.tick().await;
            if let Err(error) = self.page.read_into(&self.ledger) {
                return LaneError::Died(error.to_string());
            }
            // What it has used since it last beat is what it may be stuck with.
            if std::mem::replace(&mut last, beats()) != last {
                self.bill.write(process, &self.ledger);
            }
            if looks.next() == Some(0) {
                self.bill.held_back(self.group.throttled(), &self.ledger);
            }
            if running.get().is_none() {
                if last != before {
                    running.get_or_init(|| process.clone());
                } else if begun.elapsed() > BEGIN {
                    return LaneError::Died("it did not begin".to_owned());
                }
            }
            self.trees.borrow_mut().retain(|_, tree| is_held(&tree.near));
            if self.until.get().is_some_and(|until| Instant::now() > until) {
                return LaneError::Died("it did not end when it was told to".to_owned());
            }
        }
    }
}

/// A little after what may last so long is to be over; none where that is never.
fn after(grace: Duration) -> Option<Instant> {
    Instant::now().checked_add(grace)?.checked_add(LAST)
}

/// Whether the other end is still open.
fn is_held(near: &UnixStream) -> bool {
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    !rustix::net::recv(near, &mut [0_u8][..], flags).is_ok_and(|(_, read)| read == 0)
}

/// One that has hung up is about to end, and how it ends says more.
async fn hung_up(why: String) -> LaneError {
    sleep(LAST).await;
    LaneError::Died(why)
}

fn source(snapshot: &Snapshot) -> Source {
    // There is none of a tenant that nothing was compiled for yet.
    snapshot.source.as_deref().cloned().unwrap_or_default()
}

fn ending(end: Option<End>) -> Result<Ending, LaneError> {
    match end {
        Some(End::Exited(0)) | None => Ok(Ending::Finished),
        Some(End::Exited(code)) => Err(LaneError::Died(format!("it ended with code {code}"))),
        Some(End::Killed(signal)) => Err(LaneError::Died(format!("it was ended by signal {signal}"))),
    }
}

fn died(error: &wire::WireError) -> LaneError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    LaneError::Died(format!("{error}{cause}"))
}
