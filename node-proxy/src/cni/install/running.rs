//! Whether a daemon still runs: what it keeps in its directories is locked, or somebody answers there, until it has ended, whatever ends it.
//!
//! Looks, and changes nothing. What cannot be looked at is as good as in use.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// What a process that runs has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// A file or a directory that it has locked: its name's, its cache's.
    Locked(PathBuf),
    /// A socket on which it answers.
    Answered(PathBuf),
}

/// The first thing in a directory that is somebody's; `None` where there is none, or no such directory.
///
/// # Errors
/// Something in it cannot be looked at.
pub(super) fn held(directory: &Path) -> io::Result<Option<Held>> {
    look(directory, DEPTH)
}

fn look(path: &Path, depth: usize) -> io::Result<Option<Held>> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        // It has gone meanwhile, as what was a daemon's does.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if kind.is_socket() {
        let is_answered = UnixStream::connect(path).is_ok();
        return Ok(is_answered.then(|| Held::Answered(path.to_owned())));
    }
    // Nothing of a daemon's is behind a link, nor anything else than these.
    if !(kind.is_dir() || kind.is_file()) {
        return Ok(None);
    }
    if is_locked(path)? {
        return Ok(Some(Held::Locked(path.to_owned())));
    }
    if !kind.is_dir() || depth == 0 {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        if let Some(held) = look(&entry?.path(), depth - 1)? {
            return Ok(Some(held));
        }
    }
    Ok(None)
}

fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(&file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// How far down a daemon keeps anything that it locks: `/var/lib/canopy/discovery`, and one more.
const DEPTH: usize = 3;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_a_process_has_locked_or_answers_on_is_found_until_it_lets_go_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let (state, cache) = (directory.path().join("state"), directory.path().join("state/discovery"));
        assert_eq!(held(&state).unwrap(), None, "there is none");
        fs::create_dir_all(&cache).unwrap();
        let (file, socket) = (state.join("node.lock"), state.join("gate.sock"));
        fs::write(&file, "").unwrap();
        // Left by one that was killed.
        drop(UnixListener::bind(&socket).unwrap());
        std::os::unix::fs::symlink(directory.path().join("away"), state.join("link")).unwrap();
        assert_eq!(held(&state).unwrap(), None);
        for path in [&file, &cache] {
            let locked = File::open(path).unwrap();
            flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert_eq!(held(&state).unwrap(), Some(Held::Locked(path.clone())));
            drop(locked);
            assert_eq!(held(&state).unwrap(), None);
        }
        fs::remove_file(&socket).unwrap();
        let answers = UnixListener::bind(&socket).unwrap();
        assert_eq!(held(&state).unwrap(), Some(Held::Answered(socket)));
        drop(answers);
        assert_eq!(held(&state).unwrap(), None);
    }
}
