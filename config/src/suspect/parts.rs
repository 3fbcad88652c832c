//! Cutting text that is no YAML into what were objects: where a line between two of them is lost, each is still of its own
//! namespace alone.
//!
//! Text within a value is further in than the keys of its object, so no words of an author make a part.

use std::collections::BTreeMap;

/// The parts of a text, each with the lines before it.
pub(super) fn of(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut starts = vec![(0, 0)];
    let mut columns: BTreeMap<usize, Seen> = BTreeMap::new();
    let mut offset = 0;
    let mut line = 0;
    for content in text.split_inclusive(['\n', '\r']) {
        if let Some((column, key)) = key(content) {
            let seen = columns.entry(column).or_default();
            let is_again =
                seen.metadata && (key == Key::Version && seen.version || key == Key::Kind && seen.kind);
            if is_again {
                starts.push((line, offset));
                columns.retain(|other, _| *other < column);
            }
            columns.entry(column).or_default().see(key);
        }
        offset += content.len();
        line += u32::from(content.ends_with('\n'));
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, start)| *start).chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(move |((line, start), end)| (line, &text[start..end]))
}

/// What an object of which the keys are at a column has said so far.
#[derive(Debug, Default)]
struct Seen {
    version: bool,
    kind: bool,
    metadata: bool,
}

impl Seen {
    fn see(&mut self, key: Key) {
        match key {
            Key::Version => self.version = true,
            Key::Kind => self.kind = true,
            Key::Metadata => self.metadata = true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Version,
    Kind,
    Metadata,
}

/// A key that every object has, and where on its line it starts.
fn key(line: &str) -> Option<(usize, Key)> {
    let quoted = line.trim_start_matches([' ', '\t', '-', '\u{feff}']);
    let content = quoted.trim_start_matches(['"', '\'']);
    let all = [("apiVersion", Key::Version), ("kind", Key::Kind), ("metadata", Key::Metadata)];
    let is_key = |rest: &str| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':');
    let of = |(name, key): (&str, Key)| content.strip_prefix(name).filter(|rest| is_key(rest)).map(|_| key);
    all.into_iter().find_map(of).map(|key| (line.len() - quoted.len(), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, usize)> {
        of(text).map(|(line, part)| (line, part.lines().count())).collect()
    }

    #[test]
    fn objects_without_a_line_between_them_are_parts_and_text_in_values_makes_none() {
        let object = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n";
        assert_eq!(lines(&[object, object].concat()), [(0, 3), (3, 3)]);
        assert_eq!(lines(&[object, " --\n\"kind\": A\nmetadata: {}\n"].concat()), [(0, 4), (4, 2)]);
        let item = "- apiVersion: v1\n  kind: A\n  metadata: {name: a}\n";
        assert_eq!(lines(&["kind: List\nitems:\n", item, item].concat()), [(0, 5), (5, 3)]);
        for one in [
            "kind: A\nkind: B\nmetadata: {}\n".to_owned(),
            format!("{object}data: |\n  {}", object.replace('\n', "\n  ")),
            String::new(),
        ] {
            assert_eq!(lines(&one).len(), 1, "{one}");
        }
    }
}
