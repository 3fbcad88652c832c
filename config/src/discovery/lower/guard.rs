//! Addresses that a resource says are somebody's, and by which nobody is reached here: of a resource that is refused all of them, of
//! one that is taken those that are left over.
//!
//! They must never be taken for outside. An address of a node is everybody's there, and never among them.

use std::net::IpAddr;

use super::{
    Object, Site,
    address::{ip, is_ours},
};
use crate::{
    discovery::{
        Resource,
        messages::{self, NetworkAddress, NetworkMode, address::Type},
    },
    lower::address::unusable,
};

/// Those of an Address; `object` is what it was taken for, if it was.
pub(in crate::discovery) fn of(resource: &Resource, object: Option<&Object>, site: &Site) -> Vec<IpAddr> {
    let said = match said(resource) {
        Some(Type::Workload(workload)) if workload.network_mode != NetworkMode::Standard as i32 => {
            return Vec::new();
        }
        Some(Type::Workload(workload)) if is_ours(&workload.network, site) => {
            workload.addresses.iter().filter_map(|bytes| ip(bytes).ok()).collect()
        }
        Some(Type::Workload(_)) => Vec::new(),
        Some(Type::Service(service)) => single(&service.addresses, site),
        None => resource.aliases.iter().filter_map(|alias| alias_of(alias, site)).collect(),
    };
    let is_reached = |address: &IpAddr| object.is_some_and(|object| object.addresses().contains(address));
    let mut left: Vec<IpAddr> =
        said.into_iter().filter(|address| !is_reached(address) && unusable(*address).is_none()).collect();
    left.sort();
    left.dedup();
    left
}

/// What an Address is by its own words, as far as they can be read.
fn said(resource: &Resource) -> Option<Type> {
    <messages::Address as prost::Message>::decode(resource.body.as_slice()).ok()?.r#type
}

/// Whether a resource, of which perhaps nothing can be taken, names a proxy to go through.
pub(in crate::discovery) fn names_waypoint(resource: &Resource) -> bool {
    match said(resource) {
        Some(Type::Workload(workload)) => workload.waypoint.is_some(),
        Some(Type::Service(service)) => service.waypoint.is_some() || !service.weighted_waypoints.is_empty(),
        None => false,
    }
}

/// Not those of whole networks: by naming one, a tenant would take all that is in it from everybody.
fn single(addresses: &[NetworkAddress], site: &Site) -> Vec<IpAddr> {
    let is_whole = |one: &NetworkAddress| {
        one.length
            .is_none_or(|length| usize::try_from(length).is_ok_and(|bits| bits == 8 * one.address.len()))
    };
    let ours = addresses.iter().filter(|one| is_ours(&one.network, site) && is_whole(one));
    ours.filter_map(|one| ip(&one.address).ok()).collect()
}

/// `NETWORK/ADDRESS`.
fn alias_of(alias: &str, site: &Site) -> Option<IpAddr> {
    let (network, address) = alias.split_once('/')?;
    address.parse().ok().filter(|_| is_ours(network, site))
}
