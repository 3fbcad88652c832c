//! What goes over the socket of a handoff: packets, the first byte of which says what the rest is.
//!
//! Packets are whole or not there, so that any thread may send one, and nothing is ever half said. It must never wait: whoever finds
//! no room or no packet is told so. What the other end sends may be anything.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::BorrowedFd,
};

use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg},
};

use crate::telemetry::Reason;

/// Bytes of a connection in one packet. Half of what a ring of a pipe holds: the kernel takes several packets before it
/// stops their writer.
pub(super) const MOST: usize = 16 * 1024;

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Bytes of the connection: so many.
    Bytes(usize),
    /// No more bytes come; this was the whole.
    End,
    /// It was cut: this was not the whole.
    Cut(Option<Reason>),
    /// The connection is taken.
    Taken,
    /// It is not, and why.
    Refused(Reason),
    /// The other end is gone.
    Gone,
    /// What nobody of this build says.
    Nonsense,
}

const BYTES: u8 = b'b';
const END: u8 = b'e';
const CUT: u8 = b'c';
const TAKEN: u8 = b't';
const REFUSED: u8 = b'r';

impl Word {
    /// Says it; for bytes there is [`write()`].
    pub(super) fn say(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (tag, reason) = match self {
            Self::End => (END, None),
            Self::Cut(reason) => (CUT, reason),
            Self::Taken => (TAKEN, None),
            Self::Refused(reason) => (REFUSED, Some(reason)),
            Self::Bytes(_) | Self::Gone | Self::Nonsense => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let label = reason.map(Reason::as_str).unwrap_or_default();
        send(socket, &[IoSlice::new(&[tag]), IoSlice::new(label.as_bytes())]).map(drop)
    }

    fn read(tag: u8, rest: &[u8]) -> Self {
        match (tag, rest) {
            (BYTES, []) | (END | TAKEN, [_, ..]) => Self::Nonsense,
            (BYTES, bytes) => Self::Bytes(bytes.len()),
            (END, []) => Self::End,
            (TAKEN, []) => Self::Taken,
            (CUT, []) => Self::Cut(None),
            (CUT, label) => reason(label).map_or(Self::Nonsense, |reason| Self::Cut(Some(reason))),
            (REFUSED, label) => reason(label).map_or(Self::Nonsense, Self::Refused),
            _ => Self::Nonsense,
        }
    }
}

fn reason(label: &[u8]) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str().as_bytes() == label)
}

/// Sends bytes of the connection, as many as a packet holds; says how many.
pub(super) fn write(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    pieces[0] = IoSlice::new(&[BYTES]);
    let mut room = MOST;
    for (piece, slice) in pieces[1..].iter_mut().zip(slices) {
        let part = &slice[..slice.len().min(room)];
        *piece = IoSlice::new(part);
        room -= part.len();
    }
    let used = 1 + slices.len().min(PIECES - 1);
    Ok(send(socket, &pieces[..used])?.saturating_sub(1))
}

/// Takes a packet. Bytes of the connection go into `first`, and what it has no room for into `rest`; both together must hold
/// [`MOST`].
pub(super) fn read(socket: BorrowedFd<'_>, first: &mut [u8], rest: &mut [u8]) -> io::Result<Word> {
    let mut tag = [0];
    let mut pieces = [IoSliceMut::new(&mut tag), IoSliceMut::new(first), IoSliceMut::new(rest)];
    // Nothing else is wanted: descriptors that are sent along are closed by the kernel.
    let mut control = RecvAncillaryBuffer::default();
    let got = loop {
        match recvmsg(socket, &mut pieces, &mut control, RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC) {
            // That the other end has closed without reading all is said once, before what it had sent; then comes that.
            Err(Errno::CONNRESET | Errno::INTR) => {}
            got => break got?,
        }
    };
    if got.bytes == 0 {
        return Ok(Word::Gone);
    }
    let length = got.bytes - 1;
    if got.flags.contains(ReturnFlags::TRUNC) || length > MOST {
        return Ok(Word::Nonsense);
    }
    if tag[0] == BYTES && length > 0 {
        return Ok(Word::Bytes(length));
    }
    // Labels are short, and may lie across both.
    let said: Vec<u8> = first.iter().chain(&*rest).take(length.min(LONGEST_LABEL)).copied().collect();
    Ok(Word::read(tag[0], &said))
}

fn send(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Slices that are looked at in one write: heads and bodies come in fewer.
const PIECES: usize = 17;
/// No reason's label is as long.
const LONGEST_LABEL: usize = 64;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn packets_are_those_of_version_1_of_what_goes_to_and_from_cells() {
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let came = || {
            let mut packet = [0; 64];
            let length = rustix::io::read(&far, &mut packet).unwrap();
            String::from_utf8_lossy(&packet[..length]).into_owned()
        };
        for (word, packet) in [
            (Word::End, "e"),
            (Word::Cut(None), "c"),
            (Word::Cut(Some(Reason::IdleTimeout)), "cidle_timeout"),
            (Word::Taken, "t"),
            (Word::Refused(Reason::HandoffFull), "rhandoff_full"),
        ] {
            word.say(near.as_fd()).unwrap();
            // Whoever changes one counts up the version in forest/wire.
            assert_eq!(came(), packet);
        }
        assert_eq!(write(near.as_fd(), &[IoSlice::new(b"some"), IoSlice::new(b"thing")]).unwrap(), 9);
        assert_eq!(came(), "bsomething");
    }
}
