//! IP addresses that may stand behind or in front of a workload.

use std::net::IpAddr;

use super::Context;
use crate::{document::Node, finding::Reason};

/// An address at a node that other machines' traffic can go to, or a finding.
pub(super) fn unicast(context: &mut Context<'_>, node: &Node) -> Option<IpAddr> {
    let text = node.text().unwrap_or_default();
    let Ok(address) = text.parse::<IpAddr>() else {
        context.invalid(node, format!("must be an IP address, not {}", node.describe()));
        return None;
    };
    // A v4-mapped address is the v4 address under another name: it must not slip past the checks below.
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        context.invalid(node, format!("{address} is an IPv4 address in IPv6 form: write it as IPv4"));
        return None;
    }
    if let Some(what) = unusable(address) {
        context.reject(
            node,
            Reason::NotPermitted,
            format!("{address} is {what}: it names the node, not a peer"),
        );
        return None;
    }
    Some(address)
}

/// What makes an address unfit to be anybody's: design, "Permissions".
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    match address {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() || broadcast => Some("a multicast or broadcast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}
