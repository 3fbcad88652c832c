//! Follows the objects of one kind: asks for all of them once, then for what happens, from where it was left.
//!
//! All are asked for again only where the API server has forgotten what happened since, and a list that breaks off must never take
//! anything away. An API server that is away takes nothing away either.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    api::{Api, ApiError},
    kinds::Watched,
    ledger::{Known, Ledger},
    object::Object,
    page::{Event, Page},
};
use crate::identity::authority::retry::Backoff;

/// Follows one kind.
pub(super) struct Follower {
    api: Api,
    watched: Watched,
    ledger: Arc<Ledger>,
    /// Of the ledger.
    index: usize,
    pace: Pace,
    /// What there is, in which versions.
    known: BTreeMap<PathBuf, String>,
    backoff: Backoff,
    /// What was said last of what goes wrong.
    said: Option<ApiError>,
    /// How often in a row the cluster had no such kind.
    missing: u32,
}

/// How often what is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The first pause after a failure; further ones grow.
    pub(super) first: Duration,
    /// The longest.
    pub(super) longest: Duration,
    /// How often a kind is looked for that is not installed.
    pub(super) look: Duration,
    /// How long a watch may be without a word: bookmarks come about once a minute.
    pub(super) silence: Duration,
    /// How long a watch lasts, more or less: the API server ends it then.
    pub(super) watch: Duration,
    /// Objects of a page.
    pub(super) page: usize,
    /// Bytes of a page: one that has more is asked for again with fewer objects.
    pub(super) page_bytes: usize,
}

/// Where a watch goes on.
#[derive(Debug, Clone)]
struct Position {
    /// The version of the kind that is asked for.
    version: &'static str,
    /// The point in time, as the API server counts.
    at: String,
}

/// How a watch ended.
#[derive(Debug)]
enum End {
    /// In time: it goes on from where it was.
    Over,
    /// What happened since is not to be had any more.
    Forgotten(ApiError),
    /// It broke, and may go on from where it was.
    Broken(ApiError),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            look: Duration::from_secs(30),
            silence: Duration::from_secs(150),
            watch: Duration::from_secs(290),
            page: 500,
            page_bytes: 32 << 20,
        }
    }
}

impl Follower {
    pub(super) fn new(api: Api, watched: Watched, ledger: Arc<Ledger>, index: usize, pace: Pace) -> Self {
        let backoff = Backoff::between(pace.first, pace.longest);
        Self { api, watched, ledger, index, pace, known: BTreeMap::new(), backoff, said: None, missing: 0 }
    }

    /// Follows it for ever.
    pub(super) async fn run(mut self) {
        loop {
            let mut position = match self.list().await {
                Ok(position) => position,
                Err(ApiError::NotInstalled) => {
                    self.not_installed();
                    sleep(self.around(self.pace.look)).await;
                    continue;
                }
                Err(error) => {
                    self.pause(error).await;
                    continue;
                }
            };
            while self.go_on(&mut position).await {}
            // Every node hears at once that it has to ask again: not all of them are to do it in the same moment.
            sleep(self.backoff.next(fastrand::f64())).await;
        }
    }

    /// Watches on; `false` if all have to be asked for again.
    async fn go_on(&mut self, position: &mut Position) -> bool {
        let begun = Instant::now();
        let end = self.watch(position).await;
        let lasted = begun.elapsed();
        if lasted >= self.pace.longest {
            self.backoff.reset();
        }
        match end {
            End::Over if lasted >= self.pace.first => true,
            End::Over => {
                self.pause(ApiError::Away("watches end at once".to_owned())).await;
                true
            }
            End::Forgotten(error) => {
                tracing::debug!(kind = self.watched.resource.kind, %error, "all are asked for again");
                if error != ApiError::Gone {
                    self.ledger.of(self.index).failed();
                }
                false
            }
            End::Broken(error) => {
                let is_ahead = error.is_ahead();
                self.pause(error).await;
                !is_ahead && !self.is_ahead(position).await
            }
        }
    }

