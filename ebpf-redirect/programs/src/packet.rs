//! Reading a packet's headers, of either family, as far as the fence needs them. What cannot be read is never let pass:
//! every failure is a reason.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::generated::bpf_skb_load_bytes_relative, programs::TcContext,
};
use ebpf_redirect_abi::{Endpoint, Reason};

/// An IP packet.
pub struct Packet {
    /// Who sent it; the port is known for TCP.
    pub source: Endpoint,
    /// Whom it is for.
    pub destination: Endpoint,
    /// The transport's number.
    pub protocol: u8,
    /// Whether it is a part of a packet.
    pub fragment: bool,
    /// TCP's header, unless it is in another fragment.
    pub tcp: Option<Tcp>,
}

/// What of TCP's header matters.
pub struct Tcp {
    flags: u8,
    /// Whether anything follows the header, be it within the packet's stated length or after.
    pub payload: bool,
}

impl Tcp {
    /// Whether it ends a connection by force.
    #[inline(always)]
    pub fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// Whether it asks for a connection.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether it answers such a request and does nothing else.
    #[inline(always)]
    pub fn is_bare_second(&self) -> bool {
        !self.payload && self.flags & (FIN | SYN | RST | ACK) == SYN | ACK
    }

    /// Whether it acknowledges and does nothing else.
    #[inline(always)]
    pub fn is_bare_ack(&self) -> bool {
        !self.payload && self.flags & (FIN | SYN | RST | ACK) == ACK
    }
}

impl Packet {
    /// Whether TCP is in it, or may be.
    #[inline(always)]
    pub fn may_be_tcp(&self) -> bool {
        self.protocol == IPPROTO_TCP
    }

    /// What is the same in both directions: of what could hide TCP nothing passes.
    #[inline(always)]
    pub fn settle(&self) -> Result<(), Reason> {
        match self.protocol {
            IPPROTO_IPIP | IPPROTO_IPV6 | IPPROTO_GRE => Err(Reason::Encapsulated),
            IPPROTO_TCP if self.fragment => Err(Reason::Fragment),
            IPPROTO_UDP | IPPROTO_ICMPV6 => Ok(()),
            // A later fragment's "next header" is the first header of the whole, which need not be the transport's.
            _ if self.fragment && !self.source.is_v4() => Err(Reason::Fragment),
            _ => Ok(()),
        }
    }
}

/// The packet; none if it is ARP.
#[inline(always)]
pub fn read(ctx: &TcContext) -> Result<Option<Packet>, Reason> {
    let skb = ctx.skb.skb;
    // SAFETY: fields of the context.
    let (protocol, vlan) = unsafe {
        ((&raw const (*skb).protocol).read_volatile(), (&raw const (*skb).vlan_present).read_volatile())
    };
    if vlan != 0 {
        return Err(Reason::EtherType);
    }
    match u16::from_be(protocol as u16) {
        ETH_P_IP => read_v4(ctx).map(Some),
        ETH_P_IPV6 => read_v6(ctx).map(Some),
        ETH_P_ARP => Ok(None),
        _ => Err(Reason::EtherType),
    }
}

#[inline(always)]
fn read_v4(ctx: &TcContext) -> Result<Packet, Reason> {
    let header: Ipv4 = load(ctx, 0)?;
    let length = u32::from(header.version_and_length & 0xf) * 4;
    if header.version_and_length >> 4 != 4 || length < 20 {
        return Err(Reason::Header);
    }
    let fragment = u16::from_be(header.fragment) & MORE_OR_OFFSET != 0;
    let packet = Packet {
        source: Endpoint::v4(header.source, 0),
        destination: Endpoint::v4(header.destination, 0),
        protocol: header.protocol,
        fragment,
        tcp: None,
    };
    with_tcp(ctx, packet, length)
}

#[inline(always)]
fn read_v6(ctx: &TcContext) -> Result<Packet, Reason> {
    let header: Ipv6 = load(ctx, 0)?;
    if header.version[0] >> 4 != 6 {
        return Err(Reason::Header);
    }
    let (mut next, mut offset, mut fragment) = (header.next, size_of::<Ipv6>() as u32, false);
    for _ in 0..EXTENSIONS_MAX {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                let extension: [u8; 2] = load(ctx, offset)?;
                next = extension[0];
                offset += (u32::from(extension[1]) + 1) * 8;
            }
            AUTHENTICATION => {
                let extension: [u8; 2] = load(ctx, offset)?;
                next = extension[0];
                offset += (u32::from(extension[1]) + 2) * 4;
            }
            FRAGMENT => {
                let extension: [u8; 2] = load(ctx, offset)?;
                next = extension[0];
                fragment = true;
                break;
            }
            _ => break,
        }
    }
    if is_extension(next) && !fragment {
        return Err(Reason::Header);
    }
    let packet = Packet {
        source: Endpoint::v6(header.source, 0),
        destination: Endpoint::v6(header.destination, 0),
        protocol: next,
        fragment,
        tcp: None,
    };
    with_tcp(ctx, packet, offset)
}

#[inline(always)]
fn with_tcp(ctx: &TcContext, mut packet: Packet, offset: u32) -> Result<Packet, Reason> {
    if packet.protocol != IPPROTO_TCP || packet.fragment {
        return Ok(packet);
    }
    let header: TcpHeader = load(ctx, offset)?;
    packet.source.port = u32::from(u16::from_be(header.source));
    packet.destination.port = u32::from(u16::from_be(header.destination));
    let length = u32::from(header.length >> 4) * 4;
    if length < 20 {
        return Err(Reason::Header);
    }
    // By the length of the frame, not by what the IP header states: a raw socket at the other end sees all.
    let payload = ctx.len() > ETHERNET + offset + length;
    packet.tcp = Some(Tcp { flags: header.flags, payload });
    Ok(packet)
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 | AUTHENTICATION | FRAGMENT)
}

/// From the start of the IP header, also where that is not in the packet's linear part.
#[inline(always)]
fn load<T: Copy>(ctx: &TcContext, offset: u32) -> Result<T, Reason> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole of the value, or fails.
    unsafe {
        let to = value.as_mut_ptr().cast();
        match bpf_skb_load_bytes_relative(ctx.as_ptr(), offset, to, size_of::<T>() as u32, BPF_HDR_START_NET)
        {
            0 => Ok(value.assume_init()),
            _ => Err(Reason::Header),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv6 {
    version: [u8; 4],
    payload_length: u16,
    next: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct TcpHeader {
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledgement: u32,
    length: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// The transport of datagrams.
pub const IPPROTO_UDP: u8 = 17;
const IPPROTO_IPIP: u8 = 4;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_IPV6: u8 = 41;
const IPPROTO_GRE: u8 = 47;
const IPPROTO_ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
/// No honest sender needs more; the standard's own list has six.
const EXTENSIONS_MAX: u32 = 8;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ETHERNET: u32 = 14;
const MORE_OR_OFFSET: u16 = 0x3fff;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
