//! Tells owners in the cluster what happened, as Events of the objects that it happened to (events.k8s.io/v1).
//!
//! Told by the part that knows, written by a task of its own, at a pace that no API server minds. It must never hold up who tells, and what
//! is not told is nowhere lost: statuses and `canopy events` have it.

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use http::Method;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::series::{Series, Step, Told};
use super::{
    KubernetesError, access,
    access::Access,
    api::{Api, ApiError, JSON, MERGE_PATCH},
    statuses::micro,
};

pub use self::note::{Note, Regarding, Reporter};

mod note;
mod series;

/// Where notes are given to. Clones are the same.
#[derive(Debug, Clone)]
pub struct Notes {
    queue: mpsc::Sender<Note>,
    left_out: Arc<AtomicU64>,
}

/// Who writes.
#[derive(Debug)]
pub(super) struct Scribe {
    api: Api,
    reporter: Reporter,
    queue: mpsc::Receiver<Note>,
    left_out: Arc<AtomicU64>,
    series: Series,
    /// Of what goes wrong, the last that was said.
    said: Option<String>,
}

impl Notes {
    /// Begins to write, to this cluster. Within an event loop, in which it goes on until the last of the notes' clones is dropped.
    pub async fn start(access: &Access, reporter: Reporter) -> Result<Self, KubernetesError> {
        let api = Api::new(access::client(access.find().await?)?, MOST_BYTES);
        let (notes, scribe) = Self::new(api, reporter);
        tokio::spawn(scribe.run(PAUSE));
        Ok(notes)
    }

    pub(super) fn new(api: Api, reporter: Reporter) -> (Self, Scribe) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let left_out = Arc::<AtomicU64>::default();
        let notes = Self { queue: sender, left_out: Arc::clone(&left_out) };
        (notes, Scribe { api, reporter, queue, left_out, series: Series::new(), said: None })
    }

    /// Has an owner told. Where too much waits already, this is left out.
    pub fn tell(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
    }
}

impl Scribe {
    /// Until nobody tells anything any more, with so long between two.
    pub(super) async fn run(mut self, pause: Duration) {
        while let Some(note) = self.queue.recv().await {
            let written = self.write(&note).await;
            // What is not written costs nobody anything.
            let is_quiet = matches!(written, Ok(false));
            self.say(written.map(drop));
            let left_out = self.left_out.swap(0, Relaxed);
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "more happened than Events are written of; `canopy events` and statuses have it"
                );
            }
            if !is_quiet {
                sleep(pause).await;
            }
        }
    }

    /// Whether anything was asked of the API server for it.
    async fn write(&mut self, note: &Note) -> Result<bool, ApiError> {
        let series = note.series();
        let now = Instant::now();
        let known = match self.series.step(series, &note.regarding.to_string(), now) {
            Step::Leave => return Ok(false),
            Step::Tell => None,
            Step::Again(told) => Some(told),
        };
        let Some(uid) = self.uid(&note.regarding).await? else { return Ok(true) };
        let known = known.filter(|told| told.uid == uid);
        if let Some(Told { name, count, .. }) = known
            && self.again(note, &name, count).await?
        {
            self.series.told(series, (name, uid), count, now);
            return Ok(true);
        }
        let name = note::name(note, &uid);
        let count = self.first(note, &name, &uid).await?;
        self.series.told(series, (name, uid), count, now);
        Ok(true)
    }

    /// The object's UID; `None` if it is gone.
    async fn uid(&self, regarding: &Regarding) -> Result<Option<String>, ApiError> {
        if let Some(uid) = regarding.uid.clone() {
            return Ok(Some(uid));
        }
        let Some(path) = regarding.path() else { return Ok(None) };
        match self.api.exchange(Method::GET, &path, None).await {
            Ok(object) => Ok(object["metadata"]["uid"].as_str().map(str::to_owned)),
            Err(ApiError::NotInstalled) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the Event. How often it has been told by then, as far as is known.
    async fn first(&self, note: &Note, name: &str, uid: &str) -> Result<u64, ApiError> {
        let wall = micro(SystemTime::now());
        let Some(event) = note::event(note, (name, uid), &self.reporter, &wall) else { return Ok(1) };
        match self.api.exchange(Method::POST, &note.regarding.events(), Some((JSON, &event))).await {
            Ok(_) => Ok(1),
            // By a former process, or by another replica.
            Err(error) if error.is_conflict() => {
                if !note.is_perhaps_known {
                    self.again(note, name, 2).await?;
                }
                Ok(2)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts up an Event; whether it is still there.
    async fn again(&self, note: &Note, name: &str, count: u64) -> Result<bool, ApiError> {
        let path = format!("{}/{name}", note.regarding.events());
        let patch = note::again(count, &micro(SystemTime::now()));
        match self.api.exchange(Method::PATCH, &path, Some((MERGE_PATCH, &patch))).await {
            Ok(_) => Ok(true),
            Err(ApiError::NotInstalled) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What goes wrong, once.
    fn say(&mut self, written: Result<(), ApiError>) {
        let Err(error) = written else { return };
        let error = error.to_string();
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(
                error,
                "an Event is not written; owners find it in statuses and by `canopy events`"
            );
            self.said = Some(error);
        }
    }
}

/// Of an object that is answered.
const MOST_BYTES: usize = 8 << 20;
/// Notes that may wait.
const QUEUE: usize = 1024;
/// Between two notes: each is one or two requests.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
