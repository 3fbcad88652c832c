//! Connections that an exclusion let go their own way, when it is no more: they are ended, or they would go on for ever.
//!
//! They are found by where they go, among all that the pod has. What this process itself holds must never be ended: it is the
//! proxy's way out to the same places.

use std::{
    collections::HashSet,
    fs, io,
    net::IpAddr,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
};

use super::{address::words, networks::Rows};
use crate::{
    RedirectError,
    netlink::{self, Connection},
    netns,
};

/// Ends the pod's connections that its former rows let by and those of now, which have to be in force already, do not.
/// Returns how many.
pub(crate) fn end(
    (pod, netns): (&str, BorrowedFd<'_>),
    own: &[IpAddr],
    former: &Rows,
    now: &Rows,
) -> Result<usize, RedirectError> {
    if former.are_in(now) {
        return Ok(0);
    }
    let own: Vec<_> = own.iter().map(|ip| words(*ip)).collect();
    let is_over = |Connection { own: here, peer: there, inode, .. }: &Connection| {
        let crosses = own.contains(&here.ip) && !own.contains(&there.ip);
        // Without a file, it was closed, and sends what it still has; or nobody has accepted it yet.
        let is_out = *inode != 0 && former.let_out(there);
        let is_in = former.let_in(here.port) && !now.let_in(here.port);
        crosses && (is_out || is_in) && !now.let_out(there)
    };
    netns::inside(pod, netns, || {
        let found = netlink::connections()?;
        // Looked up after them: whichever of them is ours is known to be.
        let ours = own_sockets()?;
        let over = found.iter().filter(|found| is_over(found) && !ours.contains(&found.inode));
        over.map(netlink::end).try_fold(0, |ended, end| end.map(|()| ended + 1))
    })
}

/// The numbers of this process's sockets.
fn own_sockets() -> io::Result<HashSet<u32>> {
    let mut sockets = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // Closed meanwhile, where it cannot be read.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let number =
            target.as_os_str().as_bytes().strip_prefix(b"socket:[").and_then(|rest| rest.strip_suffix(b"]"));
        sockets.extend(number.and_then(|number| std::str::from_utf8(number).ok()?.parse::<u32>().ok()));
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_knows_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = own_sockets().unwrap();
        let inode = u32::try_from(rustix::fs::fstat(&client).unwrap().st_ino).unwrap();
        assert!(ours.contains(&inode));
        drop(client);
        assert!(!own_sockets().unwrap().contains(&inode));
    }
}
