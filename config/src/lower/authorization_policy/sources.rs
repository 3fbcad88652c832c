//! `from[].source`: who calls, and from where.

use super::{names::Of, values};
use crate::{
    document::Node,
    lower::Context,
    model::{Action, ConnectionMatch},
    name::Namespace,
};

/// What only requests show: tokens, and the addresses that proxies in front report.
const OF_REQUESTS: [&str; 4] =
    ["requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"];

pub(super) fn lower(
    context: &mut Context<'_>,
    node: &Node,
    own: &Namespace,
    action: Action,
) -> Option<ConnectionMatch> {
    Some(ConnectionMatch {
        principals: values::texts(context, node.get("principals"), Of::Principal),
        not_principals: values::texts(context, node.get("notPrincipals"), Of::Principal),
        namespaces: values::texts(context, node.get("namespaces"), Of::Namespace),
        not_namespaces: values::texts(context, node.get("notNamespaces"), Of::Namespace),
        service_accounts: values::accounts(context, node.get("serviceAccounts"), own),
        not_service_accounts: values::accounts(context, node.get("notServiceAccounts"), own),
        source_ips: values::networks(context, node.get("ipBlocks")),
        not_source_ips: values::networks(context, node.get("notIpBlocks")),
        unenforceable: values::any_unenforceable(context, node, &OF_REQUESTS, action),
        ..ConnectionMatch::default()
    })
}
