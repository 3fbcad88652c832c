//! Reading a directory of manifests: the same for the daemon's file source and for `canopy validate`.
//!
//! Files that end in `.yaml`, `.yml` or `.json`, not those of subdirectories, as `kubectl apply -f DIR` does it. A file that cannot be
//! read is reported as such and stands for itself: it must never hide the others.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::store::FileText;

/// The directory itself cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the configuration directory {path} cannot be read; it must be a directory of .yaml or .json manifests"
)]
pub struct DirectoryError {
    /// The directory.
    path: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// Whether it can be read.
pub(super) fn check(directory: &Path) -> Result<(), DirectoryError> {
    fs::read_dir(directory).map(drop).map_err(|source| DirectoryError { path: directory.to_owned(), source })
}

/// Every manifest file of a directory, by path.
pub fn read(directory: &Path) -> Result<BTreeMap<PathBuf, FileText>, DirectoryError> {
    read_others(directory, |_| false)
}

/// The same, but of files that are as they were before only that: they are not read.
pub(super) fn read_others(
    directory: &Path,
    is_as_before: impl Fn(&Path) -> bool,
) -> Result<BTreeMap<PathBuf, FileText>, DirectoryError> {
    let failed = |source| DirectoryError { path: directory.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_as_before(&path) {
            files.insert(path, FileText::AsBefore);
        } else if is_manifest(&path) {
            let text =
                read_file(&path).unwrap_or_else(|error| FileText::Unreadable(Arc::from(error.to_string())));
            files.insert(path, text);
        }
    }
    Ok(files)
}

/// Whether a path looks like a manifest: by its ending, and not hidden (editors' and ConfigMaps' own files are).
fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let ending = path.extension().and_then(|ending| ending.to_str());
    !is_hidden && matches!(ending, Some("yaml" | "yml" | "json")) && !path.is_dir()
}

pub(super) fn read_file(path: &Path) -> io::Result<FileText> {
    // Without O_NONBLOCK, a FIFO would hold whoever opens it until somebody writes.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that the reader sees that it is too large.
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(FileText::from(bytes))
}

/// Bytes of a file that are read at most; `config` refuses what is larger than its own limit.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_and_everything_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["a.yaml", "b.yml", "c.json", "README.md", ".hidden.yaml", "d.yaml~"] {
            fs::write(at(name), name).unwrap();
        }
        fs::create_dir(at("sub.yaml")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling.yaml")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(at("fifo.yaml")).status().unwrap();
        assert!(fifo.success());
        let files = read(directory.path()).unwrap();
        let names: Vec<_> = files.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json", "dangling.yaml", "fifo.yaml"]);
        assert_eq!(files[&at("a.yaml")], FileText::from("a.yaml"));
        assert!(matches!(files[&at("dangling.yaml")], FileText::Unreadable(_)));
        assert!(matches!(files[&at("fifo.yaml")], FileText::Unreadable(_)), "a FIFO holds nobody up");
    }

    #[test]
    fn directory_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
