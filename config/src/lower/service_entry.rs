//! ServiceEntry (networking.istio.io): destinations outside the mesh that may be dialled.
//!
//! Connections show addresses, not names; so a host without an address must never open anything.

use super::{Context, Meta, authorization_policy::network, scope::Home};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Audience, ServiceEntry},
    name::{EntryName, Namespace, RootNamespace},
};

pub(super) fn lower(
    context: &mut Context<'_>,
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<ServiceEntry> {
    let spec = root.get("spec")?;
    let namespace = meta.namespace?;
    let home = Home::new(&namespace, root_namespace);
    let addresses: Vec<_> =
        spec.items_of("addresses").iter().filter_map(|node| network(context, node)).collect();
    let numbers = spec.items_of("ports").iter().filter_map(|port| port.get("number"));
    let ports: Vec<u16> = numbers.filter_map(|node| context.port(node)).collect();
    check_resolution(context, spec);
    if spec.items_of("ports").is_empty() {
        context.missing(spec, "ports", "required: say which ports may be dialled");
    }
    if spec.items_of("addresses").is_empty() {
        let message = "names alone open nothing, since connections show addresses only: add spec.addresses";
        context.note(Severity::NotObeyed, Reason::NotObeyed, spec.get("hosts")?, message);
    }
    let audience = audience(context, spec, home)?;
    Some(ServiceEntry { name: EntryName::new(namespace.clone(), meta.name), addresses, ports, audience })
}

fn check_resolution(context: &mut Context<'_>, spec: &Node) {
    let Some(node) = spec.get("resolution") else { return };
    match node.text() {
        Some("NONE") => {}
        Some("STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS") => {
            let message = "treated as NONE: the application resolves names, connections go where it dialled";
            context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
        }
        _ => {
            let message =
                format!("must be NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS, not {}", node.describe());
            context.invalid(node, message);
        }
    }
}

fn audience(context: &mut Context<'_>, spec: &Node, home: Home<'_>) -> Option<Audience> {
    let mut namespaces: Vec<Namespace> = Vec::new();
    for node in spec.items_of("exportTo") {
        match node.text() {
            Some("*") => return Some(Audience { every_tenant: home.is_root, namespaces: None }),
            Some(".") => namespaces.push(home.namespace.clone()),
            // Istio's word for nobody.
            Some("~") => {}
            _ => namespaces.push(context.name(node)?),
        }
    }
    let everybody = spec.items_of("exportTo").is_empty();
    Some(Audience { every_tenant: home.is_root, namespaces: (!everybody).then_some(namespaces) })
}
