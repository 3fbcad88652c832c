//! The page of memory on which a cell's process shows its ledger, and its heartbeat with it.
//!
//! A file in memory that is written and read, not mapped: whoever reads it never faults, whatever the process does to it. It
//! costs two system calls in a tenth of a second.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::tenancy::Ledger;

/// The page. Both sides have a descriptor of it.
#[derive(Debug)]
pub(super) struct Page(File);

impl Page {
    /// A new one, with what this ledger says.
    pub(super) fn new(ledger: &Ledger) -> io::Result<Self> {
        let page = Self(memfd_create(c"ledger", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into());
        page.show(ledger)?;
        // The process may write other numbers, but no more of them.
        fcntl_add_seals(&page.0, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(page)
    }

    /// Shows a ledger as it is now.
    pub(super) fn show(&self, ledger: &Ledger) -> io::Result<()> {
        let bytes: Vec<u8> = ledger.words().into_iter().flat_map(u64::to_ne_bytes).collect();
        // In two calls, which a confined process may make.
        (&self.0).seek(SeekFrom::Start(0))?;
        (&self.0).write_all(&bytes)
    }

    /// Takes over into a ledger what is shown, as far as it is the process's to say.
    pub(super) fn read_into(&self, ledger: &Ledger) -> io::Result<()> {
        let mut bytes = vec![0; ledger.words().len() * size_of::<u64>()];
        self.0.read_exact_at(&mut bytes, 0)?;
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        ledger.hear(&words);
        Ok(())
    }
}

impl From<OwnedFd> for Page {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsFd for Page {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn what_one_side_shows_the_other_reads_and_the_page_keeps_its_size() {
        let (there, here) = (Ledger::default(), Ledger::default());
        let ours = Page::new(&here).unwrap();
        let theirs = Page::from(ours.as_fd().try_clone_to_owned().unwrap());
        there.beat(7);
        there.carried(3, 4);
        theirs.show(&there).unwrap();
        ours.read_into(&here).unwrap();
        assert_eq!((here.heartbeats.load(Relaxed), here.bytes_sent.load(Relaxed)), (1, 4));
        assert_eq!(here.cpu_nanos.load(Relaxed), 0, "the kernel is asked for that");
        assert!(theirs.0.set_len(0).is_err() && theirs.0.set_len(1 << 30).is_err());
        ours.read_into(&here).unwrap();
    }
}
