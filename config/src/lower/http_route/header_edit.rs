//! Header names and values, and the two filters that change headers.

use super::Context;
use crate::{
    document::Node,
    finding::Reason,
    headers::{self, Change},
    model::HeaderEdit,
};

/// Gateway API v1, HTTPHeaderName and HTTPHeaderFilter.
const MAX_NAME: usize = 256;
const MAX_EDITS: usize = 16;
const MAX_VALUE: usize = 4096;

/// A header name at a node, in lower case; or a finding.
pub(super) fn name(context: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = node.text().unwrap_or_default();
    if !is_token(text) {
        context.invalid(node, "must be a header name: 1 to 256 letters, digits or !#$%&'*+-.^_`|~");
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// `token` of RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

/// `set`, `add` and `remove` of a modifier filter.
pub(super) fn lower(context: &mut Context<'_>, node: &Node) -> HeaderEdit {
    for field in ["set", "add", "remove"] {
        super::at_most(context, node, field, MAX_EDITS);
    }
    let set = pairs(context, node, ("set", Change::Set));
    let add = pairs(context, node, ("add", Change::Add));
    let mut remove: Vec<String> = Vec::new();
    for item in node.items_of("remove") {
        let Some(name) = name(context, item) else { continue };
        if remove.contains(&name) {
            context.reject(item, Reason::Duplicate, "removed twice: remove one");
        } else if may_change(context, item, Change::Remove, &name) {
            remove.push(name);
        }
    }
    HeaderEdit { set, add, remove }
}

fn pairs(context: &mut Context<'_>, node: &Node, (field, change): (&str, Change)) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for item in node.items_of(field) {
        let (Some(name_node), Some(value_node)) = (item.get("name"), item.get("value")) else { continue };
        let Some(name) = name(context, name_node) else { continue };
        let value = value_node.text().unwrap_or_default();
        if pairs.iter().any(|(other, _)| *other == name) {
            context.reject(name_node, Reason::Duplicate, "this header is named twice: remove one");
        } else if !is_value(value) {
            let message = format!("must be 1 to {MAX_VALUE} visible characters, without line breaks");
            context.invalid(value_node, message);
        } else if !may_change(context, name_node, change, &name) {
            // Said already.
        } else if name == "host" && (value.starts_with(':') || !headers::is_host(value.as_bytes())) {
            context.invalid(value_node, "must be a host, with or without a port");
        } else {
            pairs.push((name, value.to_owned()));
        }
    }
    pairs
}

/// `field-value` of RFC 9110, 5.5, without obsolete bytes.
fn is_value(text: &str) -> bool {
    let allowed = |c: char| c == '\t' || !c.is_control();
    (1..=MAX_VALUE).contains(&text.len()) && text.chars().all(allowed) && text.trim() == text
}

/// Whether a filter may do this to the field; or a finding.
fn may_change(context: &mut Context<'_>, node: &Node, change: Change, name: &str) -> bool {
    let why = headers::forbidden(change, name);
    if let Some(why) = why {
        context.invalid(node, format!("{name} {why}"));
    }
    why.is_none()
}
