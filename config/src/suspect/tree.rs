//! Signs in a tree that is no object: mappings, at any depth, that say they are a security object.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Suspect, Whereabouts, in_text,
    signs::{self, Signs},
};
use crate::{
    document::{Entry, Node, Unread, Value},
    finding::ObjectRef,
    name::{Name, Namespace},
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
    in_item(root, None)
}

/// Looks through an item that was rejected; in a list of one kind, it need not say it.
pub(crate) fn in_item(root: &Node, of: Option<Kind>) -> Found {
    let mut found = Found::default();
    if let Value::Text(text) = &root.value {
        let unread =
            Unread { lines_before: root.at.line.saturating_sub(1), text: text.clone(), is_cut: false };
        found.suspects = in_text(&unread).into_iter().flatten().collect();
    }
    let typed: Vec<_> = of.filter(|kind| kind.protects()).map(|kind| (kind, true)).into_iter().collect();
    walk(root, (&typed, true), &mut found);
    found
}

/// `typed` are the kinds that a list may have, whose items need not say theirs, each with whether it is written.
fn walk(node: &Node, (typed, is_top): (&[(Kind, bool)], bool), found: &mut Found) {
    node.items().iter().for_each(|item| walk(item, (typed, true), found));
    let entries = node.entries();
    if entries.is_empty() {
        // An item that was one of these, and has nothing left of it.
        let is_lost = is_top && node.items().is_empty();
        return nowhere(node, if is_lost { typed } else { &[] }, found);
    }
    let signs = signs_of(entries, is_top);
    let meant = if signs.kinds.is_empty() && !typed.is_empty() { typed.to_vec() } else { signs.meant() };
    let items: Vec<&Entry> = entries.iter().filter(|entry| signs::is_near(&entry.key, "items")).collect();
    let has_items = items.iter().any(|entry| matches!(entry.node.value, Value::List(_)));
    // A list has items and is of no namespace; a kind that cannot be read does not say.
    let says_list = !signs.kinds.is_empty() && signs.kinds.iter().all(|kind| kind.ends_with("List"));
    let is_list = (says_list || has_items) && !is_object(entries);
    if !meant.is_empty() && !is_list {
        note(node, &signs, &meant, found);
        return items.into_iter().for_each(|entry| walk(&entry.node, (&meant, false), found));
    }
    let before = found.objects.len() + found.suspects.len();
    for entry in entries.iter().filter(|entry| !signs::OF_OTHERS.contains(&entry.key.as_str())) {
        let of_list =
            ["apiVersion", "kind", "metadata"].into_iter().all(|own| !signs::is_near(&entry.key, own));
        if !matches!(entry.node.value, Value::Text(_)) {
            walk(&entry.node, (if of_list { &meant } else { &[] }, false), found);
        }
    }
    if !has_items && before == found.objects.len() + found.suspects.len() {
        // A list without items.
        nowhere(node, &meant, found);
    }
}

fn is_object(entries: &[Entry]) -> bool {
    names_namespace(entries) || entries.iter().any(|entry| signs::is_near(&entry.key, "spec"))
}

fn names_namespace(entries: &[Entry]) -> bool {
    let is_metadata = |entry: &&Entry| signs::is_near(&entry.key, "metadata");
    let below = entries.iter().filter(is_metadata).flat_map(|entry| entry.node.entries());
    entries.iter().chain(below).any(|entry| signs::is_namespace_key(&entry.key))
}

/// Notes what does not say where it is.
fn nowhere(node: &Node, meant: &[(Kind, bool)], found: &mut Found) {
    let place = Whereabouts { elsewhere: true, ..Whereabouts::default() };
    found.suspects.extend(suspects(meant, &place, node));
}

fn suspects(meant: &[(Kind, bool)], place: &Whereabouts, node: &Node) -> impl Iterator<Item = Suspect> {
    meant.iter().map(|(kind, is_sure)| {
        let place = if *kind == Kind::Tenant { of_tenant(node) } else { place.clone() };
        Suspect { kind: *kind, is_sure: *is_sure, place, at: node.at }
    })
}

/// The namespaces that a Tenant may list: whatever it names.
pub(crate) fn of_tenant(node: &Node) -> Whereabouts {
    let mut place = Whereabouts::default();
    words(node, &mut |word| place.listed(word));
    place
}

