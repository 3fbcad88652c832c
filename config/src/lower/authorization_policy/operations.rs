//! `to[].operation`: what is connected to. Of requests, connections show the port alone.

use super::values;
use crate::{
    document::Node,
    lower::Context,
    model::{Action, ConnectionMatch},
};

const OF_REQUESTS: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];

pub(super) fn lower(context: &mut Context<'_>, node: &Node, action: Action) -> Option<ConnectionMatch> {
    Some(ConnectionMatch {
        ports: values::ports(context, node.get("ports")),
        not_ports: values::ports(context, node.get("notPorts")),
        unenforceable: values::any_unenforceable(context, node, &OF_REQUESTS, action),
        ..ConnectionMatch::default()
    })
}
