//! Which fields of two values differ: paths with what stood there before and what stands there after, few and short.
//!
//! Values are compared as data. Where something is written is no part of what it says, and what probes send may be a secret: neither
//! is ever among the fields.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{finding::visible, lower::Draft};

/// Fields of an object that are told; of more, the number.
const TOLD: usize = 24;
/// Characters of a value that are told.
const LONGEST: usize = 100;

/// What differs between two values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fields {
    /// The first that differ.
    pub fields: Vec<FieldChange>,
    /// How many others do.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_fields: usize,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its path, as `rules[1].backends[0].weight`.
    pub field: String,
    /// What it was; `None` where it was not there.
    pub before: Option<String>,
    /// What it is; `None` where it is not there.
    pub after: Option<String>,
}

impl Fields {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.more_fields == 0
    }

    fn tell(&mut self, field: &str, before: Option<&Value>, after: Option<&Value>) {
        if self.fields.len() >= TOLD {
            self.more_fields += 1;
            return;
        }
        let is_hidden = field.starts_with("probes");
        let text = |value: &Value| if is_hidden { HIDDEN.to_owned() } else { shown(value) };
        let (before, after) = (before.map(text), after.map(text));
        self.fields.push(FieldChange { field: field.to_owned(), before, after });
    }
}

/// What differs between two versions of an object.
pub(super) fn of_drafts(was: &Draft, is: &Draft) -> Fields {
    between(body(was), body(is))
}

/// What differs between two values.
pub(super) fn of_values(was: &impl Serialize, is: &impl Serialize) -> Fields {
    // Plain data with texts as keys: turning it into JSON cannot fail.
    let value = |value| serde_json::to_value(value).unwrap_or_default();
    between(value(was), serde_json::to_value(is).unwrap_or_default())
}

fn between(was: Value, is: Value) -> Fields {
    let mut fields = Fields::default();
    compare(&mut fields, "", Some(&said(was)), Some(&said(is)));
    fields
}

/// What an object says, without the words around it that no manifest has.
fn body(draft: &Draft) -> Value {
    let Ok(Value::Object(of_kind)) = serde_json::to_value(draft) else { return Value::Null };
    let Some((_, mut body)) = of_kind.into_iter().next() else { return Value::Null };
    for wrapper in WRAPPERS {
        while let Some(Value::Object(inner)) = body.as_object_mut().and_then(|map| map.remove(*wrapper)) {
            merge(&mut body, inner);
        }
    }
    body
}

fn merge(body: &mut Value, inner: Map<String, Value>) {
    if let Value::Object(outer) = body {
        outer.extend(inner);
    }
}

/// Fields that hold what the object says, with something that was found out about it beside them.
const WRAPPERS: &[&str] = &["workload", "policy", "entry", "tenant", "facts"];

/// Without nothings, and without positions: that something was written counts, not where.
fn said(value: Value) -> Value {
    match value {
        value if is_place(&value) => Value::Bool(true),
        Value::Object(map) => {
            // Whoever writes labels may call one anything, so the name alone does not make a place.
            let are_places = |key: &str, value: &Value| {
                let all = |items: &Vec<Value>| items.iter().all(is_place);
                key.ends_with("places") && value.as_array().is_some_and(all)
            };
            let is_kept = |(key, value): &(String, Value)| !are_places(key, value) && !value.is_null();
            let kept: Vec<(String, Value)> = map.into_iter().filter(is_kept).collect();
            let names: BTreeSet<String> = kept.iter().map(|(key, _)| key.clone()).collect();
            let kept = kept.into_iter().filter_map(|(key, value)| match key.strip_suffix("place") {
                Some(rest) if is_place(&value) => {
                    let field = rest.trim_end_matches('_').to_owned();
                    // Where that is there by itself, what it says is told, and not that it is written.
                    (!names.contains(&field)).then_some((field, Value::Bool(true)))
                }
                _ => Some((key, said(value))),
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(said).collect()),
        other => other,
    }
}

/// Where something is written.
fn is_place(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.len() == 2 && map.contains_key("at") && map.contains_key("field"))
}

fn compare(fields: &mut Fields, path: &str, was: Option<&Value>, is: Option<&Value>) {
    match (was, is) {
        (Some(was), Some(is)) if was == is => {}
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            let new = is.keys().filter(|key| !was.contains_key(*key));
            for key in was.keys().chain(new) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(fields, &path, was.get(key), is.get(key));
            }
        }
        (Some(Value::Array(was)), Some(Value::Array(is))) => arrays(fields, path, was, is),
        _ => fields.tell(path, was, is),
    }
}

