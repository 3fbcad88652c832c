//! Notes of which namespaces have rules of ours, on disk, so that the next start can take them over, or clear them.
//!
//! One small file per pod, named by the namespace's inode, holding the pod's name and the path it was opened by. A note that no longer
//! names the namespace it was written for is dropped, never followed.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::fstat;

use crate::RedirectError;

/// The directory of notes. It is there as long as there is a note in it.
#[derive(Debug)]
pub(super) struct Leftovers(PathBuf);

/// A namespace that an earlier run left rules in.
pub(super) struct Leftover {
    pub(super) pod: String,
    pub(super) netns: OwnedFd,
    pub(super) inode: u64,
}

/// The note about one pod.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Note {
    /// The rules are gone.
    pub(super) fn forget(&self) {
        // Gone already is as good, and a directory with further notes stays.
        let _ = fs::remove_file(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

impl Leftovers {
    pub(super) fn open(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Notes that a pod's namespace is about to have rules.
    pub(super) fn note(&self, pod: &str, netns: BorrowedFd<'_>) -> Result<Note, RedirectError> {
        let inode = inode(pod, netns)?;
        let link = PathBuf::from(format!("/proc/self/fd/{}", netns.as_raw_fd()));
        let opened_by = fs::read_link(&link).map_err(|e| failed("readlink", &link, e))?;
        fs::create_dir_all(&self.0).map_err(|e| failed("mkdir", &self.0, e))?;
        let path = self.0.join(inode.to_string());
        let text = format!("{pod}\n{}\n", opened_by.display());
        fs::write(&path, text).map_err(|e| failed("write", &path, e))?;
        Ok(Note(path))
    }

    /// What earlier runs noted, where it is still there; other notes are dropped. For when nobody makes notes yet.
    pub(super) fn find(&self) -> Result<Vec<Leftover>, RedirectError> {
        let paths = self.paths().map_err(|error| failed("readdir", &self.0, error))?;
        let found = paths.into_iter().filter_map(|path| {
            let found = read(&path);
            if found.is_none() {
                Note(path).forget();
            }
            found
        });
        Ok(found.collect())
    }

    /// The same, and all notes are dropped.
    pub(super) fn take(&self) -> Result<Vec<Leftover>, RedirectError> {
        let found = self.find()?;
        found.iter().for_each(|left| self.note_of(left.inode).forget());
        Ok(found)
    }

    /// What was noted of these namespaces, where they are still there. Their notes are dropped, and no other is touched.
    pub(super) fn take_those(&self, inodes: impl IntoIterator<Item = u64>) -> Vec<Leftover> {
        let take = |inode| {
            let note = self.note_of(inode);
            let found = read(&note.0);
            note.forget();
            found
        };
        inodes.into_iter().filter_map(take).collect()
    }

    fn note_of(&self, inode: u64) -> Note {
        Note(self.0.join(inode.to_string()))
    }

    /// Whether there is no note.
    pub(super) fn is_empty(&self) -> bool {
        self.paths().is_ok_and(|paths| paths.is_empty())
    }

    /// How many notes still name the namespace that they are about.
    pub(super) fn standing(&self) -> usize {
        self.paths().unwrap_or_default().iter().filter(|path| read(path).is_some()).count()
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.0) {
            Ok(listed) => Ok(listed.filter_map(|entry| Some(entry.ok()?.path())).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// What a namespace is known by while somebody holds it.
pub(super) fn inode(pod: &str, netns: BorrowedFd<'_>) -> Result<u64, RedirectError> {
    let stat = fstat(netns).map_err(|errno| RedirectError::syscall("fstat", pod, errno.into()))?;
    Ok(stat.st_ino)
}

/// The namespace of a note, if its file still names the namespace that the note is about.
fn read(note: &Path) -> Option<Leftover> {
    let inode: u64 = note.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(note).ok()?;
    let (pod, opened_by) = text.trim_end().split_once('\n')?;
    let file = File::open(opened_by).ok()?;
    (file.metadata().ok()?.ino() == inode).then(|| Leftover {
        pod: pod.to_owned(),
        netns: file.into(),
        inode,
    })
}

fn failed(call: &'static str, path: &Path, source: io::Error) -> RedirectError {
    RedirectError::syscall(call, path.display(), source)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn note_is_found_again_until_it_is_forgotten_or_its_namespace_is_another() {
        let directory = std::env::temp_dir().join(format!("canopy-leftovers-{}", std::process::id()));
        let notes = Leftovers::open(directory.clone());
        let target = directory.with_extension("target");
        fs::write(&target, "a").unwrap();
        let file = File::open(&target).unwrap();

        notes.note("shop/cart", file.as_fd()).unwrap();
        let found = notes.take().unwrap();
        assert_eq!(found.iter().map(|left| left.pod.as_str()).collect::<Vec<_>>(), ["shop/cart"]);
        assert!(notes.take().unwrap().is_empty(), "notes are dropped once taken");

        notes.note("shop/cart", file.as_fd()).unwrap().forget();
        assert!(notes.take().unwrap().is_empty());

        notes.note("shop/cart", file.as_fd()).unwrap();
        assert_eq!((notes.is_empty(), notes.standing()), (false, 1));
        let another = directory.with_extension("another");
        fs::write(&another, "b").unwrap();
        fs::rename(another, &target).unwrap();
        assert_eq!((notes.is_empty(), notes.standing()), (false, 0));
        assert!(notes.take().unwrap().is_empty(), "the path names something else now");
        assert!(!directory.exists(), "where there is no note there is no directory");
        fs::remove_file(&target).unwrap();
    }
}
