//! The forest as the rest of the daemon sees it: told what to become, asked what it is.
//!
//! Nothing here waits for a cell longer than [`PATIENCE`], and nothing here touches one.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, SystemTime},
};

use config::{
    model::{Budget, Isolation},
    name::TenantId,
};
use tokio::sync::{oneshot, watch};

use super::{
    Configuration, Phase, Settings,
    accounting::Auditor,
    costs::{self, NodeCosts},
    describe::{CellDescription, ForestDescription, TreeDescription, Usage},
    enrolments::Enrolments,
    supervisor::Supervisor,
    watch::Watch,
};
use crate::{
    telemetry::Reason,
    tenancy::{Balance, Events, Ledger, Row, Told, events::News},
};

/// How long a cell may take to describe itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// Commands that may wait for the supervisor, which is never busy for longer than it takes to plant a tree.
const COMMANDS: usize = 64;
/// What only waits and starts threads.
const STACK_BYTES: usize = 512 * 1024;

/// A running forest. Cheap to clone; the forest ends when the last one is dropped.
#[derive(Clone)]
pub struct ForestHandle {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    phases: watch::Receiver<Phase>,
}

/// What the supervisor publishes, and where its next configuration lies.
#[derive(Debug, Default)]
pub(super) struct Shared {
    next: Mutex<Option<Configuration>>,
    standing: Mutex<Standing>,
    /// Tells the balance of all ledgers.
    pub(super) auditor: Auditor,
    /// What tenants' owners are told.
    pub(super) events: Events,
    watch: Mutex<Watch>,
    /// Which pods have a tree, for those who wait for one.
    pub(super) enrolments: watch::Sender<Enrolments>,
}

/// What the supervisor publishes.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Every cell's ledger.
    pub(super) ledgers: Vec<(TenantId, Arc<Ledger>)>,
    /// On what terms each is served, in the order of the ledgers.
    pub(super) terms: Vec<Terms>,
    /// Every workload's row.
    pub(super) rows: Vec<Arc<Row>>,
    /// Version of the configuration in force.
    pub(super) version: u64,
    /// Trees that are planted.
    pub(super) planted: usize,
    /// Workloads that wait to be.
    pub(super) waiting: usize,
}

/// On what terms a tenant is served, and how it is.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) isolation: Isolation,
    pub(super) budget: Budget,
    /// The user that may see its part.
    pub(super) owner: Option<u32>,
    pub(super) restarts: u64,
    pub(super) state: String,
}

/// What the supervisor is told.
#[derive(Debug)]
pub(super) enum Command {
    /// There is a new configuration.
    Apply,
    /// Say what is there; the cells' own parts come through the receivers.
    Describe(oneshot::Sender<Sketch>),
    /// End, within so long.
    Drain(Duration),
}

/// A description whose cells have not answered yet.
#[derive(Debug)]
pub(super) struct Sketch {
    pub(super) forest: ForestDescription,
    /// Of each cell, from each of its lanes.
    pub(super) trees: Vec<Vec<oneshot::Receiver<Vec<TreeDescription>>>>,
}

