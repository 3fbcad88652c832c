//! Questions to the kernel by netlink: which links a namespace has, what another namespace is called there, which TCP
//! connections it has. Asked on the calling thread's network namespace. Nothing here changes a link.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use ebpf_redirect_abi::{Endpoint, words_of_v4};
use socket2::{Domain, Protocol, Socket, Type};

/// A link of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number in the namespace.
    pub(crate) index: u32,
    /// Its name there.
    pub(crate) name: String,
    /// Its kind, for example `veth`; none for hardware.
    pub(crate) kind: Option<String>,
    /// Whether it is loopback.
    pub(crate) loopback: bool,
    /// The link at its other end, or under it.
    pub(crate) peer: Option<u32>,
    /// The namespace of that link, if it is another.
    pub(crate) peer_netns: Option<i32>,
}

/// All links of this namespace.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let answers = ask(libc::NETLINK_ROUTE, libc::RTM_GETLINK, DUMP, &[0; IFINFOMSG])?;
    Ok(answers.iter().filter_map(|answer| link(answer)).collect())
}

/// What another namespace is called in this one; it gets a name if it has none.
pub(crate) fn name_of_netns(netns: BorrowedFd<'_>) -> io::Result<i32> {
    if let Some(id) = known_netns(netns)? {
        return Ok(id);
    }
    let mut request = rtgenmsg_with_fd(netns);
    request.extend(attribute(NETNSA_NSID, &(-1i32).to_ne_bytes()));
    match ask(libc::NETLINK_ROUTE, RTM_NEWNSID, libc::NLM_F_ACK, &request) {
        // Somebody else was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => drop(other?),
    }
    known_netns(netns)?.ok_or_else(|| io::Error::other("the kernel gave the namespace no name"))
}

/// What another namespace is called in this one, if anything.
pub(crate) fn known_netns(netns: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let answers = ask(libc::NETLINK_ROUTE, RTM_GETNSID, 0, &rtgenmsg_with_fd(netns))?;
    let answer = answers.first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let id = attributes(answer.get(RTGENMSG..).unwrap_or_default())
        .find(|(kind, _)| *kind == NETNSA_NSID)
        .and_then(|(_, value)| word(value, 0));
    Ok(id.map(|id| id as i32).filter(|id| *id >= 0))
}

/// A connected TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Its own end.
    pub(crate) own: Endpoint,
    /// The other.
    pub(crate) peer: Endpoint,
    /// The number of the file that a process has of it; 0 where none has.
    pub(crate) inode: u32,
    /// How the kernel tells it from others: its family, and `inet_diag_sockid`.
    id: (u8, [u8; SOCKET_ID]),
}

/// Every TCP connection of this namespace that can still send.
pub(crate) fn connections() -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = [0; INET_DIAG_REQ];
        request[0] = family as u8;
        request[1] = libc::IPPROTO_TCP as u8;
        request[4..8].copy_from_slice(&CAN_SEND.to_ne_bytes());
        let answers = ask(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, DUMP, &request)?;
        found.extend(answers.iter().filter_map(|answer| connection(answer)));
    }
    Ok(found)
}

