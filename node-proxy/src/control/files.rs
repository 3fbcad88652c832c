//! The source `files`: a directory of manifests, watched.
//!
//! Events are only a hint to look; what counts is what the directory shows: so editors that write beside and rename,
//! Kubernetes' `..data` links, and a directory that is removed and made again are all the same. An unreadable directory
//! must never look like an empty one, nor a file that is just being written like one that was emptied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, SystemTime},
};

use config::{
    finding::Finding,
    store::{FileText, Options, Outcome, Store, show_lines},
};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::time::Instant;

use self::known::{Known, Stamps};
use super::{
    ConfigSource,
    directory::{self, DirectoryError},
};
use crate::sys::stamp::{Stamp, stamp};

mod known;

/// Looked for anyway, where events are missing: on network file systems, or when the directory was made again.
const LOOK: Duration = Duration::from_secs(1);
/// An edit is over when nothing happens for so long.
const QUIET: Duration = Duration::from_millis(50);
/// An edit that goes on for longer is read in between.
const LONGEST: Duration = Duration::from_secs(1);
/// A file that held objects counts as emptied when it is empty for so long: editors truncate, and write a while later.
const EMPTY: Duration = Duration::from_secs(1);

/// A directory of manifests.
#[derive(Debug)]
pub struct FileSource {
    directory: PathBuf,
    store: Store,
    watch: Option<Watch>,
    hints: (mpsc::SyncSender<()>, Receiver<()>),
    seen: Option<Seen>,
    /// What need not be read again while it is unchanged.
    known: Known,
    /// Files that say something, as the store has them.
    full: BTreeSet<PathBuf>,
    /// Those of them that are empty now, and since when.
    empty: BTreeMap<PathBuf, Instant>,
    look_at: Instant,
    unreadable: bool,
    /// From when on time is counted, for what is put off.
    opened: Instant,
}

/// A watch, and which directory it is of: one that was made again under the same name is another.
#[derive(Debug)]
struct Watch {
    _watcher: RecommendedWatcher,
    of: (u64, u64),
}

