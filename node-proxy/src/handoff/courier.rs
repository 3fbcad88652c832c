//! How a handoff comes into another process: a letter and the receiver's end of its connection, over a socket of packets that
//! the daemon shares with each cell of its own process.
//!
//! Sending never waits: where the socket is full, or its other end gone, the caller is refused at once, as at an inbox. The daemon
//! forwards what a cell calls, having judged it, and carries no byte of the connection.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use config::{name::TenantId, part};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socketpair,
    },
};

use super::{
    Board, End, Inbox, Opening,
    letter::{self, Call, Guest, Way},
    socket::SocketEnd,
};
use crate::{sys::watch::Watch, telemetry::Reason};

/// The two ends of a socket for letters: the daemon's and the cell's. Both send and receive on theirs.
pub fn socket() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends openings to another process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Courier {
    socket: Arc<OwnedFd>,
    from: Sender,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Daemon,
    Cell,
}

impl Courier {
    /// Of the daemon, to a cell.
    pub fn to_a_cell(socket: Arc<OwnedFd>) -> Self {
        Self { socket, from: Sender::Daemon }
    }

    /// Of a cell, to the daemon.
    pub fn to_the_daemon(socket: Arc<OwnedFd>) -> Self {
        Self { socket, from: Sender::Cell }
    }

    /// Sends an opening; an error says why it was not.
    pub(super) fn send(&self, opening: Opening) -> Result<(), Reason> {
        let Opening { pipe, source, client, destination, tree } = opening;
        let way = Way { client, destination, tree };
        let (letter, most) = match self.from {
            Sender::Daemon => {
                let source = part::as_others_see(&source);
                (letter::encode(&Guest { source, way }), letter::TO_A_CELL)
            }
            Sender::Cell => (letter::encode(&Call { source: source.pod.clone(), way }), letter::FROM_A_CELL),
        };
        let End::Socket(end) = pipe else { return Err(Reason::ConnectFailed) };
        let Some(socket) = end.into_descriptor() else { return Err(Reason::ConnectFailed) };
        let letter = letter.filter(|letter| letter.len() <= most).ok_or(Errno::MSGSIZE);
        let sent = letter.and_then(|letter| send(self.socket.as_fd(), &letter, socket.as_fd()));
        sent.map_err(|errno| {
            let reason = match errno {
                // Also more descriptors under way than a process may have.
                Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS => Reason::HandoffFull,
                Errno::MSGSIZE => Reason::ConnectFailed,
                _ => Reason::CellRestarted,
            };
            // Its opener may be in a third process.
            drop(SocketEnd::receiver(socket).map(|end| end.refuse(reason)));
            reason
        })
    }
}

/// In a cell's process: puts what others hand over into the cell's inbox. Ends when the daemon is gone.
pub async fn receive(socket: Arc<OwnedFd>, inbox: Arc<Inbox>) -> io::Error {
    let mut letters = match Letters::new(socket, letter::TO_A_CELL) {
        Ok(letters) => letters,
        Err(error) => return error,
    };
    loop {
        let (guest, end) = match letters.next::<Guest>().await {
            Ok(letter) => letter,
            Err(error) => return error,
        };
        let Guest { source, way: Way { client, destination, tree } } = guest;
        let opening = Opening { pipe: end.into(), source, client, destination, tree };
        // Who is turned away has been told.
        drop(inbox.offer(opening));
    }
}

/// In the daemon: passes on what a cell of `tenant` calls, as far as the board of the moment allows it. Ends when the cell is gone, or
/// says what no cell of this build says.
///
/// A cell that calls without end keeps whoever runs this busy: that should be a thread of that tenant alone.
pub async fn forward(socket: Arc<OwnedFd>, tenant: &TenantId, board: impl Fn() -> Arc<Board>) -> io::Error {
    let mut letters = match Letters::new(socket, letter::FROM_A_CELL) {
        Ok(letters) => letters,
        Err(error) => return error,
    };
    loop {
        let (call, end) = match letters.next::<Call>().await {
            Ok(letter) => letter,
            Err(error) => return error,
        };
        let board = board();
        match letter::judge(&call, tenant, &board) {
            Err(reason) => end.refuse(reason),
            Ok((source, line)) => {
                let Way { client, destination, tree } = call.way;
                let opening = Opening { pipe: end.into(), source, client, destination, tree };
                // Who is turned away has been told.
                drop(line.inbox.offer(opening));
            }
        }
    }
}

/// What comes over a socket for letters.
struct Letters {
    watch: Watch,
    bytes: Vec<u8>,
}

impl Letters {
    fn new(socket: Arc<OwnedFd>, most: usize) -> io::Result<Self> {
        Ok(Self { watch: Watch::new(socket)?, bytes: vec![0; most] })
    }

    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<(T, SocketEnd)> {
        let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        loop {
            let bytes = &mut self.bytes;
            let (length, descriptor) = self.watch.read(|socket| Ok(receive_one(socket, bytes)?)).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let letter = letter::decode(&self.bytes[..length]);
            let letter = letter.ok_or_else(|| invalid("a handoff was announced that cannot be read"))?;
            // There was no descriptor free, here: its opener sees that it is gone.
            let Some(descriptor) = descriptor else { continue };
            let end = SocketEnd::receiver(descriptor);
            return Ok((letter, end.map_err(|_| invalid("a handoff came with what is no socket of one"))?));
        }
    }
}

fn send(socket: BorrowedFd<'_>, letter: &[u8], end: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let ends = [end];
    // There is room for one.
    control.push(SendAncillaryMessage::ScmRights(&ends));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(letter)], &mut control, flags).map(drop)
}

fn receive_one(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((got.bytes, descriptor))
}

#[cfg(test)]
mod tests;
