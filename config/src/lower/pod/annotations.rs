//! What a pod's annotations say: its network namespace, and the traffic that capture leaves alone.
//!
//! They are the pod's author's words, who is not trusted: each has one spelling, and each list is short.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::{
    document::{Node, shorten},
    lower::{Context, Place, address, metadata},
    model::Exclusions,
    name::NodeName,
    object::{Kind, Object},
};

/// Entries of one list. They are searched one by one and end in kernel tables that all tenants share; nobody
/// needs more than a handful.
const MAX_ENTRIES: usize = 64;

/// Directories of `/proc` that mean whoever looks: the daemon's own namespace, not the pod's.
const WHOEVER_LOOKS: [&str; 2] = ["self", "thread-self"];

pub(super) fn netns(context: &mut Context<'_>, root: &Node) -> Option<(PathBuf, Place)> {
    let node = metadata::annotation(root, metadata::NETNS)?;
    match complaint(node.text().unwrap_or_default()) {
        Some(complaint) => context.invalid(node, format!("{complaint}, not {}", node.describe())),
        None => return Some((PathBuf::from(node.text()?), context.place(node))),
    }
    None
}

/// The network namespace that a Pod of this node names, whatever else is wrong with it.
pub(crate) fn netns_of(object: &Object, node: Option<&NodeName>) -> Option<PathBuf> {
    let of = object.root.at_path(&["spec", "nodeName"]).and_then(Node::text);
    let is_here = object.kind == Kind::Pod && node.is_none_or(|here| of.is_none_or(|of| of == here.as_str()));
    let path = metadata::annotation(&object.root, metadata::NETNS).filter(|_| is_here)?.text()?;
    complaint(path).is_none().then(|| path.into())
}

/// What is wrong with the path of a network namespace, if anything is.
fn complaint(path: &str) -> Option<&'static str> {
    let Some(below_root) = path.strip_prefix('/') else {
        return Some("must be an absolute path such as /run/netns/NAME");
    };
    let parts: Vec<&str> = below_root.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        // Else two pods could name one namespace by two spellings, and neither would be seen as a clash.
        return Some("must be a path without \".\", \"..\" or empty parts, such as /run/netns/NAME");
    }
    if parts[0] == "proc" && parts.get(1).is_some_and(|part| WHOEVER_LOOKS.contains(part)) {
        return Some("must name the pod's namespace, such as /run/netns/NAME or /proc/PID/ns/net");
    }
    None
}

pub(super) fn exclusions(context: &mut Context<'_>, root: &Node) -> Exclusions {
    let network = "a network such as 10.0.0.0/8";
    Exclusions {
        outbound_ports: list(context, root, metadata::EXCLUDE_OUTBOUND_PORTS, "a port", address::port),
        outbound_cidrs: list(context, root, metadata::EXCLUDE_OUTBOUND_CIDRS, network, cidr),
        inbound_ports: list(context, root, metadata::EXCLUDE_INBOUND_PORTS, "a port", address::port),
    }
}

/// Where outbound connections are excluded.
pub(super) fn around_places(context: &Context<'_>, root: &Node) -> Vec<Place> {
    [metadata::EXCLUDE_OUTBOUND_PORTS, metadata::EXCLUDE_OUTBOUND_CIDRS]
        .into_iter()
        .filter_map(|key| metadata::annotation(root, key).map(|node| context.place(node)))
        .collect()
}

/// Where ports are left alone inbound.
pub(super) fn inbound_place(context: &Context<'_>, root: &Node) -> Option<Place> {
    metadata::annotation(root, metadata::EXCLUDE_INBOUND_PORTS).map(|node| context.place(node))
}

fn cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc())
}

/// The parts of an annotation, which are separated by commas.
fn list<T: PartialEq>(
    context: &mut Context<'_>,
    root: &Node,
    key: &str,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let Some(node) = metadata::annotation(root, key) else { return Vec::new() };
    let text = node.text().unwrap_or_default();
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let count = parts().count();
    if count > MAX_ENTRIES {
        context.invalid(node, format!("has {count} entries, at most {MAX_ENTRIES} are allowed: remove some"));
        return Vec::new();
    }
    let mut values = Vec::new();
    for part in parts() {
        match parse(part) {
            Some(value) if values.contains(&value) => {}
            Some(value) => values.push(value),
            None => {
                let part = shorten(part);
                context.invalid(node, format!("{part:?} is not {what}: separate several by commas"));
            }
        }
    }
    values
}
