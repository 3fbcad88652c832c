//! Objects of an API server as text: taken apart no further than needed, so that what is not known of them reaches who says so.
//!
//! It must never change what an object says; it leaves out what only the API server has use for.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of an object, in their order, each as it is written.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    pub(super) fn of(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == key).map(|(_, value)| &**value)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(of, _)| of != key);
    }

    /// In the place of the one that is there, else at the end.
    pub(super) fn set(&mut self, key: &'a str, value: String) {
        match self.0.iter_mut().find(|(of, _)| of == key) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(key), Cow::Owned(value))),
        }
    }
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}:{value}", quoted(key))?;
        }
        f.write_str("}")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfFields)
    }
}

struct OfFields;

impl<'de> Visitor<'de> for OfFields {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            fields.push((key, Cow::Borrowed(value.get())));
        }
        Ok(Fields(fields))
    }
}

/// Borrowed where nothing in it is escaped.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfKey;
        impl<'de> Visitor<'de> for OfKey {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(OfKey)
    }
}

/// A text as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The same text on many lines, so that a line of it says something.
pub(super) fn on_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut all = text.chars().peekable();
    while let Some(next) = all.next() {
        if in_text {
            out.push(next);
            in_text = escaped || next != '"';
            escaped = !escaped && next == '\\';
            continue;
        }
        match next {
            '{' | '[' => {
                out.push(next);
                if all.peek().is_some_and(|after| matches!(after, '}' | ']')) {
                    out.extend(all.next());
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(next);
            }
            ',' => {
                out.push(next);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            ' ' | '\t' | '\r' | '\n' => {}
            _ => {
                out.push(next);
                in_text = next == '"';
            }
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_keep_their_order_their_spelling_and_what_is_there_twice() {
        let text = r#"{"b":1.50,"a":{"x" : [1, 2]},"b":"\u00e9","k\n":null}"#;
        assert_eq!(Fields::of(text).unwrap().to_string(), text);
        assert!(Fields::of("[1]").is_err());
    }

    #[test]
    fn lines_are_as_people_write_them() {
        let text = r#"{"a":[],"b":{},"c":[1,{"d":"x,{\"]:\\"}]}"#;
        let expected = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"x,{\\\"]:\\\\\"\n    }\n  ]\n}";
        assert_eq!(on_lines(text), expected);
    }

    proptest! {
        #[test]
        fn on_lines_a_text_says_what_it_said(keys in prop::collection::vec("[a-z\"\\\\{},: \n]{0,6}", 0..6), number: i64) {
            let mut value = serde_json::json!([number, null, "x", {}]);
            for key in keys {
                value = serde_json::json!({ (key.clone()): value, "of": [key] });
            }
            let text = value.to_string();
            let again: serde_json::Value = serde_json::from_str(&on_lines(&text)).unwrap();
            prop_assert_eq!(again, value);
        }
    }
}
