//! Revocation lists from a file or a directory, followed on a thread of their own.
//!
//! A list that became unreadable is reported, and what was revoked stays revoked. It must never hold up a handshake: cells
//! are handed what was read.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::trust::{Revocations, TrustError};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A list of a million certificates is some 40 MB.
const LARGEST: u64 = 64 << 20;
/// Reading a list needs none worth the name.
const STACK_BYTES: usize = 256 * 1024;

/// Why revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The system says no.
    #[error("the revocation lists in {} cannot be read", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("{} is not a revocation list (PEM or DER)", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
}

/// Reads the lists at `path` (a file, or a directory of `*.crl` and `*.pem`), and follows them for as long as anybody does.
pub fn follow(path: PathBuf) -> Result<watch::Receiver<Arc<Revocations>>, RevocationError> {
    // Looked at before it is read: what changes meanwhile is read again.
    let mut seen = look(&path).map_err(at(&path))?;
    let (sender, receiver) = watch::channel(Arc::new(read(&path)?));
    let start = path.clone();
    let follower = move || {
        while !sender.is_closed() {
            thread::sleep(LOOK);
            // In the midst of being replaced it may not be there.
            let Ok(now) = look(&path) else { continue };
            if now == seen {
                continue;
            }
            seen = now;
            match read(&path) {
                Ok(lists) => {
                    tracing::info!(lists = lists.len(), "the revocation lists have changed");
                    sender.send_replace(Arc::new(lists));
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the revocation lists of before stay in force");
                }
            }
        }
    };
    let builder = thread::Builder::new().name("revocations".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(follower).map_err(at(&start))?;
    Ok(receiver)
}

fn read(path: &Path) -> Result<Revocations, RevocationError> {
    let (mut all, mut read) = (Revocations::default(), Vec::new());
    for path in files(path).map_err(at(path))? {
        let size = fs::metadata(&path).map_err(at(&path))?.len();
        if size > LARGEST {
            return Err(at(&path)(io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = fs::read(&path).map_err(at(&path))?;
        let lists = Revocations::read(&bytes);
        all = all.merge(lists.map_err(|source| RevocationError::Content { path, source })?);
        read.push(bytes);
    }
    all.shared(&read).map_err(|source| RevocationError::Content { path: path.to_owned(), source })
}

/// The file itself, or those of the directory.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "crl" || extension == "pem"));
    files.sort();
    Ok(files)
}

/// What tells two states of the files apart without reading them.
type Seen = Vec<(PathBuf, u64, u64, i64, i64)>;

fn look(path: &Path) -> io::Result<Seen> {
    let look = |path: PathBuf| {
        let file = fs::metadata(&path)?;
        Ok((path, file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    };
    files(path)?.into_iter().map(look).collect()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RevocationError {
    move |source| RevocationError::Io { path: path.to_owned(), source }
}
