//! What has become of a cluster's objects since somebody last looked, and how it stands with each kind.
//!
//! Bounded by what there is: a change that comes before the one before was taken takes its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{kinds::Watched, object::Object, residents::Residents};

/// What there is to take in.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// By their files; `None` for those that are gone.
    pub(super) changes: BTreeMap<PathBuf, Option<Object>>,
    /// UIDs of pods whose network namespace is another.
    pub(super) sandboxes: BTreeSet<String>,
}

/// How it stands with a cluster.
#[derive(Debug)]
pub struct Standing {
    kinds: Vec<KindStanding>,
    since: Instant,
}

/// How it stands with a kind.
#[derive(Debug)]
pub(super) struct KindStanding {
    kind: &'static str,
    state: AtomicU8,
    objects: AtomicU64,
    relists: AtomicU64,
    errors: AtomicU64,
    /// Milliseconds since the beginning, at the last word of the API server.
    heard: AtomicU64,
}

/// What is known of all objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    Nothing,
    /// The cluster has no such kind.
    NotInstalled,
    /// All of them.
    All,
}

/// What is shown of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub kind: &'static str,
    /// What is known of it.
    pub known: Known,
    /// How many objects there are.
    pub objects: u64,
    /// How often all of them were asked for again.
    pub relists: u64,
    /// How often a list or a watch failed.
    pub errors: u64,
    /// How long ago the API server last said anything of it, or the source was started if it never did.
    pub silent: Duration,
}

/// Where followers write, and the source reads.
#[derive(Debug)]
pub(super) struct Ledger {
    pending: Mutex<Pending>,
    hint: SyncSender<()>,
    standing: Arc<Standing>,
    residents: Arc<Residents>,
}

impl Ledger {
    /// Of these kinds; the receiver hears when there is something to take in.
    pub(super) fn new(watched: &[Watched]) -> (Arc<Self>, Receiver<()>) {
        let (hint, hints) = mpsc::sync_channel(1);
        let standing = Arc::new(Standing::new(watched));
        let residents = Arc::default();
        (Arc::new(Self { pending: Mutex::default(), hint, standing, residents }), hints)
    }

    pub(super) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Which pods there are, on which nodes: ahead of who takes changes in.
    pub(super) fn residents(&self) -> Arc<Residents> {
        Arc::clone(&self.residents)
    }

    /// Takes down what has changed.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = (PathBuf, Option<Object>)>) {
        let mut pending = self.pending();
        let changes =
            changes.into_iter().inspect(|(file, object)| self.residents.change(file, object.as_ref()));
        pending.changes.extend(changes);
        drop(pending);
        self.residents.tell();
        self.tell();
    }

    /// A pod's network namespace has come, gone or changed.
    pub(super) fn sandbox(&self, uid: &str) {
        self.pending().sandboxes.insert(uid.to_owned());
        self.tell();
    }

    /// What there is to take in since the last time.
    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending())
    }

    /// Somebody should look. One hint is as good as many.
    pub(super) fn tell(&self) {
        let _ = self.hint.try_send(());
    }

    pub(super) fn of(&self, index: usize) -> &KindStanding {
        &self.standing.kinds[index]
    }

    /// The API server said something of this kind.
    pub(super) fn heard(&self, index: usize) {
        let now = self.standing.since.elapsed().as_millis();
        self.of(index).heard.store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// Of these kinds, of which nothing is known yet.
    pub fn new(watched: &[Watched]) -> Self {
        let kinds = watched.iter().map(|watched| KindStanding::new(watched.resource.kind)).collect();
        Self { kinds, since: Instant::now() }
    }

    /// Whether of every kind all is known that there is.
    pub fn is_complete(&self) -> bool {
        self.kinds.iter().all(|kind| kind.known() != Known::Nothing)
    }

    /// The kinds of which nothing is known yet.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().filter(|kind| kind.known() == Known::Nothing).map(|kind| kind.kind)
    }

    /// Every kind.
    pub fn shown(&self) -> impl Iterator<Item = Shown> {
        let now = self.since.elapsed();
        self.kinds.iter().map(move |kind| Shown {
            kind: kind.kind,
            known: kind.known(),
            objects: kind.objects.load(Relaxed),
            relists: kind.relists.load(Relaxed),
            errors: kind.errors.load(Relaxed),
            silent: now.saturating_sub(Duration::from_millis(kind.heard.load(Relaxed))),
        })
    }
}

impl KindStanding {
    fn new(kind: &'static str) -> Self {
        let (objects, relists, errors) = Default::default();
        Self { kind, state: AtomicU8::new(NOTHING), objects, relists, errors, heard: AtomicU64::new(0) }
    }

    pub(super) fn known(&self) -> Known {
        match self.state.load(Relaxed) {
            NOTHING => Known::Nothing,
            NOT_INSTALLED => Known::NotInstalled,
            _ => Known::All,
        }
    }

    /// All is known, or that there is none.
    pub(super) fn is(&self, known: Known) {
        let state = match known {
            Known::Nothing => NOTHING,
            Known::NotInstalled => NOT_INSTALLED,
            Known::All => ALL,
        };
        self.state.store(state, Relaxed);
    }

    pub(super) fn has(&self, objects: usize) {
        self.objects.store(u64::try_from(objects).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn relisted(&self) {
        self.relists.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
    }
}

const NOTHING: u8 = 0;
const NOT_INSTALLED: u8 = 1;
const ALL: u8 = 2;