fn note(node: &Node, signs: &Signs<'_>, meant: &[(Kind, bool)], found: &mut Found) {
    let (place, is_exact) = whereabouts(node.entries());
    if let [(kind, true)] = meant
        && *kind != Kind::Tenant
        && is_exact
        && signs.kinds.len() <= 1
        && let Some(object) = object(node, *kind, &place)
    {
        return found.objects.push(object);
    }
    found.suspects.extend(suspects(meant, &place, node));
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

/// Behind keys for it; at the top of what may be an object, behind any key, or as one: the key may be the slip. There,
/// what became a list or a mapping still has its words.
fn signs_of(entries: &[Entry], is_top: bool) -> Signs<'_> {
    let mut signs = Signs::default();
    for entry in entries {
        signs.kinds.extend(signs::security_word(&entry.key).filter(|_| is_top));
        let Some(text) = entry.node.text() else {
            if is_top && entry.key.eq_ignore_ascii_case("kind") {
                words(&entry.node, &mut |word| signs.kinds.push(word));
            } else if is_top && entry.key.eq_ignore_ascii_case("apiVersion") {
                words(&entry.node, &mut |word| signs.version(word));
            }
            continue;
        };
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

/// All words of a value: texts, and keys of mappings. As deep as documents are, which is bounded.
fn words<'a>(node: &'a Node, take: &mut impl FnMut(&'a str)) {
    node.text().into_iter().for_each(&mut *take);
    node.items().iter().for_each(|item| words(item, take));
    for entry in node.entries() {
        take(&entry.key);
        words(&entry.node, take);
    }
}

/// Where an object is, and whether it says so as it should.
pub(crate) fn whereabouts(entries: &[Entry]) -> (Whereabouts, bool) {
    let mut place = Whereabouts::default();
    let mut is_exact = true;
    let is_metadata =
        |entry: &&Entry| signs::is_near(&entry.key, "metadata") && entry.node.value != Value::Null;
    for (number, entry) in entries.iter().filter(is_metadata).enumerate() {
        let is_plain = of_metadata(entry.node.entries(), &mut place);
        is_exact &= is_plain && number == 0 && entry.key == "metadata";
    }
    // Under another name.
    let has_metadata = entries.iter().any(|entry| is_metadata(&entry));
    let below = entries.iter().filter(|_| !has_metadata).flat_map(|entry| entry.node.entries());
    for entry in entries.iter().chain(below).filter(|entry| signs::is_namespace_key(&entry.key)) {
        is_exact = false;
        named(&mut place, &entry.node);
    }
    let rest = entries.iter().filter(|entry| !is_metadata(entry) && !signs::is_near(&entry.key, "items"));
    rest.for_each(|entry| is_exact &= !stray(&entry.node, &mut place));
    let one = place.namespaces.len() == 1 && !place.elsewhere;
    place.elsewhere |= place.namespaces.is_empty();
    (place, is_exact && one)
}

/// Takes over namespaces that are named where none belongs, as where two items of a list ran into each other; whether there
/// are any. Below a key of its own, targets are of the policy's namespace.
fn stray(node: &Node, place: &mut Whereabouts) -> bool {
    let mut is_there = false;
    for item in node.items() {
        is_there |= stray(item, place);
    }
    let is_own = |entry: &&Entry| {
        !signs::OF_OTHERS.contains(&entry.key.as_str()) && !entry.key.starts_with("targetRef")
    };
    for entry in node.entries().iter().filter(is_own) {
        if signs::is_namespace_key(&entry.key) {
            is_there = true;
            named(place, &entry.node);
        }
        is_there |= stray(&entry.node, place);
    }
    is_there
}

/// The security kinds that a tree says itself to be, or to be a list of.
pub(crate) fn kinds_of(root: &Node) -> Vec<Kind> {
    signs_of(root.entries(), true).meant().into_iter().map(|(kind, _)| kind).collect()
}

/// Every namespace that a tree names as an object's.
pub(crate) fn named_in(root: &Node) -> BTreeSet<Namespace> {
    if root.entries().is_empty() { BTreeSet::new() } else { whereabouts(root.entries()).0.namespaces }
}

/// Takes over the namespace that metadata name; whether they do so in the right word, or leave it out.
fn of_metadata(entries: &[Entry], place: &mut Whereabouts) -> bool {
    let is_named = |entry: &&Entry| signs::is_namespace_key(&entry.key) && entry.node.value != Value::Null;
    let those: Vec<&Entry> = entries.iter().filter(is_named).collect();
    those.iter().for_each(|entry| named(place, &entry.node));
    let known = schema::fields("ObjectMeta");
    let is_known = |entry: &Entry| known.iter().any(|field| field.name == entry.key);
    match those[..] {
        // An object that names no namespace is of this one, unless the name is behind a slip.
        [] if !entries.is_empty() && entries.iter().all(is_known) => {
            place.named(Some("default"));
            true
        }
        // Whatever stands behind that slip.
        [] => {
            entries.iter().filter(|entry| !is_known(entry)).for_each(|entry| named(place, &entry.node));
            place.elsewhere = true;
            false
        }
        [only] => only.key == "namespace",
        _ => false,
    }
}

/// Takes over what stands where a namespace is named; what became a list or a mapping may have it in it.
fn named(place: &mut Whereabouts, node: &Node) {
    place.named(node.text());
    if node.text().is_none() {
        words(node, &mut |word| place.namespaces.extend(Namespace::try_from(word).ok()));
    }
}
