//! A cell's own process, from its first frame to its end: takes frames apart, and feeds the lane that any cell is.
//!
//! The lane has a thread of its own, as in the daemon; here is what stands between it and the daemon's [warden](super::warden). It
//! must never carry a connection, nor outlive the daemon.

use std::{
    collections::VecDeque,
    ffi::CString,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use config::name::TenantId;
use ebpf_redirect::{Delegation, Mechanism, RedirectError, Side};
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
    time::{Instant, interval, sleep, timeout},
};

use super::{finding::Asking, lines::Switchboard, page::Page, rows::Rows};
use crate::{
    capture::Presence,
    control::compile,
    forest::{
        describe::TreeDescription,
        lane::{BEAT, Lane, LaneParts},
        message::{INBOX, Plant, ToCell},
        wire::{self, Begin, Ends, MOST_TOLD, Said, Told, WireError},
    },
    handoff::{
        Board, Inbox,
        courier::{self, Courier},
    },
    identity::authority::remote::{Parcel, Remote, Terms, desk},
    sys::{
        arena::{self, Arena},
        clock,
        confinement::{self, ConfinementError, Steered},
        listen::PodListeners,
        netns::Netns,
        packets::Packets,
        sockets::Sockets,
    },
    telemetry::AccessLog,
    tenancy::{Ledger, Row, Throne, costs::HeapFigures},
    upstream::connect::Connect,
};

