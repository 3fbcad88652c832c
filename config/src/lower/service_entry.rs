//! ServiceEntry (networking.istio.io): destinations outside the mesh that may be dialled.
//!
//! Connections show addresses, and what a client says of names (`Host`, SNI) proves nothing: so a name opens only the
//! addresses that the node itself finds for it, and one that cannot be looked up must never open anything.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, address, authorization_policy::network, scope::Home};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Audience, ServiceEntry},
    name::{EntryName, HostName, Namespace, RootNamespace},
};

/// An entry whose names have not been counted against its tenant's yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntryDraft {
    pub(crate) entry: ServiceEntry,
    /// Where each of its hosts is written, in order.
    pub(crate) host_places: Vec<Place>,
    /// The namespaces that it is exported to by name, and where it says so.
    pub(crate) exported: Vec<(Namespace, Place)>,
}

/// How destinations are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolution {
    None,
    Static,
    Dns,
}

pub(super) fn lower(
    context: &mut Context<'_>,
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<EntryDraft> {
    let spec = root.get("spec")?;
    let namespace = meta.namespace?;
    let home = Home::new(&namespace, root_namespace);
    let addresses: Vec<_> =
        spec.items_of("addresses").iter().filter_map(|node| network(context, node)).collect();
    let numbers = spec.items_of("ports").iter().filter_map(|port| port.get("number"));
    let ports: Vec<u16> = numbers.filter_map(|node| context.port(node)).collect();
    if spec.items_of("ports").is_empty() {
        context.missing(spec, "ports", "required: say which ports may be dialled");
    }
    let resolution = resolution(context, spec);
    let endpoints = endpoints(context, spec, resolution);
    let (hosts, host_places) = if is_by_name(spec, resolution) { hosts(context, spec) } else { no_hosts() };
    let (audience, exported) = audience(context, spec, home)?;
    let name = EntryName::new(namespace.clone(), meta.name);
    let entry = ServiceEntry { name, addresses, ports, endpoints, hosts, audience };
    check_addresses(context, spec, &entry);
    if !entry.opens_anything() {
        let message = "opens nothing: give it spec.addresses, spec.endpoints with resolution STATIC, or hosts that can be looked up";
        context.note(Severity::Warning, Reason::NotObeyed, spec, message);
    }
    Some(EntryDraft { entry, host_places, exported })
}

/// Every node looks up every name, so a tenant has so many at most, each counted once.
pub(crate) const HOSTS: usize = 64;

fn no_hosts() -> (Vec<HostName>, Vec<Place>) {
    Default::default()
}

fn resolution(context: &mut Context<'_>, spec: &Node) -> Resolution {
    let Some(node) = spec.get("resolution") else { return Resolution::None };
    match node.text() {
        Some("NONE") => {}
        Some("STATIC") => return Resolution::Static,
        Some("DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS") => return Resolution::Dns,
        _ => {
            let message =
                format!("must be NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS, not {}", node.describe());
            context.invalid(node, message);
        }
    }
    Resolution::None
}

/// Whether its hosts are looked up: with DNS, unless endpoints stand for them; with NONE where nothing else is named.
fn is_by_name(spec: &Node, resolution: Resolution) -> bool {
    match resolution {
        Resolution::Dns => spec.items_of("endpoints").is_empty(),
        Resolution::None => spec.items_of("addresses").is_empty(),
        Resolution::Static => false,
    }
}

fn endpoints(context: &mut Context<'_>, spec: &Node, resolution: Resolution) -> Vec<SocketAddr> {
    let nodes = spec.items_of("endpoints");
    if resolution == Resolution::None {
        if let Some(node) = spec.get("endpoints").filter(|_| !nodes.is_empty()) {
            let message =
                "with resolution NONE there are no endpoints: name them in spec.addresses, or say STATIC";
            context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
        }
        return Vec::new();
    }
    let mut endpoints = Vec::new();
    for node in nodes {
        let Some(address) = node.get("address").and_then(|node| endpoint_address(context, node)) else {
            continue;
        };
        for port in spec.items_of("ports") {
            let own = node.at_path(&["ports", port.text_of("name").unwrap_or_default()]);
            let Some(number) = own.or(port.get("number")).and_then(|node| context.port(node)) else {
                continue;
            };
            endpoints.push(SocketAddr::new(address, number));
        }
    }
    endpoints
}

fn endpoint_address(context: &mut Context<'_>, node: &Node) -> Option<IpAddr> {
    if node.text().is_some_and(|text| text.parse::<IpAddr>().is_ok()) {
        return address::unicast(context, node);
    }
    let message = "opens nothing: an endpoint is an IP address here. Name what is to be looked up in spec.hosts of an entry without endpoints";
    context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    None
}

/// As many as one tenant may have looked up: what is beyond them is nobody's, whoever else names it.
fn hosts(context: &mut Context<'_>, spec: &Node) -> (Vec<HostName>, Vec<Place>) {
    let mut hosts = Vec::new();
    let mut places = Vec::new();
    let mut seen = BTreeSet::new();
    for node in spec.items_of("hosts") {
        match host(node.text().unwrap_or_default()) {
            Ok(host) if seen.contains(&host) => {}
            Ok(_) if hosts.len() == HOSTS => {
                let message =
                    format!("opens nothing, as all hosts after it: {HOSTS} are as many as are looked up");
                context.note(Severity::NotObeyed, Reason::TooLarge, node, message);
                break;
            }
            Ok(host) => {
                seen.insert(host.clone());
                hosts.push(host);
                places.push(context.place(node));
            }
            Err(why) => context.note(Severity::NotObeyed, Reason::NotObeyed, node, why),
        }
    }
    (hosts, places)
}

/// The name to be looked up, or why there is none.
fn host(text: &str) -> Result<HostName, String> {
    if text.starts_with('*') {
        return Err("opens nothing: a pattern cannot be looked up, and what a client says of names is no proof of where it \
             goes. List the names, or give spec.addresses"
            .to_owned());
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("opens nothing: it is an address. Write it in spec.addresses".to_owned());
    }
    let absolute = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let host = HostName::try_from(absolute).map_err(|error| format!("opens nothing: {error}"))?;
    // It is asked for as it stands, with no search list: a name of one label would be a top-level domain.
    if host.as_str().contains('.') {
        Ok(host)
    } else {
        Err("opens nothing: write the whole name, with its domain".to_owned())
    }
}

/// Nobody is led from an address to what stands behind it elsewhere.
fn check_addresses(context: &mut Context<'_>, spec: &Node, entry: &ServiceEntry) {
    let elsewhere = !entry.hosts.is_empty() || !entry.endpoints.is_empty();
    if let Some(node) = spec.get("addresses").filter(|_| elsewhere && !entry.addresses.is_empty()) {
        let message =
            "opened as they are: connections to them are not led on to what hosts or endpoints name";
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    }
}

/// For whom an entry is, and the namespaces that it names.
fn audience(
    context: &mut Context<'_>,
    spec: &Node,
    home: Home<'_>,
) -> Option<(Audience, Vec<(Namespace, Place)>)> {
    let mut namespaces: Vec<Namespace> = Vec::new();
    let mut exported = Vec::new();
    let mut everybody = spec.items_of("exportTo").is_empty();
    for node in spec.items_of("exportTo") {
        match node.text() {
            Some("*") => everybody = true,
            Some(".") => namespaces.push(home.namespace.clone()),
            // Istio's word for nobody.
            Some("~") => {}
            _ => {
                let namespace: Namespace = context.name(node)?;
                exported.push((namespace.clone(), context.place(node)));
                namespaces.push(namespace);
            }
        }
    }
    let audience = Audience { every_tenant: home.is_root, namespaces: (!everybody).then_some(namespaces) };
    Some((audience, exported))
}
