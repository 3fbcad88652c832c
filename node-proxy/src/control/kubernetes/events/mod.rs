//! Tells owners in the cluster what happened, as Events of the objects that it happened to (events.k8s.io/v1).
//!
//! Told by the part that knows, written by a task of its own, at a pace that no API server minds. It must never hold up who tells, nor let
//! what happens in one namespace keep another's from being told. What is not told is nowhere lost: statuses and `canopy events` have it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use config::finding::ObjectRef;
use http::Method;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::{
    queue::Queue,
    series::{Series, Step, Told},
};
use super::{
    KubernetesError, access,
    access::Access,
    api::{Api, ApiError, JSON, MERGE_PATCH},
    statuses::micro,
};
use crate::telemetry::events::{LeftOut, Why};

pub use self::note::{Note, Regarding, Reporter};

mod note;
mod queue;
mod series;

/// Where notes are given to. Clones are the same.
#[derive(Debug, Clone)]
pub struct Notes {
    waiting: Arc<Waiting>,
    /// Rings when there is something.
    bell: mpsc::Sender<()>,
}

/// What those who tell and who writes share.
#[derive(Debug, Default)]
struct Waiting {
    state: Mutex<State>,
    left_out: Arc<LeftOut>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Of what could not be written, and may be in a moment.
    unwritten: Vec<ObjectRef>,
}

/// Who writes.
#[derive(Debug)]
pub(super) struct Scribe {
    api: Api,
    reporter: Reporter,
    waiting: Arc<Waiting>,
    bell: mpsc::Receiver<()>,
    series: Series,
    /// What was left out of all when it was said last.
    said_left_out: u64,
    /// Of what goes wrong, the last that was said.
    said: Option<String>,
}

impl Notes {
    /// Begins to write, to this cluster. Within an event loop, in which it goes on until the last of the notes' clones is dropped.
    pub async fn start(
        access: &Access,
        reporter: Reporter,
        left_out: Arc<LeftOut>,
    ) -> Result<Self, KubernetesError> {
        let api = Api::new(access::client(access.find().await?)?, MOST_BYTES);
        let (notes, scribe) = Self::new(api, reporter, left_out);
        tokio::spawn(scribe.run(PAUSE));
        Ok(notes)
    }

    pub(super) fn new(api: Api, reporter: Reporter, left_out: Arc<LeftOut>) -> (Self, Scribe) {
        let (sender, bell) = mpsc::channel(1);
        let waiting = Arc::new(Waiting { state: Mutex::default(), left_out });
        let notes = Self { waiting: Arc::clone(&waiting), bell: sender };
        let series = Series::new();
        (notes, Scribe { api, reporter, waiting, bell, series, said_left_out: 0, said: None })
    }

    /// Has an owner told of what has happened. Where too much of the namespace waits already, this is left out.
    pub fn tell(&self, note: Note) {
        if !self.offer(note) {
            self.waiting.left_out.add(Why::Queue);
        }
    }

    /// Has an owner told how something is. Where too much of the namespace waits already it is not, and whoever knows it tells it later, if
    /// it is still so.
    #[must_use]
    pub fn offer(&self, note: Note) -> bool {
        let is_taken = self.waiting.state().queue.push(note);
        // Where it has rung already, that is heard.
        let _ = self.bell.try_send(());
        is_taken
    }

    /// Objects that were not told of, since the API server could not take it just then; each once.
    pub fn unwritten(&self) -> Vec<ObjectRef> {
        std::mem::take(&mut self.waiting.state().unwritten)
    }
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scribe {
    /// Until nobody tells anything any more, with so long between two.
    pub(super) async fn run(mut self, pause: Duration) {
        loop {
            let next = self.waiting.state().queue.next();
            let Some(note) = next else {
                match self.bell.recv().await {
                    Some(()) => continue,
                    None => return,
                }
            };
            let written = self.write(&note).await;
            // What is not written costs nobody anything.
            let is_quiet = matches!(written, Ok(false));
            if let Err(error) = &written {
                self.waiting.left_out.add(Why::Unwritten);
                let unwritten = &mut self.waiting.state().unwritten;
                // Who may not write is not let by asking again.
                if error.may_pass() && unwritten.len() < queue::MOST {
                    unwritten.push(note.regarding.object);
                }
            }
            self.say(written.map(drop));
            self.say_left_out();
            if !is_quiet {
                sleep(pause).await;
            }
        }
    }

    fn say_left_out(&mut self) {
        let of_all = self.waiting.left_out.count(Why::Queue);
        if of_all > self.said_left_out {
            let left_out = of_all - self.said_left_out;
            tracing::warn!(
                left_out,
                "more happened than Events are written of; `canopy events` and statuses have it"
            );
            self.said_left_out = of_all;
        }
    }

    /// Whether anything was asked of the API server for it.
    async fn write(&mut self, note: &Note) -> Result<bool, ApiError> {
        let series = note.series();
        let now = Instant::now();
        let known = match self.series.step(series, &note.regarding.to_string(), now) {
            Step::Leave => {
                self.waiting.left_out.add(Why::Object);
                return Ok(false);
            }
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
/// Between two notes: each is one or two requests.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
