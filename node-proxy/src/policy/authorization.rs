//! AuthorizationPolicy: whether a connection is what a rule describes. Allocates nothing.
//!
//! A condition that connections do not show must never open anything.

use std::net::{IpAddr, SocketAddr};

use config::{
    identity::Identity,
    model::{Action, AuthorizationPolicy, AuthorizationRule, ConnectionMatch, TextMatch},
};
use ebpf_redirect::Origin;
use ipnet::IpNet;

use crate::snapshot::canonical;

/// What is known of an inbound connection when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    /// As whom its caller was proven; `None` for plaintext.
    pub identity: Option<&'a Identity>,
    /// The caller's address.
    pub client: IpAddr,
    /// The app's address and port.
    pub destination: SocketAddr,
}

impl<'a> Inbound<'a> {
    /// What is asked of a connection with these ends.
    pub fn new(identity: Option<&'a Identity>, ends: Origin) -> Self {
        let (client, destination) = (ends.client.ip().to_canonical(), canonical(ends.destination));
        Self { identity, client, destination }
    }
}

/// What of a policy matches a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// All of it: it cannot be read.
    Whole,
    /// The rule at this position, the first that does.
    Rule(usize),
}

/// What of a policy matches a connection, if anything does.
pub(super) fn matching(policy: &AuthorizationPolicy, inbound: &Inbound<'_>) -> Option<Matched> {
    match policy.action {
        Action::Unreadable => Some(Matched::Whole),
        // What cannot be told is false where it would allow and true where it would deny.
        action => {
            let untold = action == Action::Deny;
            policy.rules.iter().position(|rule| rule_matches(rule, inbound, untold)).map(Matched::Rule)
        }
    }
}

fn rule_matches(rule: &AuthorizationRule, inbound: &Inbound<'_>, untold: bool) -> bool {
    rule.clauses.iter().all(|clause| clause.any.iter().any(|one| holds(one, inbound, untold)))
}

fn holds(one: &ConnectionMatch, inbound: &Inbound<'_>, untold: bool) -> bool {
    if one.unenforceable && !untold {
        return false;
    }
    let Inbound { identity, client, destination } = *inbound;
    let principal = |text: &TextMatch| identity.is_some_and(|identity| is_principal(text, identity));
    let namespace =
        |text: &TextMatch| identity.is_some_and(|identity| is_text(text, identity.namespace.as_str()));
    let account = |(namespace, account): &(_, _)| {
        identity
            .is_some_and(|identity| identity.namespace == *namespace && identity.service_account == *account)
    };
    let from = |net: &IpNet| net.contains(&client);
    let to = |net: &IpNet| net.contains(&destination.ip());
    let port = |port: &u16| *port == destination.port();
    allowed_by(&one.principals, &one.not_principals, principal)
        && allowed_by(&one.namespaces, &one.not_namespaces, namespace)
        && allowed_by(&one.service_accounts, &one.not_service_accounts, account)
        && allowed_by(&one.source_ips, &one.not_source_ips, from)
        && allowed_by(&one.destination_ips, &one.not_destination_ips, to)
        && allowed_by(&one.ports, &one.not_ports, port)
}

/// One of the first list, where that says anything, and none of the second.
fn allowed_by<T>(wanted: &[T], unwanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    (wanted.is_empty() || wanted.iter().any(&is)) && !unwanted.iter().any(is)
}

fn is_text(wanted: &TextMatch, text: &str) -> bool {
    match wanted {
        TextMatch::Exact(whole) => text == whole,
        TextMatch::Prefix(start) => text.starts_with(start.as_str()),
        TextMatch::Suffix(end) => text.ends_with(end.as_str()),
        TextMatch::Present => !text.is_empty(),
    }
}

/// Compares with `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT` without putting it together.
fn is_principal(wanted: &TextMatch, identity: &Identity) -> bool {
    let parts = [
        identity.trust_domain.as_str(),
        "/ns/",
        identity.namespace.as_str(),
        "/sa/",
        identity.service_account.as_str(),
    ];
    let bytes = || parts.iter().flat_map(|part| part.bytes());
    match wanted {
        TextMatch::Exact(whole) => bytes().eq(whole.bytes()),
        TextMatch::Prefix(start) => {
            let mut bytes = bytes();
            start.bytes().all(|byte| bytes.next() == Some(byte))
        }
        TextMatch::Suffix(end) => {
            let mut bytes = bytes().rev();
            end.bytes().rev().all(|byte| bytes.next() == Some(byte))
        }
        TextMatch::Present => true,
    }
}
