//! A part that says nothing of what it is, behind a line `---`: it may be the rest of the part before it, which then says less
//! than its author wrote.
//!
//! Only where it looks like one: a part that begins further in, or with what belongs into an object. It must never be a
//! reason to accept anything.

use crate::{
    document::{Defect, Node, Value},
    object::Kind,
    suspect::{self, Whereabouts},
};

/// What a part names that may be the rest of the one before it.
#[derive(Debug)]
pub(super) struct Rest {
    /// The namespaces that it names as an object's.
    named: Whereabouts,
    /// Those that it may list, if the one before it is a Tenant.
    listed: Whereabouts,
}

impl Rest {
    /// What a part says before another object begins, if it may be the rest of the one before it.
    pub(super) fn of(document: &Result<Node, Defect>) -> Option<Self> {
        match document {
            Ok(root) if may_be(root) => {
                let items = root.items().iter().take_while(|item| !begins_object(item));
                let namespaces = std::iter::once(root).chain(items).flat_map(suspect::named_in).collect();
                let named = Whereabouts { namespaces, elsewhere: false };
                Some(Self { named, listed: suspect::of_tenant(root) })
            }
            Ok(_) => None,
            Err(defect) => {
                let rest = before_next(&defect.unread.text);
                let namespaces = suspect::namespaces_in(rest);
                let named = Whereabouts { namespaces, elsewhere: false };
                begins_within(rest).then(|| Self { named, listed: suspect::listed_in(rest) })
            }
        }
    }

    /// Where the whole of an object may be.
    pub(super) fn place(&self, kind: Kind) -> &Whereabouts {
        if kind == Kind::Tenant { &self.listed } else { &self.named }
    }
}

fn may_be(root: &Node) -> bool {
    match &root.value {
        Value::List(items) => items.first().is_none_or(|first| !begins_object(first)),
        Value::Map(entries) => {
            let is_of_object =
                |key: &str| ["metadata", "spec", "status"].into_iter().any(|own| suspect::is_near(key, own));
            let belongs = || entries.first().is_some_and(|entry| is_of_object(&entry.key));
            !begins_object(root) && (root.at.column > 1 || belongs())
        }
        _ => root.at.column > 1,
    }
}

fn begins_object(node: &Node) -> bool {
    node.entries().first().is_some_and(|entry| begins(&entry.key))
}

fn begins(key: &str) -> bool {
    ["apiVersion", "kind"].into_iter().any(|own| suspect::is_near(key, own))
}

/// A text up to where the next object begins.
fn before_next(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let content = line.trim_start_matches([' ', '\t', '-', '{', '[', '"', '\'', '\u{feff}']);
        let key = content.split(['"', '\'', ':', ' ']).next().unwrap_or_default();
        if begins(key) {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

/// Whether the first line of a text that says something is further in, or an item of a list, or of a value in braces or brackets.
fn begins_within(text: &str) -> bool {
    let is_marker = |line: &&str| line.starts_with("---");
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = text.split(['\n', '\r']).filter(says).find(|line| !is_marker(line));
    first.is_some_and(|line| line.starts_with([' ', '\t', '-', '{', '[', '}', ']', ',']))
}
