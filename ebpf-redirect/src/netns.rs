//! Things that can only be done inside a pod's network namespace. Each runs on a thread of its own that enters
//! and ends there, so the calling thread can never be left in the wrong one, not even by a panic.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    thread,
};

use rustix::{
    fs::{fstat, stat},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use socket2::{Domain, Socket, Type};

use crate::{RedirectError, sys};

/// Runs `work` inside the namespace.
pub(crate) fn inside<T: Send>(
    pod: &str,
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, RedirectError> {
    if is_own(netns).unwrap_or(false) {
        // Nothing is entered, so that a proxy within its pod needs no right to.
        return work().map_err(|source| Failure::Work(source).explain(pod));
    }
    let result = thread::scope(|scope| {
        let entered = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).map_err(Failure::Enter)?;
            work().map_err(Failure::Work)
        });
        entered.map_err(Failure::Work)?.join().map_err(|_| Failure::Work(io::Error::other("a panic")))?
    });
    result.map_err(|failure| failure.explain(pod))
}

/// Whether it is the namespace of the calling thread.
pub(crate) fn is_own(netns: BorrowedFd<'_>) -> io::Result<bool> {
    let (own, other) = (stat(OWN)?, fstat(netns)?);
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Refuses the namespace of the calling thread, which is the host's where the proxy serves a node.
pub(crate) fn refuse_own(pod: &str, netns: BorrowedFd<'_>) -> Result<(), RedirectError> {
    if is_own(netns).map_err(|error| RedirectError::syscall("stat", OWN, error))? {
        return Err(RedirectError::HostNetns { pod: pod.to_owned() });
    }
    Ok(())
}

/// The namespace's cookie, which the hooks know it by. Minimum kernel: 5.14.
pub(crate) fn cookie(pod: &str, netns: BorrowedFd<'_>) -> Result<u64, RedirectError> {
    inside(pod, netns, || {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        sys::socket::netns_cookie(socket.as_fd())
    })
}

/// Lets connections re-use ports in TIME_WAIT for the pod's own addresses too; returns the former value. Without
/// it, deliveries to one port slow down fourfold beyond about 14,000 entries.
pub(crate) fn reuse_time_wait(pod: &str, netns: BorrowedFd<'_>, value: u32) -> Result<u32, RedirectError> {
    inside(pod, netns, || {
        let before = fs::read_to_string(TW_REUSE)?;
        let before = before.trim().parse().map_err(io::Error::other)?;
        if before != value {
            fs::write(TW_REUSE, value.to_string())?;
        }
        Ok(before)
    })
}

/// `/proc/sys/net` shows the namespace of the thread that opens it.
const TW_REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
/// The namespace of the calling thread.
pub(crate) const OWN: &str = "/proc/thread-self/ns/net";

enum Failure {
    Enter(rustix::io::Errno),
    Work(io::Error),
}

impl Failure {
    fn explain(self, pod: &str) -> RedirectError {
        match self {
            Self::Enter(rustix::io::Errno::INVAL) => RedirectError::NotANetns { pod: pod.to_owned() },
            Self::Enter(rustix::io::Errno::PERM) => {
                RedirectError::Permission { what: "enter a pod's network namespace" }
            }
            Self::Enter(errno) => RedirectError::syscall("setns", pod, errno.into()),
            Self::Work(source) => RedirectError::syscall("a call inside the network namespace", pod, source),
        }
    }
}
