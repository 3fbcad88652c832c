//! A checker of values by a definition's schema, as far as ours uses it: types, bounds, patterns, unknown fields. What is said in CEL it
//! does not evaluate. It must never pass over a word of the schema that it does not know.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

/// What is wrong with a value, each with its path.
pub(crate) fn faults(value: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, schema, "", &mut found);
    found
}

fn walk(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let words = schema.as_object().expect("a schema is a mapping");
    if let Some(word) = words.keys().find(|word| !KNOWN.contains(&word.as_str())) {
        panic!("{path}: the schema says {word}, which this test does not know: teach it");
    }
    if !has_type(value, words) {
        found.push(format!("{path}: wrong type"));
        return;
    }
    match value {
        Value::Object(fields) => object(fields, words, path, found),
        Value::Array(list) => array(list, words, path, found),
        Value::String(text) => string(text, words, path, found),
        Value::Number(number) => {
            let (least, most) = (bound(words, "minimum"), bound(words, "maximum"));
            let number = number.as_i64().expect("whole numbers alone have the right type");
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                found.push(format!("{path}: {number} is out of bounds"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn has_type(value: &Value, words: &Map<String, Value>) -> bool {
    if words.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return value.is_i64() || value.is_string();
    }
    match words.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("a type that this test does not know: {other:?}"),
    }
}

fn object(fields: &Map<String, Value>, words: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let Some(properties) = words.get("properties") else { return };
    for (name, value) in fields {
        match properties.get(name) {
            Some(schema) => walk(value, schema, &format!("{path}.{name}"), found),
            None => found.push(format!("{path}.{name}: unknown")),
        }
    }
    for name in words.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().expect("names are text");
        if !fields.contains_key(name) {
            found.push(format!("{path}.{name}: required"));
        }
    }
}

fn array(list: &[Value], words: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    for (number, item) in list.iter().enumerate() {
        walk(item, &words["items"], &format!("{path}[{number}]"), found);
    }
    let distinct: BTreeSet<String> = list.iter().map(Value::to_string).collect();
    if words.get("x-kubernetes-list-type") == Some(&Value::from("set")) && distinct.len() < list.len() {
        found.push(format!("{path}: twice the same"));
    }
    if words.get("maxItems").and_then(Value::as_u64).is_some_and(|most| list.len() as u64 > most) {
        found.push(format!("{path}: too many"));
    }
}

fn string(text: &str, words: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let length = |word| words.get(word).and_then(Value::as_u64);
    let letters = text.chars().count() as u64;
    let fits = length("minLength").is_none_or(|least| letters >= least)
        && length("maxLength").is_none_or(|most| letters <= most);
    let allowed = words
        .get("enum")
        .is_none_or(|values| values.as_array().is_some_and(|values| values.contains(&text.into())));
    let pattern = words.get("pattern").and_then(Value::as_str);
    let matches = pattern.is_none_or(|pattern| Regex::new(pattern).expect("a pattern").is_match(text));
    if !(fits && allowed && matches) {
        found.push(format!("{path}: {text:?} is not allowed"));
    }
}

fn bound(words: &Map<String, Value>, word: &str) -> Option<i64> {
    words.get(word).and_then(Value::as_i64)
}

/// `format` and CEL are the API server's to check; `description` is for people.
const KNOWN: [&str; 17] = [
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxItems",
    "pattern",
    "format",
    "description",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
];
