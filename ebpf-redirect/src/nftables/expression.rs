//! Expressions of nf_tables as netlink attributes: what a rule looks at, compares and does (linux/netfilter/nf_tables.h).
//!
//! Every expression uses the first register. Nothing here speaks to the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::attribute;

/// One rule: its expressions, encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule(pub(super) Vec<u8>);

impl Rule {
    /// Of TCP alone.
    pub(super) fn of_tcp(self) -> Self {
        self.meta(META_L4PROTO).compare(EQUAL, &[libc::IPPROTO_TCP as u8])
    }

    /// Of anything but TCP.
    pub(super) fn of_others(self) -> Self {
        self.meta(META_L4PROTO).compare(NOT_EQUAL, &[libc::IPPROTO_TCP as u8])
    }

    /// Of one family.
    pub(super) fn of_family(self, v4: bool) -> Self {
        let family = if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        self.meta(META_NFPROTO).compare(EQUAL, &[family])
    }

    /// To an address of this network.
    pub(super) fn goes_to(self, network: &IpNet) -> Self {
        let (mask, address) = (octets(network.netmask()), octets(network.network()));
        let offset: u32 = if address.len() == 4 { 16 } else { 24 };
        let length = address.len() as u32;
        self.of_family(length == 4)
            .payload(BASE_NETWORK, offset, length)
            .masked(&mask)
            .compare(EQUAL, &address)
    }

    /// To this TCP port.
    pub(super) fn at_port(self, port: u16) -> Self {
        self.payload(BASE_TRANSPORT, 2, 2).compare(EQUAL, &port.to_be_bytes())
    }

    /// Leaving by, or having come by, loopback: the first link of every namespace.
    pub(super) fn by_loopback(self, out: bool) -> Self {
        self.meta(if out { META_OIF } else { META_IIF }).compare(EQUAL, &LOOPBACK.to_ne_bytes())
    }

    /// Of a packet with this mark.
    pub(super) fn marked(self, mark: u32, mask: u32) -> Self {
        self.meta(META_MARK).masked(&mask.to_ne_bytes()).compare(EQUAL, &mark.to_ne_bytes())
    }

    /// Of a connection with this mark.
    pub(super) fn of_marked(self, mark: u32, mask: u32) -> Self {
        self.expression("ct", &[word(CT_DREG, REGISTER), word(CT_KEY, CT_MARK)])
            .masked(&mask.to_ne_bytes())
            .compare(EQUAL, &mark.to_ne_bytes())
    }

    /// Of a socket that was made by this group.
    pub(super) fn of_group(self, group: u32) -> Self {
        self.meta(META_SKGID).compare(EQUAL, &group.to_ne_bytes())
    }

    /// Marks its connection.
    pub(super) fn mark_connection(self, mark: u32) -> Self {
        self.immediate(&mark.to_ne_bytes())
            .expression("ct", &[word(CT_SREG, REGISTER), word(CT_KEY, CT_MARK)])
    }

    /// Marks the packet.
    pub(super) fn mark(self, mark: u32) -> Self {
        self.immediate(&mark.to_ne_bytes())
            .expression("meta", &[word(META_SREG, REGISTER), word(META_KEY, META_MARK)])
    }

    /// Ends the chain: the packet passes.
    pub(super) fn accept(self) -> Self {
        let verdict = attribute(NESTED | DATA_VERDICT, &word(VERDICT_CODE, libc::NF_ACCEPT as u32));
        let data = attribute(NESTED | IMMEDIATE_DATA, &verdict);
        self.expression("immediate", &[word(IMMEDIATE_DREG, REGISTER_VERDICT), data])
    }

    /// Ends the chain: the connection goes to this port here.
    pub(super) fn redirect(self, port: u16) -> Self {
        self.immediate(&port.to_be_bytes()).expression("redir", &[word(REDIR_PORT, REGISTER)])
    }

    fn meta(self, key: u32) -> Self {
        self.expression("meta", &[word(META_DREG, REGISTER), word(META_KEY, key)])
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let of = [word(1, REGISTER), word(2, base), word(3, offset), word(4, length)];
        self.expression("payload", &of)
    }

    fn masked(self, mask: &[u8]) -> Self {
        let registers = [word(1, REGISTER), word(2, REGISTER), word(3, mask.len() as u32)];
        let [from, to, length] = registers;
        self.expression("bitwise", &[from, to, length, data(4, mask), data(5, &vec![0; mask.len()])])
    }

    fn compare(self, how: u32, with: &[u8]) -> Self {
        self.expression("cmp", &[word(1, REGISTER), word(2, how), data(3, with)])
    }

    fn immediate(self, value: &[u8]) -> Self {
        self.expression("immediate", &[word(IMMEDIATE_DREG, REGISTER), data(IMMEDIATE_DATA, value)])
    }

    fn expression(mut self, name: &str, attributes: &[Vec<u8>]) -> Self {
        let mut body = text(EXPR_NAME, name);
        body.extend(attribute(NESTED | EXPR_DATA, &attributes.concat()));
        self.0.extend(attribute(NESTED | LIST_ELEM, &body));
        self
    }
}

/// A number, as nf_tables takes them: in network order.
pub(super) fn word(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// A text.
pub(super) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// What a register is compared with, masked by or set to.
fn data(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(NESTED | kind, &attribute(DATA_VALUE, value))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Says that an attribute's value is attributes.
pub(super) const NESTED: u16 = 0x8000;
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const META_DREG: u16 = 1;
const META_KEY: u16 = 2;
const META_SREG: u16 = 3;
const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_SKGID: u32 = 11;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_DREG: u16 = 1;
const CT_KEY: u16 = 2;
const CT_SREG: u16 = 4;
const CT_MARK: u32 = 3;
const REDIR_PORT: u16 = 1;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const LOOPBACK: u32 = 1;
