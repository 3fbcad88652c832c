//! Address: a workload or a Service, and the addresses in it.
//!
//! An address that names the node itself, or everybody, must never become anybody's.

use std::net::IpAddr;

use super::{Bad, Lowered, Site, decode, service, workload};
use crate::{
    discovery::{
        Resource,
        messages::{self, GatewayAddress, address::Type, gateway_address::Destination},
    },
    finding::Reason,
    lower::address::unusable,
};

pub(super) fn lower(resource: &Resource, site: &Site) -> Result<Lowered, Bad> {
    let message: messages::Address = decode(&resource.body, "Address")?;
    match message.r#type {
        Some(Type::Workload(message)) => workload::lower(&resource.name, message, site),
        Some(Type::Service(message)) => service::lower(&resource.name, &message, site),
        None => Err(Bad::new(Reason::MissingField, "is neither a workload nor a Service")),
    }
}

/// 4 or 16 bytes.
pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr, Bad> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    let found = v4.or_else(|_| v6());
    let message = || Bad::invalid(format!("an address has {} bytes, must have 4 or 16", bytes.len()));
    Ok(found.map_err(|_| message())?.to_canonical())
}

/// Refuses an address that is nobody's to have.
pub(super) fn check_usable(address: IpAddr) -> Result<(), Bad> {
    match unusable(address) {
        Some(what) => {
            Err(Bad::new(Reason::NotPermitted, format!("{address} is {what}: it names the node, not a peer")))
        }
        None => Ok(()),
    }
}

/// Whether addresses of a network can be dialled from here.
pub(super) fn is_ours(network: &str, site: &Site) -> bool {
    network.is_empty() || network == site.network
}

/// A port that can be connected to.
pub(super) fn port(number: u32) -> Result<u16, Bad> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| Bad::invalid(format!("{number} is no port: must be 1 to 65535")))
}

/// What a proxy that stands before something is called, for people.
pub(super) fn gateway(gateway: &GatewayAddress) -> String {
    match &gateway.destination {
        Some(Destination::Hostname(host)) => format!("{}/{}", host.namespace, host.hostname),
        Some(Destination::Address(address)) => match ip(&address.address) {
            Ok(ip) => format!("{}/{ip}", address.network),
            Err(_) => UNREADABLE.to_owned(),
        },
        None => UNREADABLE.to_owned(),
    }
}

/// One that is named in words that are not understood is there all the same.
const UNREADABLE: &str = "(a waypoint that cannot be read)";
