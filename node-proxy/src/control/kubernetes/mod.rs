//! The source `kubernetes`: the objects of a cluster, each as a file for the store that directories are read with.
//!
//! So that nothing of validation, ownership or linking is there twice. Nothing is served before all is known that the cluster has;
//! from then on nothing goes but what the API server says is gone.

use std::{
    io,
    sync::{Arc, mpsc::Receiver, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use config::store::{self, Outcome, Store};
use tokio::{sync::watch, time::Instant};

use self::{
    api::Api,
    follow::{Follower, Pace},
    ledger::Ledger,
    view::View,
};
use super::ConfigSource;

pub use self::{
    access::{Access, AccessError},
    asking::{AskError, Asking, Said},
    authority::{Asked, Authority, Options as AuthorityOptions, Presented, Scrape as AuthorityScrape},
    callers::{Account, Believed, Callers, Presents, Refusal, Scrape as CallersScrape},
    events::{Note, Notes, Regarding, Reporter},
    kinds::{Watched, cluster, pods_of},
    ledger::{Known, Shown, Standing},
    metrics::Scrape,
    residents::Residents,
    sandboxes::{Annotated, Hear, Placed, Sandboxed, Sandboxes},
    statuses::Reported,
    view::Capture,
};

// Asking: whom, how, and for what.
mod access;
mod api;
mod asking;
mod kinds;
mod lines;

// What is answered.
mod json;
mod object;
mod page;

// Following it, and what becomes of it.
mod follow;
mod ledger;
mod metrics;
mod residents;
mod sandboxes;
mod view;

// What became of it, told.
mod events;
mod rate;
mod statuses;

// Who is who, vouched for.
mod authority;
mod callers;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// What is followed, and how it is read.
#[derive(Debug)]
pub struct Options {
    /// Which cluster, and as whom.
    pub access: Access,
    /// The kinds.
    pub watched: Vec<Watched>,
    /// How objects are read.
    pub reading: store::Options,
    /// How this node's pods are found, if it has any.
    pub capture: Option<Capture>,
}

/// The objects of a cluster.
#[derive(Debug)]
pub struct KubernetesSource {
    ledger: Arc<Ledger>,
    hints: Receiver<()>,
    view: View,
    store: Store,
    /// All that the cluster has was taken in once.
    is_taken: bool,
    /// Whether anything was given yet.
    is_serving: bool,
    /// There is something to give.
    is_due: bool,
    /// When to look again though nothing changes.
    again: Option<Instant>,
    /// From when on time is counted, for what is put off.
    opened: Instant,
    waiting: Waiting,
    _running: watch::Sender<()>,
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// No cluster to ask.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No thread, no event loop.
    #[error("the system does not give what following a cluster needs")]
    System(#[from] io::Error),
}

/// Says what is waited for, less and less often.
#[derive(Debug)]
struct Waiting {
    say_at: Instant,
    pause: Duration,
}

impl KubernetesSource {
    /// Starts to follow a cluster. An API server that is not there yet is waited for. Not to be called within an event loop.
    pub fn start(options: Options) -> Result<Self, KubernetesError> {
        Self::start_at(options, Pace::default())
    }

    fn start_at(options: Options, pace: Pace) -> Result<Self, KubernetesError> {
        let Options { access, watched, reading, mut capture } = options;
        let (ledger, hints) = Ledger::new(&watched);
        if let Some(capture) = &mut capture {
            let ledger = Arc::clone(&ledger);
            capture.sandboxes.changes(Arc::new(move |uid: &str| ledger.sandbox(uid)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async { access::client(access.find().await?) })?;
        let (running, mut ends) = watch::channel(());
        let followed = Arc::clone(&ledger);
        thread::Builder::new().name("kubernetes".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            runtime.block_on(async {
                for (index, watched) in watched.into_iter().enumerate() {
                    let api = Api::new(client.clone(), pace.page_bytes);
                    tokio::spawn(Follower::new(api, watched, Arc::clone(&followed), index, pace).run());
                }
                // Ends with who reads.
                let _ = ends.changed().await;
            });
        })?;
        let now = Instant::now();
        Ok(Self {
            ledger,
            hints,
            view: View::new(capture),
            store: Store::new(store::Options { of_cluster: true, ..reading }),
            is_taken: false,
            is_serving: false,
            is_due: false,
            again: None,
            opened: now,
            waiting: Waiting { say_at: now + SAY, pause: SAY },
            _running: running,
        })
    }

    /// Which pods there are, on which nodes.
    pub fn residents(&self) -> Arc<Residents> {
        self.ledger.residents()
    }

    /// How it stands with the cluster.
    pub fn standing(&self) -> Arc<Standing> {
        self.ledger.standing()
    }

    /// Takes in what has come, and what comes close behind, so that it is compiled once.
    fn take(&mut self) {
        let longest = Instant::now() + BURST;
        while Instant::now() < longest && self.hints.recv_timeout(CLOSE).is_ok() {}
        // Whether all of it was known must be asked before it is taken.
        self.is_taken = self.ledger.standing().is_complete();
        self.is_due |= self.view.take(self.ledger.take());
    }

    fn outcome(&mut self) -> Option<Outcome> {
        let now = Instant::now();
        if !self.is_serving {
            if !self.is_taken || !self.view.is_whole() {
                self.waiting.look(now, &self.ledger.standing());
                return None;
            }
            // Where pods are may have been told since they were looked at.
            self.take();
            self.is_serving = true;
            self.is_due = true;
            tracing::info!(files = self.view.files().len(), "all is known that the cluster has");
        }
        if !self.is_due && self.again.is_none_or(|again| now < again) {
            return None;
        }
        self.is_due = false;
        let mut outcome = self.store.apply_at(self.view.files(), self.opened.elapsed());
        self.again = outcome.again.map(|again| now + again);
        if self.view.is_alone() {
            // What became of the others, the control plane says.
            let pods = outcome.standings.iter().filter(|standing| &*standing.object.kind == "Pod");
            outcome.standings = pods.cloned().collect();
        }
        Some(outcome)
    }
}

impl ConfigSource for KubernetesSource {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let until = Instant::now() + patience;
        loop {
            let end = self.again.map_or(until, |again| again.min(until));
            match self.hints.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(()) => self.take(),
                // The ledger has the other end, and is ours.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Some(outcome) = self.outcome() {
                return Some(outcome);
            }
            if Instant::now() >= until {
                return None;
            }
        }
    }
}

impl Waiting {
    fn look(&mut self, now: Instant, standing: &Standing) {
        if now < self.say_at {
            return;
        }
        let kinds: Vec<_> = standing.missing().collect();
        if kinds.is_empty() {
            tracing::info!("nothing is served before the container runtime has said where pods are: waiting");
        } else {
            let kinds = kinds.join(", ");
            tracing::info!(kinds, "nothing is served before all is known that the cluster has: waiting");
        }
        self.pause = (2 * self.pause).min(SAY_SELDOM);
        self.say_at = now + self.pause;
    }
}

/// What comes so soon after a change is of the same one: an EndpointSlice after its Pod.
const CLOSE: Duration = Duration::from_millis(2);
/// A change that goes on for longer is compiled in between.
const BURST: Duration = Duration::from_millis(50);
/// After this long it is said what is waited for, and again, less and less often.
const SAY: Duration = Duration::from_secs(2);
const SAY_SELDOM: Duration = Duration::from_secs(60);
/// Enough for HTTP, TLS, and objects with much in each other.
const STACK_BYTES: usize = 2 << 20;
