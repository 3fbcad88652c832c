//! What an object weighs for its tenant's `compiledBytes`: an estimate of the memory that it takes once it is compiled, by what it
//! says alone, so that it is the same on every node and in every version of the daemon's data structures.

use crate::document::{Entry, Node};

/// The weight of an object.
pub(super) fn of(root: &Node) -> u64 {
    let text = root.text().map_or(0, |text| text.len() as u64);
    let entries =
        root.entries().iter().map(|entry| entry.key.len() as u64 + of(&entry.node) + expression(root, entry));
    let items = root.items().iter().map(of);
    VALUE + text + entries.sum::<u64>() + items.sum::<u64>()
}

/// What a value weighs besides that is a regular expression, as the type beside it says; or of a GRPCRoute's method, which becomes one
/// also where any service will do.
fn expression(parent: &Node, entry: &Entry) -> u64 {
    let is_regex = |node: &Node| node.text_of("type") == Some("RegularExpression");
    let method = &entry.node;
    let is_expression = match &*entry.key {
        "value" => is_regex(parent),
        "method" => !method.entries().is_empty() && (is_regex(method) || method.get("service").is_none()),
        _ => false,
    };
    if is_expression { EXPRESSION } else { 0 }
}

/// A value, whatever it is: about what one takes in a table or a list.
const VALUE: u64 = 64;
/// A regular expression of usual size, compiled, with the memory that it works in.
const EXPRESSION: u64 = 16 << 10;
