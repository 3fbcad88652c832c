//! The check of one object against the tables: unknown fields, missing fields, wrong types, and fields that
//! are known but not obeyed, at any depth.

use std::collections::BTreeMap;

use super::{Field, NO_REMARK, Type, Verdict, fields, similar};
use crate::{
    document::{Entry, Node, Value, shorten},
    finding::{Position, Reason, Severity},
    lower::{Context, Place},
};

/// Checks an object of the given type; findings go to the context.
pub(crate) fn check(context: &mut Context<'_>, root: &Node, type_name: &'static str) {
    let mut walk = Walk { context, path: String::new(), listing: true, is_built_in: true };
    walk.fields(root, type_name);
}

struct Walk<'a, 'c> {
    context: &'a mut Context<'c>,
    path: String,
    /// Whether fields that are not obeyed are worth a finding here: not below one that was listed already.
    listing: bool,
    /// Whether the type of the field that is looked at is one of Kubernetes' own.
    is_built_in: bool,
}

impl Walk<'_, '_> {
    fn value(&mut self, node: &Node, kind: &Type) {
        match (kind, &node.value) {
            (_, Value::Null)
            | (Type::Any, _)
            | (Type::Text, Value::Text(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Int, Value::Int(_))
            | (Type::Number, Value::Int(_) | Value::Float(_))
            | (Type::Quantity, Value::Int(_) | Value::Float(_) | Value::Text(_))
            | (Type::IntOrText, Value::Int(_) | Value::Text(_)) => {}
            (Type::List(item), Value::List(items)) => {
                for (index, node) in items.iter().enumerate() {
                    self.below(&format!("[{index}]"), |walk| walk.item(node, item));
                }
            }
            (Type::Dict(value), Value::Map(entries)) => {
                self.duplicates(entries, |key| format!("[{key}]"));
                for entry in entries {
                    self.below(&format!("[{}]", entry.key), |walk| walk.item_of_mapping(&entry.node, value));
                }
            }
            (Type::Struct(name), Value::Map(_)) => self.fields(node, name),
            _ => self.wrong_type(node, kind),
        }
    }

    /// Nothing, as an item, would be lost on its way, and an alternative less may mean that anything will do: so it never
    /// counts as absent, as it does for a field. Where nothing is read from it, it is none of our business.
    fn item(&mut self, node: &Node, kind: &Type) {
        match node.value {
            Value::Null if self.listing => self.wrong_type(node, kind),
            _ => self.value(node, kind),
        }
    }

    /// The API server takes nothing for an empty text in mappings of its own types (labels, selectors).
    fn item_of_mapping(&mut self, node: &Node, kind: &Type) {
        let is_blank = self.is_built_in && *kind == Type::Text;
        if is_blank { self.value(node, kind) } else { self.item(node, kind) }
    }

    fn fields(&mut self, node: &Node, type_name: &'static str) {
        let known = fields(type_name);
        let Value::Map(entries) = &node.value else { return self.wrong_type(node, &Type::Struct(type_name)) };
        let separator = if self.path.is_empty() { "" } else { "." };
        self.duplicates(entries, |key| format!("{separator}{key}"));
        for entry in entries {
            self.below(&format!("{separator}{}", entry.key), |walk| {
                match known.iter().find(|field| field.name == entry.key) {
                    Some(field) => walk.field(entry, field),
                    None => walk.unknown(entry, known),
                }
            });
        }
        for field in known.iter().filter(|field| field.required && node.get(field.name).is_none()) {
            let message = format!("required: add {}", field.name);
            self.below(&format!("{separator}{}", field.name), |walk| {
                walk.find(Severity::Rejected, Reason::MissingField, node.at, message);
            });
        }
    }

    fn field(&mut self, entry: &Entry, field: &Field) {
        let listing = self.listing;
        let remark = match field.verdict {
            Verdict::ObeyedWhen(values, _)
                if !values.split('|').any(|value| entry.node.text() == Some(value)) =>
            {
                Some((Reason::NotObeyed, NO_REMARK))
            }
            Verdict::Obeyed | Verdict::ObeyedWhen(..) => None,
            Verdict::Record => {
                self.listing = false;
                None
            }
            Verdict::NotObeyed(remark) => Some((Reason::NotObeyed, remark)),
            Verdict::LeftToOthers => {
                Some((Reason::LeftToOthers, "left to Kubernetes: Canopy has no part in it"))
            }
        };
        if let Some((reason, remark)) = remark.filter(|_| self.listing && entry.node.value != Value::Null) {
            let message = match (field.verdict, entry.node.text()) {
                (Verdict::ObeyedWhen(_, Some(meaning)), Some(text)) => format!("{} {meaning}", shorten(text)),
                (Verdict::ObeyedWhen(values, None), Some(text)) => {
                    let value = values.split('|').next().unwrap_or_default();
                    format!("{remark} unless it is {value}: {text:?} is treated as {value}")
                }
                _ => remark.to_owned(),
            };
            self.find(Severity::NotObeyed, reason, entry.at, message);
            self.listing = false;
        }
        self.is_built_in = field.is_built_in;
        self.value(&entry.node, &field.kind);
        self.listing = listing;
    }

    fn unknown(&mut self, entry: &Entry, known: &'static [Field]) {
        let message = match similar::nearest(&entry.key, known.iter().map(|field| field.name)) {
            Some(meant) => format!("unknown field: did you mean {meant}?"),
            None if known.len() <= 12 => {
                let names: Vec<&str> = known.iter().map(|field| field.name).collect();
                format!("unknown field: remove it (known here: {})", names.join(", "))
            }
            None => "unknown field: remove it, or check its indentation".to_owned(),
        };
        self.find(Severity::Rejected, Reason::UnknownField, entry.at, message);
    }

    fn duplicates(&mut self, entries: &[Entry], step: impl Fn(&str) -> String) {
        let mut seen: BTreeMap<&str, Position> = BTreeMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(&entry.key, entry.at) {
                // Nobody writes these twice on purpose.
                let merged = self.path.is_empty() && matches!(&*entry.key, "apiVersion" | "kind");
                let remedy = if merged { "is a line --- missing before it?" } else { "remove one" };
                let message = format!("given twice, first on line {}: {remedy}", first.line);
                self.below(&step(&entry.key), |walk| {
                    walk.find(Severity::Rejected, Reason::Duplicate, entry.at, message);
                });
            }
        }
    }

    fn wrong_type(&mut self, node: &Node, kind: &Type) {
        let remedy = match (kind, &node.value) {
            (Type::Text, Value::Bool(_) | Value::Int(_) | Value::Float(_)) => ": put it in quotes",
            (Type::Int | Type::Bool, Value::Text(_)) => ": write it without quotes",
            (Type::List(_), _) => ": start each item with \"- \"",
            _ => "",
        };
        let message = format!("must be {}, not {}{remedy}", in_words(kind), node.describe());
        self.find(Severity::Rejected, Reason::WrongType, node.at, message);
    }

    fn below(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }

    fn find(&mut self, severity: Severity, reason: Reason, at: Position, message: String) {
        let place = Place { at, field: self.path.clone() };
        self.context.push(severity, reason, place, message);
    }
}

fn in_words(kind: &Type) -> &'static str {
    match kind {
        Type::Text => "text",
        Type::Bool => "true or false",
        Type::Int => "a whole number",
        Type::Number => "a number",
        Type::Quantity => "a quantity (250m, 64Mi, 2)",
        Type::IntOrText => "a whole number or text",
        Type::Any => "anything",
        Type::List(_) => "a list",
        Type::Dict(_) | Type::Struct(_) => "a mapping",
    }
}