/// What stands alike at the beginning and at the end is left aside, so that one item that comes or goes is one difference.
fn arrays(fields: &mut Fields, path: &str, was: &[Value], is: &[Value]) {
    let same = |pair: &(&Value, &Value)| pair.0 == pair.1;
    let start = was.iter().zip(is).take_while(same).count();
    let (was, is) = (&was[start..], &is[start..]);
    let end = was.iter().rev().zip(is.iter().rev()).take_while(same).count();
    let (was, is) = (&was[..was.len() - end], &is[..is.len() - end]);
    for at in 0..was.len().max(is.len()) {
        compare(fields, &format!("{path}[{}]", start + at), was.get(at), is.get(at));
    }
}

fn shown(value: &Value) -> String {
    let text = visible(&value.to_string());
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

const HIDDEN: &str = "(not shown)";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(was: Value, is: Value) -> Vec<(String, Option<String>, Option<String>)> {
        let fields = between(was, is);
        fields.fields.into_iter().map(|change| (change.field, change.before, change.after)).collect()
    }

    fn row(
        field: &str,
        before: Option<&str>,
        after: Option<&str>,
    ) -> (String, Option<String>, Option<String>) {
        (field.to_owned(), before.map(str::to_owned), after.map(str::to_owned))
    }

    #[test]
    fn a_field_is_told_by_its_path_with_what_it_was_and_what_it_is() {
        let was = json!({"rules": [{"weight": 90, "name": "a"}], "gone": 1, "same": [1, 2]});
        let is = json!({"rules": [{"weight": 10, "name": "a"}], "came": "x", "same": [1, 2]});
        let expected = [
            row("gone", Some("1"), None),
            row("rules[0].weight", Some("90"), Some("10")),
            row("came", None, Some("\"x\"")),
        ];
        assert_eq!(told(was, is), expected);
    }

    #[test]
    fn an_item_that_comes_into_a_list_is_one_difference() {
        assert_eq!(told(json!(["a", "c"]), json!(["a", "b", "c"])), [row("[1]", None, Some("\"b\""))]);
        assert_eq!(told(json!(["a", "b"]), json!(["b"])), [row("[0]", Some("\"a\""), None)]);
    }

    #[test]
    fn where_something_is_written_is_no_difference_and_that_it_is_written_is_one() {
        let place = |line: u32| json!({"at": {"line": line, "column": 1}, "field": "x"});
        let was = json!({"account_place": place(1), "address_places": [place(1)], "off_place": null});
        let is = json!({"account_place": place(9), "address_places": [place(9)], "off_place": place(3)});
        assert_eq!(told(was, is), [row("off", None, Some("true"))]);
    }

    #[test]
    fn what_probes_send_is_never_told() {
        let probes = |token: &str| json!({"probes": [{"headers": [["authorization", token]]}]});
        let told = told(probes("one"), probes("two"));
        assert_eq!(told, [row("probes[0].headers[0][1]", Some(HIDDEN), Some(HIDDEN))]);
    }

    #[test]
    fn values_are_short_and_visible_and_many_fields_are_counted() {
        let long = "x".repeat(10 * LONGEST);
        let shown = shown(&json!(long));
        assert_eq!(shown.chars().count(), LONGEST + 1);
        let shown = super::shown(&json!("\u{9b}2J\u{7f}"));
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        let many = |value: usize| json!((0..TOLD + 5).map(|at| (at.to_string(), value)).collect::<Vec<_>>());
        let fields = between(many(1), many(2));
        assert_eq!((fields.fields.len(), fields.more_fields), (TOLD, 5));
    }
}