    /// All objects as they are now, in pages. Nothing of it counts before all is here.
    async fn list(&mut self) -> Result<Position, ApiError> {
        for version in self.watched.resource.versions {
            match self.list_in(version).await {
                Err(ApiError::NotInstalled) => {}
                Ok((objects, at)) => {
                    self.take_all(objects);
                    return Ok(Position { version, at });
                }
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::NotInstalled)
    }

    async fn list_in(&mut self, version: &'static str) -> Result<(Vec<Object>, String), ApiError> {
        let (mut objects, mut next, mut most) = (Vec::new(), None::<String>, self.pace.page);
        loop {
            let page = match self.page(version, most, next.as_deref()).await {
                Err(ApiError::TooLarge { .. }) if most > 1 => {
                    most = most.div_ceil(8);
                    continue;
                }
                page => page?,
            };
            objects.extend(page.objects);
            next = page.next;
            if next.is_none() {
                return Ok((objects, page.version));
            }
        }
    }

    async fn page(&self, version: &str, most: usize, next: Option<&str>) -> Result<Page, ApiError> {
        let resource = self.watched.resource;
        let most = most.to_string();
        let mut query = self.query();
        query.push(("limit", &most));
        query.extend(next.map(|next| ("continue", next)));
        let bytes = self.api.page(&resource.path(version), &query).await?;
        self.ledger.heard(self.index);
        Page::read(resource, version, &bytes)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.watched.field_selector.iter().map(|selector| ("fieldSelector", selector.as_str())).collect()
    }

    /// What is the same is left alone; what is not among them is gone.
    fn take_all(&mut self, objects: Vec<Object>) {
        let mut gone = std::mem::take(&mut self.known);
        let mut changes = Vec::new();
        for object in objects {
            let before = gone.remove(&object.file);
            self.known.insert(object.file.clone(), object.version.clone());
            if before.as_ref() != Some(&object.version) {
                changes.push((object.file.clone(), Some(object)));
            }
        }
        changes.extend(gone.into_keys().map(|file| (file, None)));
        let standing = self.ledger.of(self.index);
        standing.has(self.known.len());
        if standing.known() == Known::All {
            standing.relisted();
        }
        self.missing = 0;
        // In this order: who sees that all is known finds all of it.
        self.ledger.change(changes);
        self.ledger.of(self.index).is(Known::All);
        self.ledger.tell();
        self.well();
    }

    /// Says once that there is no such kind. Of one that was there, all objects are gone: they are deleted before it is, so where
    /// some are left the API server is asked once more.
    fn not_installed(&mut self) {
        self.missing = self.missing.saturating_add(1);
        if !self.known.is_empty() && self.missing < 2 {
            return;
        }
        let kind = self.watched.resource.kind;
        if self.ledger.of(self.index).known() != Known::NotInstalled {
            tracing::info!(
                kind,
                "the cluster has no such kind: it is looked for again every {:?}",
                self.pace.look
            );
        }
        let gone = std::mem::take(&mut self.known);
        self.ledger.change(gone.into_keys().map(|file| (file, None)));
        self.ledger.of(self.index).has(0);
        self.ledger.of(self.index).is(Known::NotInstalled);
        self.ledger.tell();
    }

    /// What happens, from this position on, which moves on with it.
    async fn watch(&mut self, position: &mut Position) -> End {
        let path = self.watched.resource.path(position.version);
        let seconds = self.around(self.pace.watch).as_secs().max(1).to_string();
        let mut query = self.query();
        query.extend([
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
            ("resourceVersion", &position.at),
        ]);
        let mut lines = match self.api.watch(&path, &query).await {
            Ok(lines) => lines,
            Err(error) => return End::of(error),
        };
        self.ledger.heard(self.index);
        self.well();
        loop {
            let line = match lines.next(self.pace.silence).await {
                Ok(Some(line)) => line,
                Ok(None) => return End::Over,
                // Nothing may have happened; what has is asked for again from here.
                Err(ApiError::Silent(_)) => return End::Over,
                Err(error) => return End::of(error),
            };
            self.ledger.heard(self.index);
            match Event::read(self.watched.resource, position.version, &line) {
                Ok(Event::There(object, at)) => {
                    self.there(*object);
                    position.at = at;
                }
                Ok(Event::Gone(object, at)) => {
                    self.gone(&object.file);
                    position.at = at;
                }
                Ok(Event::Until(at)) => position.at = at,
                Ok(Event::Over(error)) => return End::of(error),
                Err(error) => return End::of(error),
            }
        }
    }

    fn there(&mut self, object: Object) {
        self.known.insert(object.file.clone(), object.version.clone());
        self.ledger.of(self.index).has(self.known.len());
        self.ledger.change([(object.file.clone(), Some(object))]);
    }

    fn gone(&mut self, file: &Path) {
        self.known.remove(file);
        self.ledger.of(self.index).has(self.known.len());
        self.ledger.change([(file.to_owned(), None)]);
    }

    /// Whether the API server's time is before ours: its store was put back to an earlier one, and a watch would wait for what
    /// was already. Versions can be compared as numbers (KEP-5504); where they are none, nothing is known.
    async fn is_ahead(&self, position: &Position) -> bool {
        let Ok(page) = self.page(position.version, 1, None).await else { return false };
        let number = |text: &str| text.parse::<u64>().ok();
        number(&page.version).zip(number(&position.at)).is_some_and(|(now, ours)| now < ours)
    }

    /// Counts and says what went wrong, once, and waits.
    async fn pause(&mut self, error: ApiError) {
        self.ledger.of(self.index).failed();
        let kind = self.watched.resource.kind;
        let mut pause = self.backoff.next(fastrand::f64());
        if let ApiError::Busy { after: Some(after), .. } = error {
            pause = pause.max(after.min(self.pace.longest));
        }
        if self
            .said
            .as_ref()
            .is_none_or(|said| std::mem::discriminant(said) != std::mem::discriminant(&error))
        {
            tracing::warn!(kind, %error, "what is known stays in force, and the API server is asked again");
            self.said = Some(error);
        } else {
            tracing::debug!(kind, %error, ?pause, "asked again in vain");
        }
        sleep(pause).await;
    }

    /// It goes well again.
    fn well(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(kind = self.watched.resource.kind, "the API server answers again");
        }
    }

    /// A time a fifth shorter or longer, so that not all nodes ask at once.
    fn around(&self, time: Duration) -> Duration {
        time.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

impl End {
    fn of(error: ApiError) -> Self {
        match error {
            // What cannot be read or taken in as an event can be as a list.
            ApiError::Gone | ApiError::NotInstalled | ApiError::TooLarge { .. } | ApiError::Unreadable(_) => {
                Self::Forgotten(error)
            }
            error => Self::Broken(error),
        }
    }
}
