//! Signs in text of which no tree could be made: where it is well-formed, what its objects say of themselves; else words,
//! and what stands behind keys on the same line.

use std::collections::BTreeSet;

use super::{
    Suspect, Whereabouts, outline,
    signs::{self, Signs},
};
use crate::{
    document::{self, Unread},
    finding::Position,
    name::Namespace,
};

/// What security objects the documents of a text may be; `None` for a document that tells not even a kind.
pub(crate) fn in_text(unread: &Unread) -> Vec<Option<Suspect>> {
    let documents: Vec<_> = document::split(&unread.text).collect();
    let found = |(index, (lines, text)): (usize, (u32, &str))| {
        let before = unread.lines_before + lines;
        // What is cut off may be well-formed, and not say the whole of it.
        let is_whole = !unread.is_cut || index + 1 < documents.len();
        let outline = is_whole.then(|| outline::in_document(text, before)).flatten();
        outline.unwrap_or_else(|| in_document(text, before))
    };
    documents.iter().copied().enumerate().flat_map(found).collect()
}

/// Every namespace that a text names as an object's.
pub(crate) fn namespaces_in(text: &str) -> BTreeSet<Namespace> {
    let mut place = Whereabouts::default();
    for word in words(text).filter(|word| signs::is_namespace_key(word.text)) {
        if let Some(value) = word.value() {
            place.named(value);
        }
    }
    place.namespaces
}

fn in_document(text: &str, lines_before: u32) -> Vec<Option<Suspect>> {
    let (mut signs, mut place, mut at) = (Signs::default(), Whereabouts::default(), None);
    let mut value_at = None;
    for word in words(text) {
        if value_at == Some((word.line, word.start)) {
            continue;
        }
        let value = word.value();
        if let Some(value) = value.filter(|_| signs::is_namespace_key(word.text)) {
            // At the very end, it may be the beginning of a longer one.
            place.named(value.filter(|value| !text.ends_with(value)));
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
    let suspect = |(kind, is_sure)| Some(Suspect { kind, is_sure, place: place.clone(), at });
    meant.into_iter().map(suspect).collect()
}

/// A word, and the line it is on.
struct Word<'a> {
    text: &'a str,
    of: &'a str,
    /// Bytes of the line before it.
    start: usize,
    /// Counted from 1.
    line: u32,
}

/// The words of a text, without lines that are comments.
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let lines = (1..).zip(text.split_inclusive('\n'));
    let lines = lines.filter(|(_, line)| !line.trim_start().starts_with('#'));
    lines.flat_map(|(line, of)| {
        let mut end = 0;
        std::iter::from_fn(move || {
            let start = end + of[end..].find(is_of_word)?;
            end = start + length(&of[start..]);
            Some(Word { text: &of[start..end], of, start, line })
        })
    })
}

