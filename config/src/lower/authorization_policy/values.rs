//! Values of rules: texts with wildcards, networks, ports, accounts; and what cannot be enforced on connections.

use std::net::IpAddr;

use ipnet::IpNet;

use super::names::{self, Of};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    lower::{Context, address},
    model::{Action, Clause, ConnectionMatch, TextMatch},
    name::{Namespace, ServiceAccount},
};

/// A list of alternatives; `None` where there is none, so that anything will do.
pub(super) fn alternatives(
    context: &mut Context<'_>,
    rule: &Node,
    field: &str,
    mut lower: impl FnMut(&mut Context<'_>, &Node) -> Option<ConnectionMatch>,
) -> Option<Clause> {
    let list = rule.get(field)?;
    if list.items().is_empty() {
        context.invalid(list, format!("an empty list could mean all or none: remove {field}, or fill it"));
    }
    Some(Clause { any: list.items().iter().filter_map(|item| lower(context, item)).collect() })
}

/// The one field of an alternative, which must say something.
pub(super) fn one<'a>(context: &mut Context<'_>, item: &'a Node, field: &str) -> Option<&'a Node> {
    let Some(node) = item.get(field) else {
        context.missing(item, field, format!("required: add {field}"));
        return None;
    };
    if node.entries().iter().all(|entry| entry.node.items().is_empty()) {
        context.invalid(node, format!("an empty {field} could mean all or none: say what it is like"));
        return None;
    }
    Some(node)
}

/// Texts with wildcards; one that nobody's can be like is a finding.
pub(super) fn texts(context: &mut Context<'_>, list: Option<&Node>, of: Of) -> Vec<TextMatch> {
    let mut read = |node: &Node| {
        let text = node.text()?;
        if let Some(message) = names::complaint(of, text) {
            context.invalid(node, message);
        }
        Some(TextMatch::from(text))
    };
    items(list).filter_map(&mut read).collect()
}

pub(super) fn networks(context: &mut Context<'_>, list: Option<&Node>) -> Vec<IpNet> {
    items(list).filter_map(|node| network(context, node)).collect()
}

/// An address or a network, or a finding.
pub(in crate::lower) fn network(context: &mut Context<'_>, node: &Node) -> Option<IpNet> {
    let text = node.text().unwrap_or_default();
    let parsed = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    match parsed {
        // A connection's ends are compared as plain IPv4.
        Ok(net) if matches!(net.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) => {
            context.invalid(node, format!("{text} is IPv4 in IPv6 form: write it as IPv4"));
            None
        }
        Ok(net) => Some(net.trunc()),
        Err(_) => {
            let message =
                format!("must be an address or a network such as 10.0.0.0/8, not {}", node.describe());
            context.invalid(node, message);
            None
        }
    }
}

pub(super) fn ports(context: &mut Context<'_>, list: Option<&Node>) -> Vec<u16> {
    let port = |node: &Node| address::port(node.text()?);
    let mut read = |node: &Node| {
        let found = port(node);
        if found.is_none() {
            context.invalid(node, format!("must be a port such as \"8080\", not {}", node.describe()));
        }
        found
    };
    items(list).filter_map(&mut read).collect()
}

/// `ACCOUNT` of the policy's own namespace, or `NAMESPACE/ACCOUNT`.
pub(super) fn accounts(
    context: &mut Context<'_>,
    list: Option<&Node>,
    own: &Namespace,
) -> Vec<(Namespace, ServiceAccount)> {
    let mut read = |node: &Node| {
        let text = node.text().unwrap_or_default();
        let (namespace, account) = match text.split_once('/') {
            Some((namespace, account)) => (Namespace::try_from(namespace).ok(), account),
            None => (Some(own.clone()), text),
        };
        let found = namespace.zip(ServiceAccount::try_from(account).ok());
        if found.is_none() {
            let message =
                format!("must be ACCOUNT or NAMESPACE/ACCOUNT, without wildcards, not {}", node.describe());
            context.invalid(node, message);
        }
        found
    };
    items(list).filter_map(&mut read).collect()
}

/// Notes that connections do not show this.
pub(super) fn unenforceable(context: &mut Context<'_>, node: &Node, action: Action) {
    let message = match action {
        Action::Allow => "connections do not show this: the alternative that asks for it allows nothing",
        Action::Deny | Action::Unreadable => {
            "connections do not show this: it counts as true, so that more is denied than was asked for"
        }
    };
    context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
}

/// Whether any of these fields says something; each is noted.
pub(super) fn any_unenforceable(
    context: &mut Context<'_>,
    node: &Node,
    fields: &[&str],
    action: Action,
) -> bool {
    let there: Vec<&Node> =
        fields.iter().filter_map(|field| node.get(field)).filter(|list| !list.items().is_empty()).collect();
    there.iter().for_each(|list| unenforceable(context, list, action));
    !there.is_empty()
}

fn items(list: Option<&Node>) -> impl Iterator<Item = &Node> {
    list.map_or(&[][..], Node::items).iter()
}
