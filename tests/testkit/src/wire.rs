//! What passes between two nodes: the TCP segments on the wire of [`Node::beside`], as a sniffer there sees them; or every frame of a
//! node.
//!
//! A packet socket in the node's namespace sees every frame once per link it crosses; those of the wire are told by
//! the addresses of its two ends, which no other link has. It only looks, and never sends.

use std::{
    fmt::Write,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
        sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout},
    },
};

use crate::{KitError, Node, traffic::Place};

/// A capture that goes on until [`Capture::finish`].
#[derive(Debug)]
pub struct Capture<T = Segment> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<T>, KitError>>>,
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub source: SocketAddr,
    /// For whom.
    pub destination: SocketAddr,
    /// Its first: SYN without ACK.
    pub opens: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Segment {
    /// The port at one of its ends.
    #[must_use]
    pub fn port_of(&self, end: IpAddr) -> Option<u16> {
        [self.source, self.destination].into_iter().find(|its| its.ip() == end).map(|its| its.port())
    }
}

impl Capture {
    /// Listens from now on. For as much as a few calls: what is seen is kept in memory.
    ///
    /// # Errors
    /// No packet socket may be made.
    pub fn start(node: &Node) -> Result<Self, KitError> {
        Self::keeping(node, segment)
    }
}

impl Capture<Vec<u8>> {
    /// Every frame of every link of the node, from now on.
    ///
    /// # Errors
    /// No packet socket may be made.
    pub fn frames(node: &Node) -> Result<Self, KitError> {
        Self::keeping(node, |frame| Some(frame.to_vec()))
    }
}

impl Capture<Vec<u8>> {
    /// Every frame that comes to a pod or leaves it, from now on; what is said within it, over loopback, is none.
    ///
    /// # Errors
    /// No packet socket may be made.
    pub fn of_pod(pod: &impl Place) -> Result<Self, KitError> {
        let socket = match pod.spawn(open)?.join() {
            Ok(socket) => socket?.map_err(|error| failed(error.into()))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // Loopback has no addresses of a link.
        let is_outside = |frame: &[u8]| frame.get(..12).is_some_and(|ends| ends != [0; 12]);
        Ok(Self::from(socket, move |frame| is_outside(frame).then(|| frame.to_vec())))
    }
}

impl<T: Send + 'static> Capture<T> {
    fn keeping(node: &Node, keep: fn(&[u8]) -> Option<T>) -> Result<Self, KitError> {
        let socket = node.netns().run(open)?.map_err(|error| failed(error.into()))?;
        Ok(Self::from(socket, keep))
    }

    fn from(socket: OwnedFd, keep: impl Fn(&[u8]) -> Option<T> + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let its_stop = Arc::clone(&stop);
        let thread = std::thread::spawn(move || listen(&socket, &its_stop, keep));
        Self { stop, thread: Some(thread) }
    }

    /// Ends, and hands out what was seen, in the order of its passing.
    ///
    /// # Errors
    /// The packet socket failed meanwhile.
    pub fn finish(mut self) -> Result<Vec<T>, KitError> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(kept)) => kept,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(Vec::new()),
        }
    }
}

impl<T> Drop for Capture<T> {
    fn drop(&mut self) {
        // The thread sees it within a slice.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A packet socket of the calling thread's namespace, for frames of all links and protocols.
fn open() -> Result<OwnedFd, Errno> {
    let all = Protocol::from_raw(ALL_PROTOCOLS);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(all))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(SLICE))?;
    set_socket_recv_buffer_size(&socket, 4 << 20)?;
    Ok(socket)
}

fn listen<T>(
    socket: &OwnedFd,
    stop: &AtomicBool,
    keep: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, KitError> {
    let mut kept = Vec::new();
    // Offloads let a frame be larger than any link takes.
    let mut buffer = vec![MaybeUninit::uninit(); 128 << 10];
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok(((frame, _), _)) => kept.extend(keep(frame)),
            // What was sent just before the end is read, too: it ends with a slice in which nothing came.
            Err(Errno::AGAIN) if is_last => return Ok(kept),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn failed(source: std::io::Error) -> KitError {
    KitError::file("a packet socket", source)
}

/// The TCP segment in a frame, if it is one that crosses the wire.
fn segment(frame: &[u8]) -> Option<Segment> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let ends = [&ethernet[6..12], &ethernet[..6]];
    if ends != [&ENDS[0][..], &ENDS[1][..]] && ends != [&ENDS[1][..], &ENDS[0][..]] {
        return None;
    }
    let (source, destination, tcp) = match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        0x0800 => ipv4(packet)?,
        0x86dd => ipv6(packet)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let (head, flags) = (usize::from(tcp.get(12)? >> 4) * 4, tcp.get(13)?);
    Some(Segment {
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        opens: flags & (SYN | ACK) == SYN,
        payload: tcp.get(head..)?.to_vec(),
    })
}

fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let address = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(Ipv4Addr::from(octets)))
    };
    let head = usize::from(packet.first()? & 15) * 4;
    let end = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    (*packet.get(9)? == TCP).then_some(())?;
    Some((address(12)?, address(16)?, packet.get(head..end)?))
}

fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let address = |at: usize| {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(Ipv6Addr::from(octets)))
    };
    let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    (*packet.get(6)? == TCP).then_some(())?;
    Some((address(8)?, address(24)?, packet.get(40..40 + length)?))
}

/// A link address as `ip` wants it.
pub(crate) fn text(address: [u8; 6]) -> String {
    let mut text = String::new();
    for octet in address {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{octet:02x}", if text.is_empty() { "" } else { ":" });
    }
    text
}

/// The link addresses of the wire's two ends: locally administered, and of no other link.
pub(crate) const ENDS: [[u8; 6]; 2] = [[2, 0x77, 0, 0, 0, 0xa], [2, 0x77, 0, 0, 0, 0xb]];

const SLICE: Duration = Duration::from_millis(50);
const SYN: u8 = 2;
const ACK: u8 = 16;
const TCP: u8 = 6;
/// `ETH_P_ALL`, in network order.
const ALL_PROTOCOLS: std::num::NonZeroU32 = match std::num::NonZeroU32::new(0x0003_u16.to_be() as u32) {
    Some(all) => all,
    None => panic!("not zero"),
};
