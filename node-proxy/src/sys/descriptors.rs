//! The process's descriptor limit and table.
//!
//! The kernel grows a shared table by waiting for all readers of the old one, which stalls every thread that opens
//! a file meanwhile: a stall of one tenant's making that all would feel. So it is grown once, at start.

use std::{fs::File, io};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// At most so many descriptors are asked for: 8 bytes of kernel memory each are paid for at once.
const TABLE: u64 = 262_144;

/// Raises the soft limit to the hard one (at most `TABLE`) and makes the table as large. Gives the limit.
pub fn prepare() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(TABLE).min(TABLE).max(current.unwrap_or(TABLE));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    }
    let last = i32::try_from(wanted.min(TABLE) - 1).unwrap_or(i32::MAX);
    drop(fcntl_dupfd_cloexec(File::open("/dev/null")?, last)?);
    Ok(wanted)
}

/// Has whatever was open when the process began close in those that it starts: nothing of its own needs it.
#[expect(unsafe_code, reason = "no library wraps close_range")]
pub fn keep_from_children() -> io::Result<()> {
    // SAFETY: it closes nothing now, and no memory is passed.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, dup, fcntl_getfd};

    use super::*;

    #[test]
    fn what_was_open_before_closes_in_children() {
        let inherited = dup(File::open("/dev/null").unwrap()).unwrap();
        assert_eq!(fcntl_getfd(&inherited).unwrap(), FdFlags::empty());
        keep_from_children().unwrap();
        assert_eq!(fcntl_getfd(&inherited).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = prepare().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(limit));
        // Once more changes nothing.
        assert_eq!(prepare().unwrap(), limit);
    }
}
