//! Signs in text of which no tree could be made: where it is well-formed, what its objects say of themselves; else words,
//! and what stands behind keys on the same line.

use std::collections::BTreeSet;

use super::{
    Suspect, Whereabouts, outline, parts,
    signs::{self, Signs},
};
use crate::{
    document::{self, Unread},
    finding::Position,
    name::Namespace,
    object::Kind,
};

/// What security objects the documents of a text may be; `None` for a document that tells not even a kind.
pub(crate) fn in_text(unread: &Unread) -> Vec<Option<Suspect>> {
    let documents: Vec<_> = document::split(&unread.text).collect();
    let found = |(index, (lines, text)): (usize, (u32, &str))| {
        let before = unread.lines_before + lines;
        // What is cut off may be well-formed, and not say the whole of it.
        let is_whole = !unread.is_cut || index + 1 < documents.len();
        let outline = is_whole.then(|| outline::in_document(text, before)).flatten();
        let in_parts =
            || parts::of(text).flat_map(|(lines, part)| in_document(part, before + lines)).collect();
        outline.unwrap_or_else(in_parts)
    };
    documents.iter().copied().enumerate().flat_map(found).collect()
}

/// Every namespace that a text names as an object's.
pub(crate) fn namespaces_in(text: &str) -> BTreeSet<Namespace> {
    let mut place = Whereabouts::default();
    for word in words(text).filter(|word| signs::is_namespace_key(word.text)) {
        word.names(&mut place);
    }
    let of_anchors = words(text).filter(|word| word.is_behind('&'));
    place.namespaces.extend(of_anchors.filter_map(|word| Namespace::try_from(word.next()?).ok()));
    place.namespaces
}

/// Every word of a text that a Tenant may list.
pub(crate) fn listed_in(text: &str) -> Whereabouts {
    let mut place = Whereabouts::default();
    words(text).for_each(|word| place.listed(word.text));
    place
}

fn in_document(text: &str, lines_before: u32) -> Vec<Option<Suspect>> {
    let (mut signs, mut place, mut at) = (Signs::default(), Whereabouts::default(), None);
    let mut value_at = None;
    for word in words(text) {
        if value_at == Some((word.line, word.start)) {
            continue;
        }
        let value = word.value();
        if signs::is_namespace_key(word.text) && value.is_some() {
            word.names(&mut place);
        } else if let Some(Some(kind)) = value.filter(|_| signs::is_near(word.text, "kind")) {
            signs.kinds.push(kind);
            value_at = Some((word.line, word.value_start()));
        } else if let Some(Some(version)) = value.filter(|_| signs::is_near(word.text, "apiVersion")) {
            signs.version(version);
            value_at = Some((word.line, word.value_start()));
        } else if let Some(kind) = signs::security_word(word.text) {
            signs.kinds.push(kind);
        } else if signs::is_security_version(word.text) {
            signs.version(word.text);
        } else {
            continue;
        }
        at.get_or_insert(Position { line: lines_before + word.line, column: word.column() });
    }
    place.elsewhere |= place.namespaces.is_empty();
    let meant = signs.meant();
    if meant.is_empty() {
        return if signs.kinds.is_empty() { vec![None] } else { Vec::new() };
    }
    let at = at.unwrap_or(Position { line: lines_before + 1, column: 1 });
    let suspect = |(kind, is_sure)| {
        let place = if kind == Kind::Tenant { listed_in(text) } else { place.clone() };
        Some(Suspect { kind, is_sure, place, at })
    };
    meant.into_iter().map(suspect).collect()
}

/// A word, and the line it is on.
struct Word<'a> {
    text: &'a str,
    /// The line, and all behind it.
    of: &'a str,
    rest: &'a str,
    /// Bytes of the line before it.
    start: usize,
    /// Counted from 1.
    line: u32,
}

/// The words of a text, without lines that are comments.
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let (mut number, mut start) = (1, 0);
    let lines = text.split_inclusive(['\n', '\r']).map(move |of| {
        let (line, rest) = (number, &text[start + of.len()..]);
        number += u32::from(of.ends_with('\n'));
        start += of.len();
        (line, of, rest)
    });
    let lines = lines.filter(|(_, line, _)| !line.trim_start().starts_with('#'));
    lines.flat_map(|(line, of, rest)| {
        let mut end = 0;
        std::iter::from_fn(move || {
            let start = end + of[end..].find(is_of_word)?;
            end = start + length(&of[start..]);
            Some(Word { text: &of[start..end], of, rest, start, line })
        })
    })
}

impl<'a> Word<'a> {
    /// What it is the key of: `None` if it is no key, `Some(None)` if there is nothing legible behind it on the line.
    fn value(&self) -> Option<Option<&'a str>> {
        let value = without_properties(self.behind()?).trim_start_matches(is_quote);
        let length = length(value);
        // What goes on otherwise than a value ends is not the whole of it.
        let is_end = |next: char| next.is_whitespace() || matches!(next, ',' | '}' | ']' | '"' | '\'');
        let is_whole = value[length..].chars().next().is_none_or(is_end);
        Some((length > 0 && is_whole).then(|| &value[..length]))
    }

    /// What is behind the key that it is, on the line.
    fn behind(&self) -> Option<&'a str> {
        let behind = self.of[self.end()..].trim_start_matches(is_quote);
        behind.trim_start().strip_prefix(':')
    }

    /// Takes over the namespace that it is the key of; what became a list or a mapping, or goes on below, may have it in it.
    fn names(&self, place: &mut Whereabouts) {
        let Some(behind) = self.behind() else { return };
        // At the very end, it may be the beginning of a longer one.
        let is_at_end = |value: &&str| self.rest.is_empty() && self.of.ends_with(value);
        place.named(self.value().flatten().filter(|value| !is_at_end(value)));
        let value = without_properties(behind).trim_end();
        let below = self.rest.split(['\n', '\r']).find(|line| !line.is_empty()).unwrap_or_default();
        let scattered = match value.chars().next() {
            None | Some('>' | '|') if !below.contains(':') => below,
            Some('[' | '{') => value,
            _ => return,
        };
        let words = scattered.split(|c| !is_of_word(c));
        place.namespaces.extend(words.filter_map(|word| Namespace::try_from(word).ok()));
    }

    /// The word behind it, which is its value if it is an anchor's name.
    fn next(&self) -> Option<&'a str> {
        let value = self.of[self.end()..].trim_start().trim_start_matches(is_quote);
        Some(&value[..length(value)])
    }

    fn is_behind(&self, sign: char) -> bool {
        self.of[..self.start].ends_with(sign)
    }

    /// Where its value starts on the line.
    fn value_start(&self) -> usize {
        let value = self.value().flatten().unwrap_or_default();
        // Behind a tag or an anchor.
        self.end() + self.of[self.end()..].find(value).unwrap_or_default()
    }

    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn column(&self) -> u32 {
        u32::try_from(self.of[..self.start].chars().count() + 1).unwrap_or(u32::MAX)
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

/// A value without its tag and its anchor.
fn without_properties(text: &str) -> &str {
    let text = text.trim_start();
    match text.strip_prefix(['!', '&']) {
        Some(property) => without_properties(property.trim_start_matches(|c: char| !c.is_whitespace())),
        None => text,
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

fn length(text: &str) -> usize {
    text.find(|c| !is_of_word(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