impl ForestHandle {
    /// Starts a forest without trees: its supervisor's thread.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (commands, inbox) = mpsc::sync_channel(COMMANDS);
        let (phase, phases) = watch::channel(Phase::Starting);
        let shared = Arc::new(Shared::default());
        let supervisor = Supervisor::new(settings, Arc::clone(&shared), phase)?;
        let builder = thread::Builder::new().name("forest".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || supervisor.run(&inbox))?;
        Ok(Self { commands, shared, phases })
    }

    /// Makes the forest what the configuration says. Later calls overtake earlier ones.
    pub fn apply(&self, configuration: Configuration) {
        *self.shared.next() = Some(configuration);
        // With its inbox full the supervisor is about to look anyway.
        let _ = self.commands.try_send(Command::Apply);
    }

    /// The forest as it stands; one without cells where the supervisor has ended or does not answer.
    pub async fn describe(&self) -> ForestDescription {
        self.ask().await.unwrap_or_default()
    }

    async fn ask(&self) -> Option<ForestDescription> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Describe(reply)).ok()?;
        let Sketch { mut forest, trees } = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
        let until = tokio::time::Instant::now() + PATIENCE;
        let answers = trees
            .into_iter()
            .enumerate()
            .flat_map(|(cell, lanes)| lanes.into_iter().map(move |lane| (cell, lane)));
        for (cell, trees) in answers {
            let Some(cell) = forest.cells.get_mut(cell) else { continue };
            match tokio::time::timeout_at(until, trees).await {
                Ok(Ok(trees)) => cell.join(trees),
                Ok(Err(_)) | Err(_) => cell.state.push_str(", does not answer"),
            }
        }
        Some(forest)
    }

    /// Every cell's ledger, for the metrics.
    pub fn ledgers(&self) -> Vec<(TenantId, Arc<Ledger>)> {
        self.shared.standing().ledgers.clone()
    }

    /// Every workload's row, for the metrics.
    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.shared.standing().rows.clone()
    }

    /// All ledgers beside what the kernel says of the process, as of the last second.
    pub fn balance(&self) -> Balance {
        self.shared.auditor.balance()
    }

    /// What every tenant and workload costs, and may; or what one tenant and its workloads do, and nothing of the others.
    pub fn costs(&self, tenant: Option<&str>) -> NodeCosts {
        // Not held while the figures are read.
        let standing = self.shared.standing().clone();
        let at = SystemTime::now();
        match tenant {
            Some(tenant) => costs::of(&standing.only(tenant), Balance::default(), at),
            None => costs::of(&standing, self.balance(), at),
        }
    }

    /// Tells tenants' owners what others than the forest have seen.
    pub fn tell(&self, news: Vec<(TenantId, News)>) {
        let now = SystemTime::now();
        news.into_iter().for_each(|(tenant, news)| self.shared.events.tell(&tenant, news, now));
    }

    /// What owners were told after this event; of one tenant or of all.
    pub fn events(&self, after: u64, tenant: Option<&str>) -> Told {
        self.shared.events.told(after, tenant)
    }

    /// Which users may see which tenants' parts.
    pub fn owners(&self) -> BTreeMap<String, u32> {
        let standing = self.shared.standing();
        let owned = standing.ledgers.iter().zip(&standing.terms);
        owned.filter_map(|((tenant, _), terms)| Some((tenant.to_string(), terms.owner?))).collect()
    }

    /// Version of the configuration in force, workloads with a tree, workloads without.
    pub fn standing(&self) -> (u64, usize, usize) {
        let standing = self.shared.standing();
        (standing.version, standing.planted, standing.waiting)
    }

    /// Which pods of this node have a tree, and which wait for one, and whenever that changes.
    pub fn enrolments(&self) -> watch::Receiver<Enrolments> {
        self.shared.enrolments.subscribe()
    }

    /// Where the forest is in its life.
    pub fn phase(&self) -> Phase {
        *self.phases.borrow()
    }

    /// Waits until the forest is at least so far in its life.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.phases.clone();
        // The supervisor's end is the end of every phase.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Stops accepting, lets connections finish for so long, ends what is left, and returns when all cells have.
    pub async fn drain(&self, grace: Duration) {
        // A full inbox is emptied by the supervisor's next round.
        while let Err(mpsc::TrySendError::Full(_)) = self.commands.try_send(Command::Drain(grace)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.reached(Phase::Stopped).await;
    }
}

impl fmt::Debug for ForestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForestHandle").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The configuration that waits to be applied.
    pub(super) fn next(&self) -> MutexGuard<'_, Option<Configuration>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen at the last look. For the supervisor alone.
    pub(super) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is published.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// One tenant's part of it.
    fn only(mut self, tenant: &str) -> Self {
        let place = self.ledgers.iter().position(|(known, _)| known.to_string() == tenant);
        let keep = |at: &mut usize| place == Some(std::mem::replace(at, *at + 1));
        let (mut ledger, mut term) = (0, 0);
        self.ledgers.retain(|_| keep(&mut ledger));
        self.terms.retain(|_| keep(&mut term));
        self
    }
}

/// A cell without its trees.
pub(super) fn describe_cell(
    tenant: &TenantId,
    state: String,
    restarts: u64,
    ledger: &Ledger,
) -> CellDescription {
    let refusals = Reason::ALL.iter().map(|reason| (reason.as_str().to_owned(), ledger.refusals(*reason)));
    let usage = Usage {
        cpu_seconds: Duration::from_nanos(ledger.cpu_in_all()).as_secs_f64(),
        heap_bytes: ledger.heap_bytes.load(Relaxed),
        connections: ledger.connections.load(Relaxed),
        connections_open: ledger.connections_open.load(Relaxed),
        requests: ledger.requests.load(Relaxed),
        requests_in_flight: ledger.requests_in_flight.load(Relaxed),
        bytes_received: ledger.bytes_received.load(Relaxed),
        bytes_sent: ledger.bytes_sent.load(Relaxed),
        refusals: refusals.filter(|(_, count)| *count > 0).collect(),
    };
    CellDescription { tenant: tenant.clone(), state, restarts, usage, trees: Vec::new() }
}
