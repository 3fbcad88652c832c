//! `when[]`: conditions by attribute. Some are other ways of writing a source or an operation; the rest is of requests.

use super::{names::Of, values};
use crate::{
    document::{Node, shorten},
    lower::Context,
    model::{Action, Clause, ConnectionMatch},
    name::Namespace,
};

/// Attributes that Istio knows and connections do not show.
const OF_REQUESTS: [&str; 4] = ["request.", "connection.sni", "remote.ip", "experimental."];

pub(super) fn lower(
    context: &mut Context<'_>,
    node: &Node,
    own: &Namespace,
    action: Action,
) -> Option<Clause> {
    let key_node = node.get("key")?;
    let (is, is_not) = (node.get("values"), node.get("notValues"));
    if [is, is_not].into_iter().flatten().all(|list| list.items().is_empty()) {
        context.missing(node, "values", "required: add values or notValues");
        return None;
    }
    let mut one = ConnectionMatch::default();
    match key_node.text().unwrap_or_default() {
        "source.principal" => {
            one.principals = values::texts(context, is, Of::Principal);
            one.not_principals = values::texts(context, is_not, Of::Principal);
        }
        "source.namespace" => {
            one.namespaces = values::texts(context, is, Of::Namespace);
            one.not_namespaces = values::texts(context, is_not, Of::Namespace);
        }
        "source.serviceAccount" => {
            one.service_accounts = values::accounts(context, is, own);
            one.not_service_accounts = values::accounts(context, is_not, own);
        }
        "source.ip" => {
            one.source_ips = values::networks(context, is);
            one.not_source_ips = values::networks(context, is_not);
        }
        "destination.ip" => {
            one.destination_ips = values::networks(context, is);
            one.not_destination_ips = values::networks(context, is_not);
        }
        "destination.port" => {
            one.ports = values::ports(context, is);
            one.not_ports = values::ports(context, is_not);
        }
        key if OF_REQUESTS.iter().any(|known| key.starts_with(known)) => {
            values::unenforceable(context, key_node, action);
            one.unenforceable = true;
        }
        key => {
            let key = shorten(key);
            context.invalid(key_node, format!("{key:?} is not an attribute: source.ip, source.namespace, source.principal, source.serviceAccount, destination.ip and destination.port are"));
            return None;
        }
    }
    Some(Clause { any: vec![one] })
}