impl<'a> Word<'a> {
    /// What it is the key of: `None` if it is no key, `Some(None)` if there is nothing legible behind it on the line.
    fn value(&self) -> Option<Option<&'a str>> {
        let behind = self.of[self.end()..].trim_start_matches(is_quote);
        let behind = behind.trim_start().strip_prefix(':')?;
        let value = behind.trim_start_matches(|c: char| is_quote(c) || c.is_whitespace());
        let length = length(value);
        // What goes on otherwise than a value ends is not the whole of it.
        let is_end = |next: char| next.is_whitespace() || matches!(next, ',' | '}' | ']' | '"' | '\'');
        let is_whole = value[length..].chars().next().is_none_or(is_end);
        Some((length > 0 && is_whole).then(|| &value[..length]))
    }

    /// Where its value starts on the line.
    fn value_start(&self) -> usize {
        self.end() + self.of[self.end()..].find(is_of_word).unwrap_or_default()
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

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

fn length(text: &str) -> usize {
    text.find(|c| !is_of_word(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    /// What is found, as `KIND in NAMESPACES`, with `?` for a kind and a namespace that cannot be read.
    fn found(text: &str) -> Vec<String> {
        let is_cut = !text.ends_with('\n');
        let unread = Unread { lines_before: 0, text: text.to_owned(), is_cut };
        let show = |suspect: Option<Suspect>| {
            let Some(Suspect { kind, is_sure, place, .. }) = suspect else { return "nothing".to_owned() };
            let mut names: Vec<&str> = place.namespaces.iter().map(Namespace::as_str).collect();
            names.extend(place.elsewhere.then_some("?"));
            let kind = if kind == Kind::AuthorizationPolicy { "Auth" } else { kind.as_str() };
            format!("{kind}{} in {}", if is_sure { "" } else { "?" }, names.join(","))
        };
        in_text(&unread).into_iter().map(show).collect()
    }

    #[test]
    fn signs_of_policies_are_found_in_whatever_is_left_of_a_text() {
        for (text, expected) in [
            ("kind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop\nspec: [\n", "Auth in shop"),
            ("{\"kind\":\"AuthorizationPolicy\",\"metadata\":{\"namespace\":\"shop\"},", "Auth in shop"),
            ("kind:AuthorizationPolicy\nnamespace:shop\n", "Auth in shop"),
            ("apiVersion: security.istio.io/v1\nkind: [\nnamespce: 'shop'\n", "Auth? in shop"),
            ("kind: AuthorizatonPolicy\n", "Auth in ?"),
            ("kind: AuthorizationPolicyList\nnamespace: shop\nnamespace: bank\n", "Auth in bank,shop"),
            ("kind: AuthorizationPolicy\nnamespace: [\n", "Auth in ?"),
            ("kind: AuthorizationPolicy\nnamespace: Shop_1 \n", "Auth in ?"),
            ("kind: AuthorizationPolicy\nnamespace: sh\u{f6}p\n", "Auth in ?"),
            ("kind: AuthorizationPolicy\nnamespace: sh[p\n", "Auth in ?"),
            ("apiVersion: security.istioAuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
            ("kind: AuthorizationPolicy\nmetadata:\n  namespace: sh", "Auth in ?"),
            ("knd: AuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
            (
                "kind: AuthorizationPolicy\nspec: {from: {namespaces: [bank]}}\nnamespace: shop\n",
                "Auth in shop",
            ),
            ("kind: Service\n--\nkind: AuthorizationPolicy\nnamespace: shop\n", "Auth in shop"),
            ("kind: PeerAuthentication\nnamespace: shop\n", "PeerAuthentication in shop"),
            (
                "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nnamespace: shop\n",
                "NetworkPolicy in shop",
            ),
            // What says that it is something else is nothing of the kind.
            ("kind: Service\nnamespace: shop\n{", ""),
            ("# kind: AuthorizationPolicy\nkind: Service\n", ""),
            ("apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n", ""),
            ("apiVersion: policy.linkerd.io/v1\nkind: AuthorizationPolicy\n", ""),
            (
                "kind: ClusterRole\nrules: [{apiGroups: [security.istio.io], resources: [authorizationpolicies]}]\n",
                "",
            ),
            ("{", "nothing"),
            ("kind: [", "nothing"),
        ] {
            assert_eq!(found(text).join("; "), expected, "{text}");
        }
        let two = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\napiVersion: security.istio.io/v1\nkind: Polcy\n";
        assert_eq!(found(two), ["Auth? in ?"]);
        let both = "kind: PeerAuthentication\nkind: AuthorizationPolicy\nnamespace: shop\n---\n{\n";
        assert_eq!(found(both), ["Auth in shop", "PeerAuthentication in shop", "nothing"]);
    }

    #[test]
    fn a_suspect_knows_its_line() {
        let unread =
            Unread { lines_before: 4, text: "a: [\n  kind: AuthorizationPolicy\n".to_owned(), is_cut: false };
        let at = in_text(&unread)[0].as_ref().unwrap().at;
        assert_eq!((at.line, at.column), (6, 3));
    }
}
