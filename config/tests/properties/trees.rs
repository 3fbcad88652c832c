//! Trees of values, and what is done to an object with them. An object keeps its kind and its name: all else may be anything.

use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value};

/// One thing done to one value of an object.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    place: Index,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Replace(Value),
    Remove,
    /// An item, or the value under another key, once more.
    Double(String),
    /// Another key for it.
    Rename(String),
    IntoList,
    IntoMapping(String),
}

pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let what = prop_oneof![
        4 => tree().prop_map(What::Replace),
        1 => Just(What::Remove),
        1 => word().prop_map(What::Double),
        1 => word().prop_map(What::Rename),
        1 => Just(What::IntoList),
        1 => word().prop_map(What::IntoMapping),
    ];
    let edit = (any::<Index>(), what).prop_map(|(place, what)| Edit { place, what });
    prop::collection::vec(edit, 1..4)
}

/// A text of one object, in JSON, after edits.
pub(crate) fn edit(text: &str, edits: &[Edit]) -> String {
    let mut root: Value = serde_yaml::from_str(text).expect("a sound object");
    for edit in edits {
        let mut paths = Vec::new();
        collect(&root, &mut Vec::new(), &mut paths);
        if let Some(path) = paths.get(edit.place.index(paths.len().max(1))) {
            apply(&mut root, path, &edit.what);
        }
    }
    with_the_name_of(root, &serde_yaml::from_str(text).expect("a sound object")).to_string()
}

/// What an object became, still of its kind and under its name.
fn with_the_name_of(mut root: Value, sound: &Value) -> Value {
    for key in ["apiVersion", "kind"] {
        root[key] = sound[key].clone();
    }
    if !root["metadata"].is_object() {
        root["metadata"] = Value::Object(Map::new());
    }
    for key in ["name", "namespace"] {
        match sound["metadata"].get(key) {
            Some(name) => root["metadata"][key] = name.clone(),
            None => drop(root["metadata"].as_object_mut().map(|metadata| metadata.remove(key))),
        }
    }
    root
}

/// A key, or the number of an item.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// The ways to all values.
fn collect(value: &Value, path: &mut Vec<Step>, all: &mut Vec<Vec<Step>>) {
    let steps: Vec<(Step, &Value)> = match value {
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (Step::Key(key.clone()), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (Step::Item(index), item)).collect()
        }
        _ => Vec::new(),
    };
    for (step, value) in steps {
        path.push(step);
        all.push(path.clone());
        collect(value, path, all);
        path.pop();
    }
}

fn apply(root: &mut Value, path: &[Step], what: &What) {
    let Some((last, above)) = path.split_last() else { return };
    let parent = above.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get_mut(key.as_str()),
        Step::Item(index) => value.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Object(entries)), Step::Key(key)) => of_mapping(entries, key, what),
        (Some(Value::Array(items)), Step::Item(index)) => of_list(items, *index, what),
        _ => {}
    }
}

fn of_mapping(entries: &mut Map<String, Value>, key: &str, what: &What) {
    let value = entries.get(key).cloned().unwrap_or_default();
    match what {
        What::Remove => drop(entries.remove(key)),
        What::Double(other) => drop(entries.insert(other.clone(), value)),
        What::Rename(other) => {
            entries.remove(key);
            entries.insert(other.clone(), value);
        }
        What::Replace(..) | What::IntoList | What::IntoMapping(_) => {
            entries.insert(key.to_owned(), changed(value, what));
        }
    }
}

fn of_list(items: &mut Vec<Value>, index: usize, what: &What) {
    let value = items[index].clone();
    match what {
        What::Remove => drop(items.remove(index)),
        What::Double(_) => items.push(value),
        _ => items[index] = changed(value, what),
    }
}

fn changed(value: Value, what: &What) -> Value {
    match what {
        What::Replace(tree) => tree.clone(),
        What::IntoList => Value::Array(vec![value]),
        What::IntoMapping(key) | What::Rename(key) | What::Double(key) => {
            Value::Object(Map::from_iter([(key.clone(), value)]))
        }
        What::Remove => Value::Null,
    }
}

/// Any value, a few levels deep.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![0, 1, -1, 80, 65535, 65536, i64::MIN, i64::MAX]).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(TEXTS.to_vec()).prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("a".repeat(5000))),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// A key that stands somewhere in an object, or one that nobody knows.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
        1 => "[a-zA-Z.~/$]{0,8}",
    ]
}

/// Words that are something, somewhere.
const TEXTS: [&str; 24] = [
    "",
    "*",
    "it",
    "web",
    "shop",
    "/a",
    "/../b",
    "10.0.0.0/8",
    "::1",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "10s",
    "250m",
    "1e309",
    "RegularExpression",
    "(a{1000}){1000}",
    "RequestMirror",
    "STRICT",
    "DENY",
    "In",
    "UDP",
    "/run/netns/it",
    "65536",
    "a\r\nb: c",
];

const KEYS: [&str; 40] = [
    "spec",
    "status",
    "rules",
    "matches",
    "filters",
    "backendRefs",
    "parentRefs",
    "path",
    "headers",
    "method",
    "type",
    "value",
    "name",
    "port",
    "ports",
    "weight",
    "timeouts",
    "request",
    "from",
    "to",
    "source",
    "operation",
    "when",
    "key",
    "values",
    "selector",
    "matchLabels",
    "matchExpressions",
    "operator",
    "mtls",
    "mode",
    "portLevelMtls",
    "podSelector",
    "ipBlock",
    "cidr",
    "hosts",
    "endpoints",
    "addresses",
    "budget",
    "namespaces",
];
