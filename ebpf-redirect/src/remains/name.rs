//! A name that one process at a time has, whichever way it steers.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    RedirectError,
    lock::{self, Locked},
};

/// A name that is taken. It is free again when this is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    _file: Locked,
}

impl Name {
    pub(super) fn take(path: PathBuf, instance: &str) -> Result<Self, RedirectError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                RedirectError::Permission { what: "take the name of its instance" }
            }
            _ => RedirectError::syscall("lock", path.display(), source),
        };
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        loop {
            let file = open(&path).map_err(failed)?;
            let Some(file) = lock::take(file).map_err(failed)? else {
                return Err(RedirectError::InstanceInUse { name: instance.to_owned() });
            };
            // Whoever had it may have removed it in between: then it is not this file that others see.
            if is_at(file.file(), &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a lock that is free now could not be removed");
        }
    }
}

/// Whether a process has the name.
pub(super) fn is_held(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => lock::is_taken(&file),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Nobody but its owner may open it: who can, can lock it.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(seen)) => (held.dev(), held.ino()) == (seen.dev(), seen.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_process_at_a_time_and_leaves_nothing() {
        let path = std::env::temp_dir().join(format!("canopy-name-{}/blue.lock", std::process::id()));
        let first = Name::take(path.clone(), "blue").unwrap();
        let refused = Name::take(path.clone(), "blue").unwrap_err();
        assert!(matches!(&refused, RedirectError::InstanceInUse { name } if name == "blue"), "{refused}");
        assert!(is_held(&path));
        drop(first);
        assert!(!is_held(&path) && !path.exists());
        // What a killed process leaves is in nobody's way.
        fs::write(&path, "").unwrap();
        assert!(!is_held(&path));
        drop(Name::take(path.clone(), "blue").unwrap());
        fs::remove_dir(path.parent().unwrap()).unwrap();
    }
}
