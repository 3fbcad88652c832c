//! Which files are as they were when they were read, told by their stamps: a directory of a million endpoints must not be read anew for
//! one of them.
//!
//! A file that changed just now may change again within the same tick of the file system's clock: it must never be taken to be as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use config::finding::Finding;

use crate::sys::stamp::Stamp;

/// The stamps of files, of those that changed long enough ago.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<PathBuf, Stamp>);

impl Stamps {
    /// Of files as they are at this time.
    pub(super) fn of(files: &[(PathBuf, Option<Stamp>)], now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_old = |stamp: &Stamp| changed(stamp).is_some_and(|at| at + TICK < now);
        let old = files.iter().filter_map(|(path, stamp)| Some((path.clone(), stamp.filter(is_old)?)));
        Self(old.collect())
    }
}

/// When a file changed, since the epoch.
fn changed((.., seconds, nanoseconds): &Stamp) -> Option<Duration> {
    Some(Duration::new(u64::try_from(*seconds).ok()?, u32::try_from(*nanoseconds).ok()?))
}

/// Files that were read, and with which stamps.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<PathBuf, Stamp>);

impl Known {
    /// Of files that were read after their stamps were taken: those that are settled, and of which nothing is to be shown.
    pub(super) fn of(
        Stamps(mut stamps): Stamps,
        is_settled: impl Fn(&Path) -> bool,
        findings: &[Finding],
    ) -> Self {
        let shown: BTreeSet<&Path> = findings.iter().map(|finding| &*finding.file).collect();
        stamps.retain(|path, _| is_settled(path) && !shown.contains(path.as_path()));
        Self(stamps)
    }

    /// Whether a file is as it was when it was read.
    pub(super) fn has(&self, path: &Path, now: &Stamps) -> bool {
        self.0.get(path).is_some_and(|stamp| now.0.get(path) == Some(stamp))
    }
}

/// Longer than any tick of a file system's clock on a local disk.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use config::finding::{Position, Reason, Severity};

    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn stamped(size: u64, millis: i64) -> Vec<(PathBuf, Option<Stamp>)> {
        vec![(PathBuf::from("a.yaml"), Some((1, 2, size, millis / 1_000, millis % 1_000 * 1_000_000)))]
    }

    fn known(files: &[(PathBuf, Option<Stamp>)], read: SystemTime) -> Known {
        Known::of(Stamps::of(files, read), |_| true, &[])
    }

    fn has(known: &Known, files: &[(PathBuf, Option<Stamp>)]) -> bool {
        known.has(Path::new("a.yaml"), &Stamps::of(files, at(9_000)))
    }

    #[test]
    fn a_file_with_the_same_stamp_is_as_it_was() {
        let before = known(&stamped(7, 1_000), at(5_000));
        assert!(has(&before, &stamped(7, 1_000)));
        assert!(!has(&before, &stamped(8, 1_000)));
        assert!(!has(&before, &stamped(7, 1_001)));
        assert!(!before.has(Path::new("b.yaml"), &Stamps::of(&stamped(7, 1_000), at(9_000))));
    }

    #[test]
    fn a_file_that_changed_just_before_it_was_read_may_have_changed_again() {
        assert!(!has(&known(&stamped(7, 4_950), at(5_000)), &stamped(7, 4_950)));
        assert!(!has(&known(&stamped(7, 6_000), at(5_000)), &stamped(7, 6_000)), "nor one of the future");
        assert!(has(&known(&stamped(7, 4_800), at(5_000)), &stamped(7, 4_800)));
    }

    #[test]
    fn a_file_that_is_not_settled_or_has_a_finding_whose_line_is_shown_is_read_again() {
        let stamps = || Stamps::of(&stamped(7, 1_000), at(5_000));
        assert!(!has(&Known::of(stamps(), |_| false, &[]), &stamped(7, 1_000)));
        let finding = Finding {
            severity: Severity::Warning,
            reason: Reason::NotObeyed,
            file: Path::new("a.yaml").into(),
            position: Position { line: 1, column: 1 },
            object: None,
            field: String::new(),
            message: String::new(),
            excerpt: None,
        };
        assert!(!has(&Known::of(stamps(), |_| true, &[finding]), &stamped(7, 1_000)));
    }
}