/// How often the allocator is asked what is live.
const ACCOUNT: Duration = Duration::from_secs(1);
/// How long the lane may take to describe itself; the daemon's caller waits as long.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why a cell's process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Nobody told it anything.
    #[error("canopy cell is started by the daemon alone, for tenants of isolation class process")]
    Alone,
    /// What came is not what the daemon says.
    #[error("the daemon cannot be understood")]
    Wire(#[from] WireError),
    /// It was told to go on before it was told to begin.
    #[error("the daemon did not say how to begin")]
    NoBeginning,
    /// What steering gave out is of no use.
    #[error("its sockets cannot be told from others'")]
    Steering(#[source] RedirectError),
    /// It can do more than it should.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// The system does not give what it needs.
    #[error("the cell's process could not be set up")]
    SetUp(#[source] io::Error),
    /// Its lane does not take what it is told.
    #[error("the cell does not take its messages")]
    Deaf,
    /// Its lane has failed.
    #[error("the cell could not go on: {0}")]
    Failed(String),
}

/// The cell, as this process serves it.
struct Boundary {
    packets: Rc<Packets>,
    page: Page,
    ledger: Arc<Ledger>,
    /// Heartbeats of its predecessors.
    began_with: u64,
    arena: Arc<Arena>,
    rows: Rows,
    compiler: compile::Told,
    remote: Remote,
    /// What is asked about certificates, where anybody answers.
    questions: Option<mpsc::Receiver<Vec<u8>>>,
    /// What is asked about destinations.
    asking: Arc<Asking>,
    asked: mpsc::Receiver<IpAddr>,
    switchboard: Switchboard,
    /// Takes handoffs in.
    guests: Pin<Box<dyn Future<Output = io::Error>>>,
    inbox: mpsc::Sender<ToCell>,
    lane: Option<Lane>,
}

/// Serves the cell whose daemon is at the other end of this socket. Returns when the cell has ended, or the daemon is gone.
///
/// `log` starts the log: when the process can do no more than it needs.
pub async fn serve<L>(socket: OwnedFd, log: impl FnOnce() -> L) -> Result<(), CellError> {
    let packets = Packets::new(socket).map_err(|_not_a_socket| CellError::Alone)?;
    let Some((Told::Begin(begin), descriptors)) = wire::receive(&packets, MOST_TOLD).await? else {
        return Err(CellError::NoBeginning);
    };
    let given = Given::of(&begin, descriptors)?;
    // Before there is another thread.
    confinement::leave_network()?;
    confinement::drop_capabilities(given.steered()?)?;
    arena::start_thread().map_err(CellError::SetUp)?;
    let _log = log();
    // As operators find it among processes; the kernel keeps 15 bytes.
    name_process(&begin.tenant);
    let boundary = Boundary::begin(packets, *begin, given)?;
    boundary.first_beat().await;
    // By now everything is open that is opened by a path.
    confinement::restrict_calls()?;
    LocalSet::new().run_until(boundary.stay()).await
}

/// What came with the first frame.
struct Given {
    page: Page,
    letters: Arc<OwnedFd>,
    log: Option<OwnedFd>,
    steering: Delegation,
}

impl Given {
    fn of(begin: &Begin, descriptors: Vec<OwnedFd>) -> Result<Self, CellError> {
        let mut descriptors = VecDeque::from(descriptors);
        let (got, wanted) = (descriptors.len(), 2 + usize::from(begin.logs));
        let mut next = || descriptors.pop_front().ok_or(WireError::Descriptors { got, wanted });
        let (page, letters) = (next()?.into(), Arc::new(next()?));
        let log = if begin.logs { Some(next()?) } else { None };
        let steering = Delegation::from_parts(&begin.steering, descriptors.into());
        Ok(Self { page, letters, log, steering: steering.map_err(CellError::Steering)? })
    }

    fn steered(&self) -> Result<Steered, CellError> {
        match self.steering.mechanism() {
            Mechanism::Kernel => Ok(Steered::Hooks),
            Mechanism::Iptables | Mechanism::Nftables => Ok(Steered::Marks),
            mechanism @ Mechanism::Fake => {
                Err(CellError::Steering(RedirectError::CannotDelegate { mechanism }))
            }
        }
    }
}

impl Boundary {
    fn begin(packets: Packets, begin: Begin, given: Given) -> Result<Self, CellError> {
        let Begin { tenant, limits, site, counts, source, terms, finds, .. } = begin;
        let Given { page, letters, log, steering } = given;
        let redirect = steering.redirect().map_err(CellError::Steering)?;
        let handoffs = Arc::new(Inbox::default());
        let (asks, questions) = mpsc::channel(desk::WAITING);
        // Without terms nobody answers.
        let remote = Remote::new(&terms.clone().unwrap_or_else(no_terms), asks);
        let ledger = Arc::new(Ledger::default());
        ledger.take(&counts);
        let began_with = ledger.heartbeats.load(Relaxed);
        let mut compiler = compile::Told::new(tenant.clone(), &source.node_addresses);
        let (inbox, messages) = mpsc::channel(INBOX);
        let (asking, asked) = Asking::new();
        let arena = Arc::new(Arena::take().map_err(CellError::SetUp)?);
        let lane = Lane::start(LaneParts {
            snapshot: compiler.compile(source),
            redirect,
            ledger: Arc::clone(&ledger),
            access_log: log.map(|socket| AccessLog::to_daemon(socket, &tenant)).unwrap_or_default(),
            tenant,
            limits,
            site: Arc::new(site),
            tenure: Throne::default().succeed(),
            sockets: Sockets::default(),
            connect: connector,
            identity: remote.sources(),
            find: finds.then(|| asking.clone() as Arc<dyn crate::cell::Find>),
            arena: Arc::clone(&arena),
            handoffs: Arc::clone(&handoffs),
            ways: None,
            inbox: messages,
            // All of it is the tenant's.
            clock: clock::process_cpu,
        });
        let lane = Some(lane.map_err(CellError::SetUp)?);
        let switchboard = Switchboard::new(Courier::to_the_daemon(Arc::clone(&letters)));
        let guests = Box::pin(courier::receive(letters, handoffs));
        let questions = terms.map(|_| questions);
        let packets = Rc::new(packets);
        Ok(Self {
            packets,
            page,
            ledger,
            began_with,
            arena,
            rows: Rows::default(),
            compiler,
            remote,
            questions,
            asking,
            asked,
            switchboard,
            guests,
            inbox,
            lane,
        })
    }

    /// Waits until the lane runs, or has ended.
    async fn first_beat(&self) {
        let before = self.began_with;
        let has_ended = || self.lane.as_ref().is_none_or(|lane| lane.thread.is_finished());
        while self.ledger.heartbeats.load(Relaxed) == before && !has_ended() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn stay(mut self) -> Result<(), CellError> {
        let (mut beat, mut accounted) = (interval(BEAT / 2), Instant::now());
        loop {
            tokio::select! {
                told = wire::receive(&self.packets, MOST_TOLD) => match told? {
                    Some((told, descriptors)) => self.take(told, descriptors)?,
                    // The daemon is gone. What runs here goes with the process.
                    None => return Ok(()),
                },
                // Its other end is the same daemon's: that it is gone, the first says as well.
                error = &mut self.guests => return if is_end(&error) { Ok(()) } else { Err(CellError::SetUp(error)) },
                question = next(&mut self.questions) => {
                    wire::send(&self.packets, &Said::Certificates(question), &[]).await?;
                }
                Some(address) = self.asked.recv() => {
                    wire::send(&self.packets, &Said::Find(address), &[]).await?;
                }
                _ = beat.tick() => {
                    if accounted.elapsed() >= ACCOUNT {
                        accounted = Instant::now();
                        self.account();
                        for rows in self.rows.news() {
                            wire::send(&self.packets, &rows, &[]).await?;
                        }
                    }
                    let ended = self.lane.take_if(|lane| lane.thread.is_finished());
                    self.page.show(&self.ledger).map_err(CellError::SetUp)?;
                    if let Some(lane) = ended {
                        return over(lane);
                    }
                }
            }
        }
    }

    fn take(&mut self, told: Told, descriptors: Vec<OwnedFd>) -> Result<(), CellError> {
        let message = match told {
            // Once is enough.
            Told::Begin(_) => return Err(CellError::NoBeginning),
            Told::Plant { workload, tree, listeners, counts } => {
                let Ends { netns, presence, listeners: sockets } = Ends::of(descriptors, listeners.len())?;
                let each = listeners
                    .into_iter()
                    .zip(sockets)
                    .map(|(listener, socket)| as_listener(listener, socket));
                let row = Arc::new(Row::new(workload.tenant.clone(), workload.pod.clone()));
                row.hear(&counts);
                self.rows.open(tree, &row);
                ToCell::Plant(Plant {
                    row,
                    workload: Arc::from(workload),
                    netns: Netns::from(netns),
                    tree,
                    listeners: PodListeners::handed_over(each),
                    presence: Presence::from(presence),
                })
            }
            Told::Uproot { pod, tree, grace } => ToCell::Uproot { pod, tree, grace },
            Told::Board { version, lines, absent } => {
                ToCell::Board(Arc::new(Board::new(version, self.switchboard.connect(lines), absent)))
            }
            Told::Certificates(bytes) => {
                let told = self.remote.told(Parcel { bytes, descriptors });
                return told.map_err(|error| CellError::Failed(error.to_string()));
            }
            Told::Swap(source) => ToCell::Swap(self.compiler.compile(*source)),
            Told::Found { address, is_known } => {
                self.asking.hear(address, is_known);
                return Ok(());
            }
            Told::Share(connections) => ToCell::Share(usize::try_from(connections).unwrap_or(usize::MAX)),
            Told::Describe { number } => ToCell::Describe(self.answer(number)),
            Told::Unlisten { tree, grace } => ToCell::Unlisten { tree, grace },
            Told::Finish => ToCell::Finish,
            Told::Drain { grace } => ToCell::Drain { grace },
        };
        self.inbox.try_send(message).map_err(|_full_or_gone| CellError::Deaf)
    }

    /// Where the lane answers; what it says is passed on, whenever that is.
    fn answer(&self, number: u64) -> oneshot::Sender<Vec<TreeDescription>> {
        let (answer, answered) = oneshot::channel::<Vec<TreeDescription>>();
        let packets = Rc::clone(&self.packets);
        drop(tokio::task::spawn_local(async move {
            if let Ok(Ok(trees)) = timeout(PATIENCE, answered).await {
                let trees = trees.into_iter().map(|tree| Some(Box::new(tree)));
                for tree in trees.chain([None]) {
                    // With the daemon gone there is nobody to tell.
                    let _ = wire::send(&packets, &Said::Described { number, tree }, &[]).await;
                }
            }
        }));
        answer
    }

    /// What the cell holds, as the daemon's accounting thread does it for threads.
    fn account(&self) {
        if let Err(error) = arena::refresh() {
            tracing::warn!(%error, "the allocator does not say what is allocated");
        }
        let Self { arena, ledger, .. } = self;
        let figures = HeapFigures { live: arena.live(), cached: arena.cached(), resident: arena.resident() };
        ledger.heap_bytes.store(figures.live, Relaxed);
        ledger.costs.heap(figures);
    }
}

fn name_process(tenant: &TenantId) {
    let named = CString::new(tenant.as_str()).map(|name| rustix::thread::set_name(&name));
    if !matches!(named, Ok(Ok(()))) {
        tracing::debug!("the cell's process keeps the name it has");
    }
}

/// The next question; none ever comes where nobody answers.
async fn next(questions: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Vec<u8> {
    match questions {
        Some(questions) => match questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn no_terms() -> Terms {
    Terms { authority: String::new(), signs: true }
}

fn as_listener((is_inbound, address): (bool, SocketAddr), socket: OwnedFd) -> (Side, SocketAddr, OwnedFd) {
    (if is_inbound { Side::Inbound } else { Side::Outbound }, address, socket)
}

/// How the lane ended.
fn over(lane: Lane) -> Result<(), CellError> {
    match lane.thread.join() {
        Ok(Ok(_ending)) => Ok(()),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Err(CellError::Failed(format!("{error}{}", cause.unwrap_or_default())))
        }
        Err(_panic) => Err(CellError::Failed("it panicked".to_owned())),
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

fn connector() -> Rc<dyn Connect> {
    #[cfg(debug_assertions)]
    return Rc::new(super::faults::Faulty);
    #[cfg(not(debug_assertions))]
    Rc::new(crate::upstream::connect::Kernel)
}
