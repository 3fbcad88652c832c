//! A registry of a cell's accepted sockets, so that they can be shut down from outside when their cell no longer can.
//!
//! A descriptor's number may belong to another tenant's socket a moment after it was closed; so each entry carries
//! the kernel's cookie of its socket, and nothing is shut down whose cookie is another.

use std::{
    fmt,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::net::{Shutdown, connect_unspec, shutdown, sockopt::socket_cookie};
use slab::Slab;

/// The sockets of one cell. Written by the cell; read by others only when it is stuck, so its lock is never waited for.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Slab<Entry>>>);

/// One registered socket; dropping it takes the socket out. Drop it before the socket is closed.
pub struct Registered {
    sockets: Sockets,
    key: usize,
}

struct Entry {
    fd: RawFd,
    cookie: u64,
    tree: u64,
    /// Bytes that the kernel held for it when it was last looked at.
    memory: u64,
}

impl Sockets {
    /// Takes in a socket of the tree with this number. One system call, for the cookie; without one (the socket is
    /// already dead) it cannot be shut down from here, and need not be.
    pub fn register(&self, socket: BorrowedFd<'_>, tree: u64) -> Registered {
        let cookie = socket_cookie(socket).unwrap_or_default();
        let key = self.entries().insert(Entry { fd: socket.as_raw_fd(), cookie, tree, memory: 0 });
        Registered { sockets: self.clone(), key }
    }

    /// Shuts down every socket of a tree. Their connections end as if the other side had gone.
    pub fn shut_down(&self, tree: u64) -> usize {
        let entries = self.entries();
        let chosen = entries.iter().filter(|(_, entry)| tree == entry.tree);
        chosen.filter(|(_, entry)| entry.act(|socket| shutdown(socket, Shutdown::Both))).count()
    }

    /// Resets every socket: who is at the other end must not take what it has for the whole.
    pub fn abort(&self) -> usize {
        // To dissolve a connection is the one way to have it reset by who does not close its descriptor (tcp_disconnect).
        self.entries().iter().filter(|(_, entry)| entry.act(|socket| connect_unspec(socket))).count()
    }

    /// Bytes that the kernel holds for those that are registered, as far as was looked: at `LOOKS` of them at a time, from
    /// `next` on (300 ns each), and again at those that held some. An idle socket holds none.
    pub fn memory(&self, next: &mut usize) -> u64 {
        let mut entries = self.entries();
        let (from, mut looked, mut again, mut sum) = (*next, 0, 0, 0);
        *next = 0;
        for (key, entry) in entries.iter_mut() {
            let is_turn = key >= from && looked < LOOKS;
            let is_again = entry.memory > 0 && again < AGAIN;
            if is_turn || is_again {
                looked += usize::from(is_turn);
                again += usize::from(!is_turn);
                entry.memory = entry.ask(held).unwrap_or_default();
            } else if key >= from && *next == 0 {
                *next = key;
            }
            sum += entry.memory;
        }
        sum
    }

    /// How many are registered.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> MutexGuard<'_, Slab<Entry>> {
        // A panic while it was held cannot leave the slab half changed: no code of ours runs in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn act(&self, act: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>) -> bool {
        self.ask(|socket| act(socket).ok()).is_some()
    }

    #[expect(unsafe_code, reason = "the registry outlives no socket it names, which the compiler cannot see")]
    fn ask<T>(&self, ask: impl FnOnce(BorrowedFd<'_>) -> Option<T>) -> Option<T> {
        // SAFETY: the descriptor is used during this call only. Where its socket was closed and the number taken
        // by another file, the cookie differs (it is unique for the kernel's life) and nothing is done.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        if socket_cookie(socket).is_ok_and(|cookie| cookie == self.cookie) { ask(socket) } else { None }
    }
}

/// Bytes that the kernel holds for a socket: unread, unsent or unacknowledged, and set aside for more (SO_MEMINFO).
#[expect(unsafe_code, reason = "no library wraps SO_MEMINFO")]
fn held(socket: BorrowedFd<'_>) -> Option<u64> {
    // linux/sock_diag.h: receive buffer, its bound, send buffer, its bound, set aside, queued for sending, options, backlog, drops.
    let mut figures = [0_u32; 9];
    let mut size = libc::socklen_t::try_from(size_of_val(&figures)).ok()?;
    let (room, size) = (figures.as_mut_ptr().cast(), &raw mut size);
    // SAFETY: the call writes at most `size` bytes at `room`, which is that large, and the new size at `size`.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, room, size) };
    let [unread, _, _, _, aside, queued, ..] = figures.map(u64::from);
    (result == 0).then_some(unread + aside + queued)
}

/// Sockets that are looked at in turn, each time: 20 µs.
const LOOKS: usize = 64;
/// Sockets that held something and are looked at again, each time, besides.
const AGAIN: usize = 256;

impl Drop for Registered {
    fn drop(&mut self) {
        self.sockets.entries().try_remove(self.key);
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sockets({})", self.len())
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_tree_is_shut_down_without_its_neighbours() {
        let sockets = Sockets::default();
        let ((mut client, server), (other_client, other)) = (pair(), pair());
        let _first = sockets.register(server.as_fd(), 1);
        let _second = sockets.register(other.as_fd(), 2);
        assert_eq!(sockets.shut_down(1), 1);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        other_client.set_nonblocking(true).unwrap();
        let error = (&other_client).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_aborted_does_not_look_complete_at_its_other_end() {
        let sockets = Sockets::default();
        let ((mut client, mut server), (mut other_client, other)) = (pair(), pair());
        let _both = [sockets.register(server.as_fd(), 1), sockets.register(other.as_fd(), 2)];
        server.write_all(b"half").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(sockets.abort(), 2);
        for client in [&mut client, &mut other_client] {
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(server.read(&mut [0]).is_err() && server.write(b"more").is_err());
    }

    #[test]
    fn a_number_that_now_names_another_socket_is_left_alone() {
        let sockets = Sockets::default();
        let (_client, server) = pair();
        let _registered = sockets.register(server.as_fd(), 1);
        sockets.0.lock().unwrap()[0].cookie += 1;
        assert_eq!((sockets.shut_down(1), sockets.abort()), (0, 0));
    }

    #[test]
    fn what_nobody_reads_is_counted_and_idle_sockets_hold_nothing() {
        let sockets = Sockets::default();
        let idle: Vec<_> = (0..LOOKS + 1).map(|_| pair()).collect();
        let _idle: Vec<_> = idle.iter().map(|(_, server)| sockets.register(server.as_fd(), 1)).collect();
        let (mut client, server) = pair();
        let _full = sockets.register(server.as_fd(), 2);
        let mut next = 0;
        assert_eq!(sockets.memory(&mut next), 0);
        assert_eq!(next, LOOKS, "so many at a time");
        client.write_all(&[7; 20_000]).unwrap();
        let seen = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            sockets.memory(&mut next) >= 20_000
        });
        assert!(seen, "{}", sockets.memory(&mut next));
    }

    #[test]
    fn what_is_dropped_is_forgotten() {
        let sockets = Sockets::default();
        let (_client, server) = pair();
        drop(sockets.register(server.as_fd(), 1));
        assert!(sockets.is_empty());
    }
}
