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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = prepare().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(limit));
        // Once more changes nothing.
        assert_eq!(prepare().unwrap(), limit);
    }
}
