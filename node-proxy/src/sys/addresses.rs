//! The addresses of a network namespace's interfaces, asked of the kernel by netlink.
//!
//! Binding a socket to an address would be shorter, and would prove nothing: `ip_nonlocal_bind` and local routes let a
//! namespace bind what it does not have.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h.
const HEADER: usize = 16;
const IFADDRMSG: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The kernel answers at once; a limit all the same, since others wait for the caller.
const PATIENCE: Duration = Duration::from_secs(1);
/// The kernel's dumps come in pieces of at most 32 KiB.
const PIECE: usize = 64 * 1024;

/// All addresses of the calling thread's network namespace.
pub fn local() -> io::Result<Vec<IpAddr>> {
    let route = Protocol::from(libc::NETLINK_ROUTE);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(route))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Not connected: a netlink socket sends to the kernel.
    socket.write_all(&request())?;
    let (mut found, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let length = socket.read(&mut piece)?;
        if read(piece.get(..length).unwrap_or_default(), &mut found)? {
            return Ok(found);
        }
    }
}

/// RTM_GETADDR for all interfaces and families.
fn request() -> [u8; HEADER + IFADDRMSG] {
    let mut request = [0; HEADER + IFADDRMSG];
    let length = (HEADER + IFADDRMSG) as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request
}

/// Takes the addresses out of a piece of the answer; `true` when it was the last.
fn read(mut piece: &[u8], found: &mut Vec<IpAddr>) -> io::Result<bool> {
    while let Some((head, _)) = piece.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let body = piece.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = body.first_chunk().map_or(-libc::EPROTO, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(-code));
            }
            libc::RTM_NEWADDR => found.extend(address(body)),
            _ => {}
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The interface's own address: IFA_LOCAL where there is one, since IFA_ADDRESS is then the peer's.
fn address(message: &[u8]) -> Option<IpAddr> {
    let mut attributes = message.get(IFADDRMSG..)?;
    let mut address = None;
    while let Some(head) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length)?;
        match u16::from_ne_bytes([head[2], head[3]]) {
            IFA_LOCAL => return ip(value),
            IFA_ADDRESS => address = ip(value),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    address
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(|_| v6()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_what_could_merely_be_bound_is_not() {
        let addresses = local().unwrap();
        assert!(addresses.contains(&"127.0.0.1".parse().unwrap()), "{addresses:?}");
        // All of 127.0.0.0/8 is local to the kernel and can be bound.
        std::net::TcpListener::bind("127.3.2.1:0").unwrap();
        assert!(!addresses.contains(&"127.3.2.1".parse().unwrap()), "{addresses:?}");
    }

    #[test]
    fn broken_pieces_are_errors_and_not_panics() {
        let mut piece = [0_u8; HEADER];
        piece[0] = 200;
        assert!(read(&piece, &mut Vec::new()).is_err());
        piece[0] = 3;
        assert!(read(&piece, &mut Vec::new()).is_err());
        assert_eq!(address(&[0; IFADDRMSG + 6]), None);
    }
}
