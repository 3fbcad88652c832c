//! A parsed document: a tree of values that remember where they were written.
//!
//! YAML and JSON give the same tree. Scalars keep the type YAML gives them; what type they should have is
//! the schema's to say.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_yaml::Spanned;

use crate::finding::Position;

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping, where it is, and its value. Keys may repeat: the schema check says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

impl Node {
    /// The value of a key; an explicit null is absent, as it is for Kubernetes.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    /// Follows keys.
    pub(crate) fn at_path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    pub(crate) fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        if let Value::Map(entries) = &mut self.value { entries } else { &mut [] }
    }

    /// Moves the items out of a list.
    pub(crate) fn take_items(&mut self) -> Vec<Node> {
        if let Value::List(items) = &mut self.value { std::mem::take(items) } else { Vec::new() }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        if let Value::Int(number) = self.value { Some(number) } else { None }
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self.value { Some(truth) } else { None }
    }

    /// The text of a key.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The items of a key; none if it is absent.
    pub(crate) fn items_of(&self, key: &str) -> &[Node] {
        self.get(key).map_or(&[], Node::items)
    }

    /// Adds to every line below: a document knows only its own lines.
    pub(crate) fn shift_lines(&mut self, lines: u32) {
        self.at.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift_lines(lines)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.at.line += lines;
                    entry.node.shift_lines(lines);
                }
            }
            _ => {}
        }
    }

    /// What it is, in words of YAML.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(truth) => format!("the boolean {truth}"),
            Value::Int(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Text(text) => format!("the text {:?}", shorten(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// At most 60 characters of a text, so that a finding stays one line.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 60;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    text.chars().take(LIMIT - 1).chain(['…']).collect()
}

fn position(location: serde_yaml::Location) -> Position {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position { line: narrow(location.line()), column: narrow(location.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `referenced`, not `defined`: for an alias the author looks for the place where it is used.
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, at: position(spanned.referenced) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
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

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value()?;
            entries.push(Entry { key: key.value, at: position(key.referenced), node });
        }
        Ok(Value::Map(entries))
    }
}

/// At most 160 characters of a line, without its end.
pub(crate) fn shorten_line(line: &str) -> String {
    const LIMIT: usize = 160;
    line.trim_end_matches(['\r', '\n']).chars().take(LIMIT).collect()
}