/// What tells one state of a directory from another without reading its files.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl FileSource {
    /// The directory must be there now; later it may come and go.
    pub fn open(directory: &Path, options: Options) -> Result<Self, DirectoryError> {
        directory::check(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            store: Store::new(options),
            watch: None,
            hints: mpsc::sync_channel(1),
            seen: None,
            known: Known::default(),
            full: BTreeSet::new(),
            empty: BTreeMap::new(),
            look_at: Instant::now(),
            unreadable: false,
            opened: Instant::now(),
        })
    }

    /// Waits until a look may be worth its while; `false` if the time is over first.
    fn wait(&mut self, until: Instant) -> bool {
        let end = until.min(self.look_at);
        match self.hints.1.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(()) => {
                self.settle();
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Instant::now() >= self.look_at,
        }
    }

    /// Lets an edit come to its end.
    fn settle(&self) {
        let longest = Instant::now() + LONGEST;
        while Instant::now() < longest && self.hints.1.recv_timeout(QUIET).is_ok() {}
    }

    fn look(&mut self) -> Option<Outcome> {
        self.look_at = Instant::now() + LOOK;
        self.watch_again();
        let seen = look_at(&self.directory);
        if seen.is_some() && seen == self.seen {
            return None;
        }
        // Before reading: what changes meanwhile is seen as a change next time.
        let stamps = seen.as_ref().map(|seen| Stamps::of(&seen.files, SystemTime::now())).unwrap_or_default();
        self.seen = seen;
        match directory::read_others(&self.directory, |path| self.known.has(path, &stamps)) {
            Ok(mut files) => {
                self.note_readable(None);
                self.wait_for_writers(&mut files, Instant::now());
                let mut outcome = self.store.apply_at(&files, self.opened.elapsed());
                self.store.forget_texts();
                let unread = unread(&files, &outcome.findings);
                show_lines(&mut outcome.findings, &unread);
                let is_settled = |path: &Path| self.full.contains(path) && !self.empty.contains_key(path);
                self.known = Known::of(stamps, is_settled, &outcome.findings);
                if let Some(again) = outcome.again {
                    // What was put off is looked at again, also if nothing changes.
                    self.look_at = self.look_at.min(Instant::now() + again);
                    self.seen = None;
                }
                Some(outcome)
            }
            Err(error) => {
                self.seen = None;
                self.note_readable(Some(&error));
                None
            }
        }
    }

    /// Lets files that have just become empty stand as they were, for a while. All others count at once.
    fn wait_for_writers(&mut self, files: &mut BTreeMap<PathBuf, FileText>, now: Instant) {
        self.full.retain(|path| files.contains_key(path));
        self.empty.retain(|path, _| files.get(path).is_some_and(FileText::says_nothing));
        for (path, text) in files {
            if !text.says_nothing() {
                self.full.insert(path.clone());
            } else if self.full.contains(path) {
                let due = *self.empty.entry(path.clone()).or_insert(now) + EMPTY;
                if now < due {
                    *text = FileText::Unreadable(Arc::from(
                        "is empty just now; its objects go if it stays so for a second",
                    ));
                    // It is looked at again, also if nothing changes.
                    self.look_at = self.look_at.min(due);
                    self.seen = None;
                } else {
                    self.full.remove(path);
                }
            }
        }
    }

    fn note_readable(&mut self, error: Option<&DirectoryError>) {
        match error {
            Some(error) if !self.unreadable => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "the configuration stays as it was");
            }
            None if self.unreadable => tracing::info!("the configuration directory can be read again"),
            _ => {}
        }
        self.unreadable = error.is_some();
    }

    /// Watches the directory that is there now.
    fn watch_again(&mut self) {
        let Ok(found) = fs::metadata(&self.directory) else { return self.watch = None };
        let of = (found.dev(), found.ino());
        if self.watch.as_ref().is_some_and(|watch| watch.of == of) {
            return;
        }
        match self.start_watch() {
            Ok(watcher) => self.watch = Some(Watch { _watcher: watcher, of }),
            Err(error) => {
                tracing::debug!(%error, "the configuration directory cannot be watched: it is looked at every second");
            }
        }
    }

    fn start_watch(&self) -> notify::Result<RecommendedWatcher> {
        let hint = self.hints.0.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the directory is an event, too, and no reason to read it.
            if !event.is_ok_and(
                |event| matches!(event.kind, EventKind::Access(access) if !is_end_of_writing(access)),
            ) {
                // One hint is as good as many.
                let _ = hint.try_send(());
            }
        })?;
        watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

impl ConfigSource for FileSource {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let until = Instant::now() + patience;
        loop {
            if self.wait(until)
                && let Some(outcome) = self.look()
            {
                return Some(outcome);
            }
            if Instant::now() >= until {
                return None;
            }
        }
    }
}

/// The texts of files that were not read again, and of which there is something to say now.
fn unread(files: &BTreeMap<PathBuf, FileText>, findings: &[Finding]) -> BTreeMap<PathBuf, FileText> {
    let named: BTreeSet<&Path> = findings.iter().map(|finding| &*finding.file).collect();
    let unread = named.into_iter().filter(|path| files.get(*path) == Some(&FileText::AsBefore));
    unread.filter_map(|path| Some((path.to_owned(), directory::read_file(path).ok()?))).collect()
}

fn is_end_of_writing(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    access == AccessKind::Close(AccessMode::Write)
}

fn look_at(directory: &Path) -> Option<Seen> {
    let entries = fs::read_dir(directory).ok()?.collect::<io::Result<Vec<_>>>().ok()?;
    let mut files: Vec<_> = entries.iter().map(|entry| (entry.path(), stamp(&entry.path()))).collect();
    files.sort();
    Some(Seen { files })
}

#[cfg(test)]
mod tests;
