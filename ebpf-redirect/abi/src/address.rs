//! Addresses as the hooks handle them: four words in network byte order, IPv4 in its v4-mapped form, so that
//! one key serves both families and a v4-mapped application socket is not a special case.

/// The third word of a v4-mapped address.
pub const MAPPED_WORD: u32 = u32::from_be(0x0000_ffff);

/// The unspecified address.
pub const ANY: [u32; 4] = [0; 4];

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, in network byte order; IPv4 is v4-mapped.
    pub ip: [u32; 4],
    /// The port, in host byte order.
    pub port: u32,
}

/// The v4-mapped form of an IPv4 address that is in network byte order.
#[inline(always)]
pub const fn words_of_v4(ip: u32) -> [u32; 4] {
    [0, 0, MAPPED_WORD, ip]
}

impl Endpoint {
    /// From an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn v4(ip: u32, port: u16) -> Self {
        Self { ip: words_of_v4(ip), port: port as u32 }
    }

    /// From an IPv6 (or v4-mapped) address in network byte order.
    #[inline(always)]
    pub const fn v6(ip: [u32; 4], port: u16) -> Self {
        Self { ip, port: port as u32 }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.ip[0] == 0 && self.ip[1] == 0 && self.ip[2] == MAPPED_WORD
    }

    /// Whether this is a loopback address, or the unspecified one, which connects to loopback.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        if self.is_v4() {
            self.ip[3] == 0 || u32::from_be(self.ip[3]) >> 24 == 127
        } else {
            self.ip[0] == 0
                && self.ip[1] == 0
                && self.ip[2] == 0
                && (self.ip[3] == 0 || self.ip[3] == u32::from_be(1))
        }
    }

    /// Whether this is an IPv6 link-local address: its scope would be lost by a rewrite.
    #[inline(always)]
    pub const fn is_link_local_v6(&self) -> bool {
        u32::from_be(self.ip[0]) & 0xffc0_0000 == 0xfe80_0000
    }

    /// Whether both have the same address, whatever the port.
    #[inline(always)]
    pub const fn same_ip(&self, other: &Self) -> bool {
        self.ip[0] == other.ip[0]
            && self.ip[1] == other.ip[1]
            && self.ip[2] == other.ip[2]
            && self.ip[3] == other.ip[3]
    }
}