/// Ends a connection: both ends see a reset. One that has ended meanwhile is none to end.
pub(crate) fn end(connection: &Connection) -> io::Result<()> {
    let (family, id) = connection.id;
    let mut request = [0; INET_DIAG_REQ];
    request[0] = family;
    request[1] = libc::IPPROTO_TCP as u8;
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[8..].copy_from_slice(&id);
    match ask(NETLINK_SOCK_DIAG, SOCK_DESTROY, libc::NLM_F_ACK, &request) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn link(answer: &[u8]) -> Option<Link> {
    let index = word(answer, 4)?;
    let flags = word(answer, 8)?;
    let (mut name, mut kind, mut peer, mut peer_netns) = (String::new(), None, None, None);
    for (attribute, value) in attributes(answer.get(IFINFOMSG..)?) {
        match attribute {
            libc::IFLA_IFNAME => name = text(value),
            libc::IFLA_LINK => peer = word(value, 0),
            libc::IFLA_LINK_NETNSID => peer_netns = word(value, 0).map(|id| id as i32),
            libc::IFLA_LINKINFO => {
                kind = attributes(value).find(|(of, _)| *of == libc::IFLA_INFO_KIND).map(|(_, it)| text(it));
            }
            _ => {}
        }
    }
    let loopback = flags & libc::IFF_LOOPBACK as u32 != 0;
    Some(Link { index, name, kind, loopback, peer, peer_netns })
}

fn connection(answer: &[u8]) -> Option<Connection> {
    let family = *answer.first()?;
    let v4 = i32::from(family) == libc::AF_INET;
    let port = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let address = |at: usize| {
        let words = [word(answer, at)?, word(answer, at + 4)?, word(answer, at + 8)?, word(answer, at + 12)?];
        Some(if v4 { words_of_v4(words[0]) } else { words })
    };
    let end = |ip, port: u16| Endpoint { ip, port: u32::from(port) };
    Some(Connection {
        own: end(address(8)?, port(4)?),
        peer: end(address(24)?, port(6)?),
        inode: word(answer, INODE)?,
        id: (family, answer.get(4..)?.first_chunk().copied()?),
    })
}

/// A socket by which the kernel is asked. Not connected: what a netlink socket sends is for the kernel.
pub(crate) fn open(protocol: libc::c_int) -> io::Result<Socket> {
    let protocol = Protocol::from(protocol);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A request with its header.
pub(crate) fn message(kind: u16, flags: libc::c_int, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = HEADER + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// Sends one request and gathers the answers' bodies, until the kernel says it was all.
pub(crate) fn ask(
    protocol: libc::c_int,
    kind: u16,
    flags: libc::c_int,
    body: &[u8],
) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = open(protocol)?;
    socket.write_all(&message(kind, flags, 0, body))?;
    let (mut answers, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let length = socket.read(&mut piece)?;
        let last = gather(piece.get(..length).unwrap_or_default(), &mut answers)?;
        if last || (flags & DUMP == 0 && !answers.is_empty()) {
            return Ok(answers);
        }
    }
}

/// Takes the messages out of a piece of the answer; `true` when it was the last.
fn gather(mut piece: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while piece.len() >= HEADER {
        let length = word(piece, 0).ok_or(io::ErrorKind::InvalidData)? as usize;
        let body = piece.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes([piece[4], piece[5]]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => match word(body, 0).unwrap_or_default() as i32 {
                0 => return Ok(true),
                code => return Err(io::Error::from_raw_os_error(-code)),
            },
            _ => answers.push(body.to_vec()),
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & KIND_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An attribute with its header, padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() + 4;
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn rtgenmsg_with_fd(netns: BorrowedFd<'_>) -> Vec<u8> {
    let mut request = vec![0; RTGENMSG];
    request.extend(attribute(NETNSA_FD, &netns.as_raw_fd().to_ne_bytes()));
    request
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The kernel answers at once; a limit all the same, since others wait for the caller.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel's dumps come in pieces of at most 32 KiB.
pub(crate) const PIECE: usize = 64 * 1024;

// linux/netlink.h, linux/rtnetlink.h, linux/net_namespace.h, linux/sock_diag.h, linux/inet_diag.h.
pub(crate) const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const KIND_MASK: u16 = 0x3fff;
const DUMP: libc::c_int = libc::NLM_F_DUMP;
const IFINFOMSG: usize = 16;
/// One byte, and padding.
const RTGENMSG: usize = 4;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const NETLINK_SOCK_DIAG: libc::c_int = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ: usize = 56;
/// `inet_diag_sockid`, which follows the first four bytes of `inet_diag_msg` and the first eight of the request.
const SOCKET_ID: usize = 48;
/// Of `idiag_inode` in `inet_diag_msg`.
const INODE: usize = 68;
/// All of TCP's states but TIME_WAIT, CLOSE and LISTEN.
const CAN_SEND: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn loopback_is_a_link_without_another_end() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.loopback && lo.index == 1 && lo.peer.is_none() && lo.peer_netns.is_none(), "{lo:?}");
    }

    #[test]
    fn both_ends_of_a_connection_are_found_whatever_its_family() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let [own, peer] = [own, peer].map(crate::kernel::address::endpoint);
            let found = connections().unwrap();
            let is_there = |here, there| found.iter().any(|found| (found.own, found.peer) == (here, there));
            assert!(is_there(own, peer) && is_there(peer, own), "{at}");
            assert!(
                !found.iter().any(|found| found.own.port == peer.port && found.peer.port == 0),
                "a listener"
            );
            let inode = rustix::fs::fstat(&client).unwrap().st_ino;
            let of_client = found.iter().find(|found| (found.own, found.peer) == (own, peer)).unwrap();
            assert_eq!(u64::from(of_client.inode), inode);
        }
    }

    #[test]
    fn what_is_no_namespace_has_no_name() {
        let file = File::open("/dev/null").unwrap();
        assert!(known_netns(file.as_fd()).is_err());
    }

    #[test]
    fn a_message_that_is_cut_off_is_an_error_and_no_panic() {
        let mut message = vec![64, 0, 0, 0, 16, 0, 0, 0];
        message.extend([0; 12]);
        assert!(gather(&message, &mut Vec::new()).is_err());
        assert_eq!(attributes(&[9, 0, 1, 0, 5]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 5]).count(), 0);
    }
}
