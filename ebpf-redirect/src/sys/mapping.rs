//! The elements of a map as memory of this process: what is stored there, the programs read without a system call.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// A map of whole words, mapped. Dropping it unmaps it; the map stays.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: atomic words that stay where they are as long as it lives.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many words of a map that was made to be mapped.
    pub(crate) fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let (length, access) = (words * size_of::<u64>(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the kernel chooses where, so nothing that is there already is replaced.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, words })
    }

    /// One of the words.
    pub(crate) fn word(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: within what is mapped, aligned as a page is, and mapped as long as `self` lives; everybody else, too, writes
        // whole words only.
        (index < self.words).then(|| unsafe { self.start.add(index).as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what was mapped, of which no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}
