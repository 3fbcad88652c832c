//! The outline of a document that is well-formed and too large to be read: which objects it has and where they are, as
//! their own fields say, whatever stands in their annotations or anywhere else.
//!
//! Memory is bounded: what is kept counts, and a document of which too much would have to be kept has no outline.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny};

use super::{Suspect, in_tree, signs};
use crate::{
    document::{self, Entry, Node, Value},
    finding::Position,
    object::{self, Kind},
};

/// What security objects a document may be, as it would be taken if it were smaller; `None` if it is not well-formed, or
/// has no outline.
pub(super) fn in_document(text: &str, lines_before: u32) -> Option<Vec<Option<Suspect>>> {
    let left = Cell::new(KEPT);
    let at = Position { line: lines_before + 1, column: 1 };
    let value = document::skim(text, Outline { left: &left, at, within: Within::Other })?;
    if !matches!(value, Value::Map(_) | Value::List(_)) {
        return None;
    }
    let root = Node { value, at };
    let says_kind = |entry: &Entry| signs::is_near(&entry.key, "kind") && entry.node.value != Value::Null;
    let is_mute = !root.entries().iter().any(says_kind);
    let found = object::objects(root).into_iter().map(|object| match object {
        Ok(object) if object.kind.protects() => in_tree(&object.root),
        Ok(_) => Default::default(),
        Err(defect) => defect.found,
    });
    let mut suspects: Vec<_> = found.flat_map(|found| found.into_suspects()).collect();
    // Their lists are not kept.
    for tenant in suspects.iter_mut().filter(|suspect| suspect.kind == Kind::Tenant) {
        tenant.place = super::listed_in(text);
    }
    let suspects: Vec<_> = suspects.into_iter().map(Some).collect();
    Some(if suspects.is_empty() && is_mute { vec![None] } else { suspects })
}

/// How many values are kept of a document.
const KEPT: usize = 100_000;

/// Reads a value, without what has no part in saying what an object is.
#[derive(Debug, Clone, Copy)]
struct Outline<'a> {
    /// How many values may still be kept.
    left: &'a Cell<usize>,
    /// Where the document starts: there is no better place for anything in it.
    at: Position,
    within: Within,
}

/// What a value is the value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// All of their keys count: one that nobody knows may be a slip.
    Metadata,
    Items,
    Other,
}

impl Outline<'_> {
    fn below(self, key: &str) -> Self {
        let within = match key {
            "items" => Within::Items,
            key if signs::is_near(key, "metadata") => Within::Metadata,
            _ => Within::Other,
        };
        Self { within, ..self }
    }

    fn keep<E: de::Error>(self, value: Value) -> Result<Node, E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom("too many values to be kept"))?);
        Ok(Node { value, at: self.at })
    }

    fn is_kept(self, key: &str, value: &Value) -> bool {
        let is_key = || {
            ["apiVersion", "kind"].into_iter().any(|wanted| signs::is_near(key, wanted))
                || signs::is_namespace_key(key)
                || signs::security_word(key).is_some()
        };
        match value {
            Value::List(items) => !items.is_empty() || key == "items",
            Value::Map(entries) if !entries.is_empty() => true,
            Value::Text(text) if signs::security_word(text).is_some() || signs::is_security_version(text) => {
                true
            }
            _ => self.within != Within::Other || signs::is_near(key, "metadata") || is_key(),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Outline<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Outline<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Int(i64::MAX))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        // Names are shorter; what is longer is none, and is not kept as it is.
        Ok(if text.len() > LONGEST { Value::Bool(true) } else { Value::Text(text.to_owned()) })
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = access.next_element_seed(self)? {
            let is_kept = match &value {
                Value::List(items) => !items.is_empty(),
                Value::Map(entries) => !entries.is_empty(),
                Value::Text(text) => signs::security_word(text).is_some() || signs::is_security_version(text),
                _ => false,
            };
            if is_kept {
                items.push(self.keep(value)?);
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if signs::OF_OTHERS.contains(&key.as_str()) {
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = access.next_value_seed(self.below(&key))?;
            if self.is_kept(&key, &value) {
                entries.push(Entry { key, at: self.at, node: self.keep(value)? });
            }
        }
        Ok(Value::Map(entries))
    }
}

/// Bytes of a text that is kept.
const LONGEST: usize = 512;
