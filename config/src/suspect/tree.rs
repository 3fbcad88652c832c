//! Signs in a tree that is no object: mappings, at any depth, that say they are a security object.

use std::sync::Arc;

use super::{
    Suspect, Whereabouts, in_text,
    signs::{self, Signs},
};
use crate::{
    document::{Entry, Node, Unread, Value},
    finding::ObjectRef,
    name::Name,
    object::{Kind, Object},
    schema,
};

/// What is found in a tree.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Objects that say all of kind, namespace and name, if not in the right words.
    pub(crate) objects: Vec<Object>,
    /// The others.
    pub(crate) suspects: Vec<Suspect>,
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.suspects.is_empty()
    }

    /// All that is found, by its signs alone.
    pub(crate) fn into_suspects(mut self) -> Vec<Suspect> {
        let suspect = |object: &Object| {
            let place = whereabouts(object.root.entries()).0;
            Suspect { kind: object.kind, is_sure: true, place, at: object.root.at }
        };
        self.suspects.extend(self.objects.iter().map(suspect));
        self.suspects
    }
}

/// Looks through a tree that was rejected.
pub(crate) fn in_tree(root: &Node) -> Found {
    let mut found = Found::default();
    if let Value::Text(text) = &root.value {
        let unread =
            Unread { lines_before: root.at.line.saturating_sub(1), text: text.clone(), is_cut: false };
        found.suspects = in_text(&unread).into_iter().flatten().collect();
    }
    walk(root, (None, true), &mut found);
    found
}

/// `typed` is the kind that a list of one kind has: its items need not say it.
fn walk(node: &Node, (typed, is_top): (Option<Kind>, bool), found: &mut Found) {
    node.items().iter().for_each(|item| walk(item, (typed, true), found));
    let entries = node.entries();
    let signs = signs_of(entries, is_top);
    let mut meant = signs.meant();
    if let Some(kind) = typed.filter(|_| meant.is_empty() && signs.kinds.is_empty() && !entries.is_empty()) {
        meant.push((kind, true));
    }
    let items = node.get("items").filter(|items| matches!(items.value, Value::List(_)));
    let is_list = items.is_some() && signs.kinds.iter().all(|kind| kind.ends_with("List"));
    let of_list = match meant[..] {
        [(kind, true)] if is_list => Some(kind),
        _ => None,
    };
    if meant.is_empty() || is_list {
        for entry in entries.iter().filter(|entry| !signs::OF_OTHERS.contains(&entry.key.as_str())) {
            if !matches!(entry.node.value, Value::Text(_)) {
                walk(&entry.node, (of_list.filter(|_| entry.key == "items"), false), found);
            }
        }
        return;
    }
    note(node, &signs, &meant, found);
    items.into_iter().for_each(|items| walk(items, (None, false), found));
}

fn note(node: &Node, signs: &Signs<'_>, meant: &[(Kind, bool)], found: &mut Found) {
    let (place, is_exact) = whereabouts(node.entries());
    if let [(kind, true)] = meant
        && is_exact
        && signs.kinds.len() <= 1
        && let Some(object) = object(node, *kind, &place)
    {
        return found.objects.push(object);
    }
    let suspect = |(kind, is_sure): &(Kind, bool)| Suspect {
        kind: *kind,
        is_sure: *is_sure,
        place: place.clone(),
        at: node.at,
    };
    found.suspects.extend(meant.iter().map(suspect));
}

fn object(node: &Node, kind: Kind, place: &Whereabouts) -> Option<Object> {
    let name = node.at_path(&["metadata", "name"])?.text()?;
    let namespace = place.namespaces.first().filter(|_| Name::try_from(name).is_ok())?;
    let name = ObjectRef {
        kind: Arc::from(kind.as_str()),
        namespace: Some(Arc::from(namespace.as_str())),
        name: Arc::from(name),
    };
    Some(Object { kind, name, root: node.clone() })
}

/// Behind keys for it; at the top of what may be an object, behind any key, or as one: the key may be the slip.
fn signs_of(entries: &[Entry], is_top: bool) -> Signs<'_> {
    let mut signs = Signs::default();
    for entry in entries {
        signs.kinds.extend(signs::security_word(&entry.key).filter(|_| is_top));
        let Some(text) = entry.node.text() else { continue };
        if signs::is_near(&entry.key, "kind") {
            signs.kinds.push(text);
        } else if signs::is_near(&entry.key, "apiVersion") || is_top && signs::is_security_version(text) {
            signs.version(text);
        } else if let Some(kind) = signs::security_word(text).filter(|_| is_top) {
            signs.kinds.push(kind);
        }
    }
    signs
}

/// Where an object is, and whether it says so as it should.
pub(crate) fn whereabouts(entries: &[Entry]) -> (Whereabouts, bool) {
    let mut place = Whereabouts::default();
    let mut is_exact = true;
    let of_kind = |key: &'static str| entries.iter().filter(move |entry| signs::is_near(&entry.key, key));
    for (number, entry) in of_kind("metadata").enumerate() {
        let is_plain = of_metadata(entry.node.entries(), &mut place);
        is_exact &= is_plain && number == 0 && entry.key == "metadata";
    }
    for entry in entries.iter().filter(|entry| signs::is_namespace_key(&entry.key)) {
        is_exact = false;
        place.named(entry.node.text());
    }
    let one = place.namespaces.len() == 1 && !place.elsewhere;
    place.elsewhere |= place.namespaces.is_empty();
    (place, is_exact && one)
}

/// Takes over the namespace that metadata name; whether they do so in the right word, or leave it out.
fn of_metadata(entries: &[Entry], place: &mut Whereabouts) -> bool {
    let is_named = |entry: &&Entry| signs::is_namespace_key(&entry.key) && entry.node.value != Value::Null;
    let named: Vec<&Entry> = entries.iter().filter(is_named).collect();
    named.iter().for_each(|entry| place.named(entry.node.text()));
    let known = schema::fields("ObjectMeta");
    let is_known = |entry: &Entry| known.iter().any(|field| field.name == entry.key);
    match named[..] {
        // An object that names no namespace is of this one, unless the name is behind a slip.
        [] if !entries.is_empty() && entries.iter().all(is_known) => {
            place.named(Some("default"));
            true
        }
        [] => {
            place.elsewhere = true;
            false
        }
        [only] => only.key == "namespace",
        _ => false,
    }
}
