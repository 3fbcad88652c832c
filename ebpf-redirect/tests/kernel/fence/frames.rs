//! Packets made by hand, and the sockets to send and see them: what an application with CAP_NET_RAW can do.
#![expect(unsafe_code, reason = "packet sockets have no safe wrapper")]

use std::{io, net::IpAddr, os::fd::AsRawFd as _, time::Duration};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::lab::LabPod;

/// Transport protocols.
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Flags of TCP.
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Addresses on the bridge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) from: [u8; 6],
    pub(crate) to: [u8; 6],
}

impl Wire {
    /// From the pod to its outsider.
    pub(crate) fn out(pod: &LabPod) -> Self {
        Self { from: pod.pod.netns.hardware_address(), to: pod.pod.world.hardware_address() }
    }

    /// The other way.
    pub(crate) fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    /// A frame.
    pub(crate) fn frame(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&self.to[..], &self.from[..], &ethertype.to_be_bytes()[..], packet].concat()
    }

    /// A frame with an IP packet in it.
    pub(crate) fn ip(&self, packet: &[u8]) -> Vec<u8> {
        self.frame(if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
    }
}

/// An IPv4 packet; `fragment` is the word of flags and offset.
pub(crate) fn ipv4(from: IpAddr, to: IpAddr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { panic!("not IPv4") };
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

/// An IPv6 packet.
pub(crate) fn ipv6(from: IpAddr, to: IpAddr, next: u8, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { panic!("not IPv6") };
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    header.extend(from.octets());
    header.extend(to.octets());
    [header, payload.to_vec()].concat()
}

/// An IP packet of whatever family.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    if from.is_ipv4() { ipv4(from, to, protocol, 0, payload) } else { ipv6(from, to, protocol, payload) }
}

/// A TCP segment with the right checksum.
pub(crate) fn tcp(ends: ((IpAddr, u16), (IpAddr, u16)), flags: u8, data: &[u8]) -> Vec<u8> {
    let ((from, source), (to, destination)) = ends;
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend(1000u32.to_be_bytes());
    segment.extend(2000u32.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let sum = transport_checksum(from, to, TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A UDP datagram.
pub(crate) fn udp(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// The checksum of a transport's segment with its pseudo header.
pub(crate) fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let length = (segment.len() as u32).to_be_bytes();
    checksum(&[octets(from), octets(to), length.to_vec(), vec![0, 0, 0, protocol], segment.to_vec()].concat())
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet socket on the thread's `eth0`.
#[derive(Debug)]
pub(crate) struct PacketSocket(Socket);

impl PacketSocket {
    /// One that sees everything; `bypass` leaves out the pod's own queueing discipline, and so all programs there.
    pub(crate) fn open(bypass: bool) -> io::Result<Self> {
        let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
        let index = rustix::net::netdevice::name_to_index(&socket, "eth0")?;
        socket.bind(&address(index)?)?;
        if bypass {
            set(&socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
        }
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }

    /// Whether a frame with these bytes in it comes before nothing has come for that time.
    pub(crate) fn sees(&self, bytes: &[u8], patience: Duration) -> bool {
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 70_000];
        self.0.set_read_timeout(Some(patience)).expect("SO_RCVTIMEO");
        // Bounded, for the sake of a link that is never quiet.
        for _ in 0..10_000 {
            let Ok(length) = self.0.recv(&mut buffer) else { return false };
            // SAFETY: the kernel has written that many.
            let frame: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            if frame.windows(bytes.len()).any(|window| window == bytes) {
                return true;
            }
        }
        false
    }
}

/// Whether a host answers an echo request.
pub(crate) fn ping(to: IpAddr) -> bool {
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a socket");
    let mut request = vec![kind, 0, 0, 0, 0, 7, 0, 1, b'e', b'c', b'h', b'o'];
    if to.is_ipv4() {
        // Over IPv6 the kernel does it, as it knows the source.
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send_to(&request, &std::net::SocketAddr::new(to, 0).into()).expect("send");
    let answer = if to.is_ipv4() { 0 } else { 129 };
    PacketSocket(socket).sees(&[&[answer, 0][..]].concat(), Duration::from_secs(10))
}

fn address(index: u32) -> io::Result<SockAddr> {
    // SAFETY: the address is written in full.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let to = storage.cast::<libc::sockaddr_ll>();
            to.write(libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as u16,
                sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
                sll_ifindex: index as i32,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            });
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// Sets an option of the kernel's that takes a number.
pub(crate) fn set(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads the size that is given from a value of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends a TCP socket's connection and leaves the socket usable, as `connect` to AF_UNSPEC does.
pub(crate) fn dissolve(socket: &Socket) -> io::Result<()> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the address has the length that is given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const PACKET_QDISC_BYPASS: i32 = 20;
