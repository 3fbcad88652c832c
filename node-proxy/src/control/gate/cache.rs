//! What the daemon knows of namespaces, on the node's disk: for the plugin, while neither a daemon nor the API server is there.
//!
//! Written beside and renamed, so that nobody reads half of it. A namespace that is not in it is not known, which is not the same as one
//! that is off. A file that cannot be read, or is of another version, is as none.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::model::Mesh;
use serde::{Deserialize, Serialize};

use super::{mode::Terms, standing::terms};
use crate::sys::replace::{Mode, replace};

/// The version of the file.
const VERSION: u32 = 2;
/// A file that is larger is none of the daemon's: 10,000 namespaces are 1.2 MB.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What is known of namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    version: u32,
    namespaces: BTreeMap<String, Terms>,
}

impl Namespaces {
    /// As a mesh has them.
    pub fn of(mesh: &Mesh) -> Self {
        let terms = mesh.namespaces.keys().filter_map(|name| Some((name.to_string(), terms(mesh, name)?)));
        Self { version: VERSION, namespaces: terms.collect() }
    }

    /// What one of them says of its pods.
    pub fn terms(&self, namespace: &str) -> Option<Terms> {
        self.namespaces.get(namespace).copied()
    }

    /// As a file has them.
    ///
    /// # Errors
    /// It is not there, or cannot be understood.
    pub fn read(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than any may be"));
        }
        let read: Self = serde_json::from_slice(&fs::read(path)?)?;
        if read.version == VERSION {
            return Ok(read);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is of version {}", read.version)))
    }

    /// Writes them to a file, whole or not at all.
    ///
    /// # Errors
    /// The disk is full, or the directory is not to be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        replace(path, &serde_json::to_vec(self)?, Mode(0o600))
    }
}

/// The file, kept as what is in force says.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    written: Option<Arc<Namespaces>>,
    /// Said once, until it can be written again.
    complained: bool,
}

impl Cache {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, written: None, complained: false }
    }

    /// Writes what is not there yet. On a thread on which a disk that hangs holds up nobody.
    pub(super) async fn keep(&mut self, mesh: &Mesh) {
        // Before the first configuration nothing is known, which is no reason to forget.
        if mesh.version == 0 {
            return;
        }
        let namespaces = Arc::new(Namespaces::of(mesh));
        if self.written.as_ref() == Some(&namespaces) {
            return;
        }
        let (path, to_write) = (self.path.clone(), Arc::clone(&namespaces));
        let done = tokio::task::spawn_blocking(move || to_write.write(&path)).await;
        match done.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into())) {
            Ok(()) => (self.written, self.complained) = (Some(namespaces), false),
            Err(error) => {
                let path = self.path.clone();
                let forgotten = tokio::task::spawn_blocking(move || forget(&path)).await;
                let outdated = forgotten.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into())).err();
                if !self.complained {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "what namespaces say cannot be kept on disk (--gate-cache): while neither this daemon nor the API server is there, new pods wait");
                    if let Some(error) = outdated {
                        tracing::error!(%path, %error, "nor can what they said before be removed from it (--gate-cache): remove the file, since by it pods would start uncaptured whose namespaces are captured by now");
                    }
                    self.complained = true;
                }
                // As it is removed, it is not written.
                self.written = None;
            }
        }
    }
}

/// Takes away what is true no more: by it, a pod of a namespace that was labelled since would start uncaptured. It takes no room on a full disk.
fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use config::{
        model::{Labels, NamespaceFacts},
        name::Namespace,
        opt_in::{Kept, MODE, Mode, ON_FAILURE, OnFailure},
    };

    use super::*;

    fn mesh(version: u64, namespaces: &[(&str, &[(&str, &str)])]) -> Mesh {
        let facts = namespaces.iter().map(|(name, labels)| {
            let labels: Labels =
                labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let name = Namespace::try_from(*name).unwrap();
            (name.clone(), Arc::new(NamespaceFacts { name, labels }))
        });
        Mesh { version, namespaces: facts.collect(), ..Mesh::default() }
    }

    #[tokio::test]
    async fn what_namespaces_say_is_read_as_it_was_written_and_one_that_is_not_there_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/namespaces.json");
        let mut cache = Cache::new(path.clone());
        cache.keep(&mesh(0, &[])).await;
        assert!(!path.exists(), "nothing is known yet");
        cache.keep(&mesh(1, &[("shop", &[(MODE, "node"), (ON_FAILURE, "open")]), ("other", &[])])).await;
        let read = Namespaces::read(&path).unwrap();
        assert_eq!(
            read.terms("shop"),
            Some(Terms { mode: Some(Mode::Node), on_failure: OnFailure::Open, kept: Kept::No })
        );
        assert_eq!((read.terms("other"), read.terms("new")), (Some(Terms::default()), None));
        // Not written again without need: one that was removed stays so.
        fs::remove_file(&path).unwrap();
        cache.keep(&mesh(2, &[("shop", &[(MODE, "node"), (ON_FAILURE, "open")]), ("other", &[])])).await;
        assert!(!path.exists());
        cache.keep(&mesh(3, &[("shop", &[(MODE, "off")])])).await;
        let off = Terms { mode: Some(Mode::Off), ..Terms::default() };
        assert_eq!(Namespaces::read(&path).unwrap().terms("shop"), Some(off));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_left_as_it_was_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("namespaces.json");
        let mut cache = Cache::new(path.clone());
        cache.keep(&mesh(1, &[("shop", &[])])).await;
        // Where a folder stands in the place of the new file, it cannot be written, as on a full disk.
        let in_the_way = directory.path().join(".namespaces.json.canopy-new");
        fs::create_dir(&in_the_way).unwrap();
        let labelled = mesh(2, &[("shop", &[(MODE, "node")])]);
        cache.keep(&labelled).await;
        assert!(!path.exists(), "a namespace that is captured by now is not known as one that is off");
        fs::remove_dir(&in_the_way).unwrap();
        cache.keep(&labelled).await;
        assert_eq!(Namespaces::read(&path).unwrap().terms("shop").unwrap().mode, Some(Mode::Node));
        // What was in force before is written again after it, too.
        fs::create_dir(&in_the_way).unwrap();
        cache.keep(&mesh(3, &[])).await;
        fs::remove_dir(&in_the_way).unwrap();
        cache.keep(&labelled).await;
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_version_is_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("namespaces.json");
        for text in [
            "",
            "{",
            r#"{"version":1,"namespaces":{}}"#,
            r#"{"version":2,"namespaces":{"shop":{"mode":"nod"}}}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(Namespaces::read(&path).is_err(), "{text}");
        }
        fs::write(&path, r#"{"version":2,"namespaces":{"shop":{"mode":"node"}}}"#).unwrap();
        assert!(Namespaces::read(&path).is_ok());
    }
}
