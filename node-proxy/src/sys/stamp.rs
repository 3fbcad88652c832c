//! What tells one state of a file from another without reading it.
//!
//! A file that changed just now may change again within the same tick of the file system's clock, and have the same stamp: it must never be
//! taken as proof of that.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Device, inode, size, and time of the last change (`ctime`: seconds and nanoseconds), which not even the file's owner sets.
pub type Stamp = (u64, u64, u64, i64, i64);

/// The stamp of a file, if it is there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(of)
}

/// The stamp that this says.
pub fn of(found: &Metadata) -> Stamp {
    (found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec())
}
