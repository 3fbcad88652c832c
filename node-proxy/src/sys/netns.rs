//! Network namespaces by descriptor: making a socket in a pod's namespace from a thread that lives elsewhere.
//!
//! A closure runs inside; the thread is back in its own namespace afterwards, also when the closure panics.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Device and inode, which name a namespace while somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetnsId(u64, u64);

/// A network namespace that is kept alive by its descriptor.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    /// `None` where the kernel would not say.
    id: Option<NetnsId>,
}

impl Netns {
    /// Opens the namespace that a file names (`/run/netns/NAME`, `/proc/PID/ns/net`).
    /// It may be any file: whether it is one is for [`Netns::is_namespace`] to say.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK, a FIFO would hold the thread until somebody writes; without O_NOCTTY, a terminal would
        // become the daemon's.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self::from(OwnedFd::from(file)))
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Runs `work` inside this namespace, then returns the thread to `home`.
    ///
    /// Nothing is switched, and no capability is needed, where the two are one. Aborts the process when the thread
    /// cannot return: going on in a stranger's namespace would break isolation.
    pub fn run<T>(&self, home: &Self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.is(home) {
            return work();
        }
        move_into(self)?;
        let _back = Return(home);
        work()
    }

    /// A second descriptor of the same namespace.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, id: self.id })
    }

    /// Whether the file at `path` names this namespace now. One that was deleted and made again is another: its number
    /// cannot be the same, since this one is held.
    pub fn is_at(&self, path: &Path) -> bool {
        self.id.is_some() && self.id == Self::id_at(path)
    }

    /// What the file at `path` names now, if it is there.
    pub fn id_at(path: &Path) -> Option<NetnsId> {
        rustix::fs::stat(path).ok().map(|stat| NetnsId(stat.st_dev, stat.st_ino))
    }

    /// What names it, while it is held.
    pub fn id(&self) -> Option<NetnsId> {
        self.id
    }

    /// Whether this is a namespace at all, and not the empty file that `ip netns add` makes a moment before.
    pub fn is_namespace(&self) -> bool {
        rustix::fs::fstatfs(&self.fd).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
    }

    /// Whether two descriptors are of one namespace.
    pub fn is(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id
    }
}

/// What an abort waits for its reason to be written.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// linux/magic.h.
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Netns {
    fn from(fd: OwnedFd) -> Self {
        let id = rustix::fs::fstat(&fd).ok().map(|stat| NetnsId(stat.st_dev, stat.st_ino));
        Self { fd, id }
    }
}

struct Return<'a>(&'a Netns);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        if let Err(error) = move_into(self.0) {
            tracing::error!(%error, "a thread could not return to its own network namespace");
            // Long enough for the log's own thread to write that.
            thread::sleep(LAST_WORDS);
            std::process::abort();
        }
    }
}

/// Has the calling thread, and those that it starts from then on, live in a new namespace in which there is nothing, not even a loopback
/// address that is up: nothing can be reached from it, and nothing reaches it.
#[expect(unsafe_code, reason = "other flags than this one would be dangerous, and the call is one for all")]
pub fn leave() -> io::Result<()> {
    // SAFETY: no table of descriptors is unshared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

fn move_into(netns: &Netns) -> io::Result<()> {
    Ok(move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_fifo_holds_nobody_up_and_is_no_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let (done, opened) = mpsc::channel();
        thread::spawn(move || done.send(Netns::open(&fifo)));
        let opened = opened.recv_timeout(Duration::from_secs(5)).expect("opening does not wait for a writer");
        assert!(!opened.unwrap().is_namespace());
        assert!(Netns::current().unwrap().is_namespace());
    }
}
