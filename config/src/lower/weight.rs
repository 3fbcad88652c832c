//! What an object weighs for its tenant's `compiledBytes`: an estimate of the memory that it takes once it is compiled, by what it
//! says alone, so that it is the same on every node and in every version of the daemon's data structures.

use crate::document::Node;

/// The weight of an object.
pub(super) fn of(root: &Node) -> u64 {
    let text = root.text().map_or(0, |text| text.len() as u64);
    let entries = root
        .entries()
        .iter()
        .map(|entry| entry.key.len() as u64 + of(&entry.node) + expression(root, &entry.key));
    let items = root.items().iter().map(of);
    VALUE + text + entries.sum::<u64>() + items.sum::<u64>()
}

/// What a value weighs besides that is a regular expression, as the type beside it says.
fn expression(parent: &Node, key: &str) -> u64 {
    if key == "value" && parent.text_of("type") == Some("RegularExpression") { EXPRESSION } else { 0 }
}

/// A value, whatever it is: about what one takes in a table or a list.
const VALUE: u64 = 64;
/// A regular expression of usual size, compiled, with the memory that it works in.
const EXPRESSION: u64 = 16 << 10;
