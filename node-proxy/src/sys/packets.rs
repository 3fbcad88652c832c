//! Packets between two processes: each whole or not at all, with descriptors beside its bytes (Unix `SOCK_SEQPACKET`).
//!
//! What is too long for a packet goes as a sealed file in memory, whose descriptor the packet carries. Nothing here may
//! trust who is at the other end: lengths and counts are bounded before anything is kept.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socketpair,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

/// The most bytes of one packet.
pub const BYTES: usize = 64 * 1024;
/// The most descriptors of one packet.
pub const DESCRIPTORS: usize = 16;

/// One end of a pair. To be used within an event loop.
#[derive(Debug)]
pub struct Packets(AsyncFd<OwnedFd>);

/// What came in one piece.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes; never none.
    pub bytes: Vec<u8>,
    /// Its descriptors, all closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Two ends, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Has the kernel refuse whoever sends descriptors to this end. What was sent and not received is closed by the receiver's thread,
/// and what it then waits for is the sender's choice. Kernels before 6.16 cannot; what comes is closed unseen, as ever.
#[expect(unsafe_code, reason = "an option that libraries do not have yet")]
pub fn refuse_descriptors(socket: BorrowedFd<'_>) {
    let no: libc::c_int = 0;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads that many bytes, which are valid. That it cannot is nothing to say.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), length);
    }
}

/// asm-generic/socket.h, since 6.16; not in libc's list.
pub const SO_PASSRIGHTS: libc::c_int = 83;

impl Packets {
    /// Of one end of a pair.
    #[expect(unsafe_code, reason = "that the descriptor stays open is for the caller to see to")]
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // SAFETY: it owns the descriptor, which is the same for as long as it lives.
        let watched = unsafe { AsyncFd::register(socket) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Sends a packet; waits while the other end leaves too much unread.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |socket| send(socket, bytes, descriptors)).await
    }

    /// The next packet; `None` when the other end is gone.
    pub async fn receive(&self) -> io::Result<Option<Packet>> {
        self.0.async_io(Interest::READABLE, receive).await
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if bytes.is_empty() || bytes.len() > BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no packet has so many bytes"));
    }
    // The space is rounded up: one more may fit.
    let are_too_many = descriptors.len() > DESCRIPTORS;
    if are_too_many || !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no packet has so many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; BYTES];
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is larger than any may be"));
    }
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some(Packet { bytes, descriptors }))
}

/// A file in memory with these bytes, which nobody can change any more.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"canopy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, UNCHANGING | SealFlags::SEAL)?;
    Ok(file.into())
}

/// What is in such a file; an error where it could still change, or is longer than `most`.
pub fn unsealed(memory: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    // What is no file in memory has no seals to ask for.
    if !fcntl_get_seals(memory.as_fd())?.contains(UNCHANGING) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not sealed"));
    }
    let file = File::from(memory);
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than any may be"));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

const UNCHANGING: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// What shows in a test that bytes between processes are others than they were: whoever changes them counts up their version.
#[cfg(test)]
pub fn fingerprint(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ends() -> (Packets, Packets) {
        let (one, other) = pair().unwrap();
        (Packets::new(one).unwrap(), Packets::new(other).unwrap())
    }

    #[tokio::test]
    async fn a_packet_comes_as_it_went_with_its_descriptors_and_the_end_is_told() {
        let (one, other) = ends();
        let (near, far) = UnixStream::pair().unwrap();
        one.send(b"first", &[near.as_fd(), far.as_fd()]).await.unwrap();
        one.send(b"second", &[]).await.unwrap();
        let mut first = other.receive().await.unwrap().unwrap();
        assert_eq!((&*first.bytes, first.descriptors.len()), (&b"first"[..], 2));
        drop(far);
        let mut far = UnixStream::from(first.descriptors.pop().unwrap());
        (&near).write_all(b"x").unwrap();
        io::Read::read_exact(&mut far, &mut [0]).unwrap();
        assert_eq!(other.receive().await.unwrap().unwrap().bytes, b"second");
        drop(one);
        assert!(other.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_larger_than_a_packet_may_be_is_neither_sent_nor_taken() {
        let (one, other) = ends();
        assert!(one.send(&vec![0; BYTES + 1], &[]).await.is_err());
        assert!(one.send(b"", &[]).await.is_err());
        let pipe = UnixStream::pair().unwrap().0;
        assert!(one.send(b"x", &[pipe.as_fd(); DESCRIPTORS + 1]).await.is_err());
        rustix::net::send(one.0.get_ref(), &vec![0; BYTES + 1], SendFlags::empty()).unwrap();
        assert_eq!(other.receive().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_file_in_memory_is_taken_only_when_nobody_can_change_it_and_it_is_not_too_long() {
        let bytes = vec![7; 100_000];
        assert_eq!(unsealed(sealed(&bytes).unwrap(), bytes.len()).unwrap(), bytes);
        assert!(unsealed(sealed(&bytes).unwrap(), bytes.len() - 1).is_err());
        let open = memfd_create(c"open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(unsealed(open, 1).is_err());
        assert!(unsealed(File::open("/dev/zero").unwrap().into(), 1).is_err());
    }

    #[test]
    fn an_end_that_takes_no_descriptors_is_sent_none_where_the_kernel_can_see_to_it() {
        let ((near, far), other) = (pair().unwrap(), pair().unwrap().0);
        refuse_descriptors(far.as_fd());
        let sent = send(&near, b"x", &[other.as_fd()]);
        if let Err(error) = &sent {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
        // 6.16
        assert_eq!(sent.is_err(), kernel() >= (6, 16));
        send(&near, b"x", &[]).unwrap();
        send(&far, b"x", &[other.as_fd()]).unwrap();
    }

    fn kernel() -> (u32, u32) {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}
