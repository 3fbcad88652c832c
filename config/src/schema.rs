//! What Kubernetes knows: the fields of every type that Canopy reads, and which of them it obeys.
//!
//! Compact tables (config/schema), written from the published OpenAPI, instead of the generated types of
//! k8s-openapi: see docs/decisions/0003-field-tables.md. This module must never decide what a value means.

use std::{collections::HashMap, sync::LazyLock};

pub(crate) use self::check::check;

mod check;
pub(crate) mod similar;

/// A type as the tables write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Bool,
    Int,
    Number,
    Quantity,
    IntOrText,
    Any,
    List(Box<Type>),
    Dict(Box<Type>),
    Struct(&'static str),
}

/// What Canopy does with a field (schema/obeyed.txt explains each).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Obeyed,
    /// When it says one of these words (the first is what others are treated as), and what others mean.
    ObeyedWhen(&'static str, Option<&'static str>),
    Record,
    LeftToOthers,
    NotObeyed(&'static str),
}

/// A field of a type.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Type,
    pub(crate) required: bool,
    /// Whether it is of a type of Kubernetes itself, or of Gateway API.
    pub(crate) is_built_in: bool,
    pub(crate) verdict: Verdict,
}

/// The fields of a type; none for a type that the tables do not have.
pub(crate) fn fields(name: &str) -> &'static [Field] {
    TABLES.get(name).map_or(&[], Vec::as_slice)
}

const KUBERNETES: &str = include_str!("../schema/kubernetes.txt");
const ISTIO: &str = include_str!("../schema/istio.txt");
const CANOPY: &str = include_str!("../schema/canopy.txt");
const OBEYED: &str = include_str!("../schema/obeyed.txt");
const NO_REMARK: &str = "known to Kubernetes, not obeyed by Canopy";

static TABLES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let verdicts = verdicts();
    let tables = [(KUBERNETES, true), (ISTIO, false), (CANOPY, false)];
    let types =
        tables.into_iter().flat_map(|(table, built_in)| lines(table).map(move |line| (line, built_in)));
    types.map(|(line, is_built_in)| parse_type(line, is_built_in, &verdicts)).collect()
});

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn parse_type(
    line: &'static str,
    is_built_in: bool,
    verdicts: &HashMap<&'static str, Verdict>,
) -> (&'static str, Vec<Field>) {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let fields = words.filter_map(|word| word.split_once(':')).map(|(field, kind)| Field {
        name: field,
        kind: parse_kind(kind.trim_end_matches('!')),
        required: kind.ends_with('!'),
        is_built_in,
        verdict: verdict_of(verdicts, name, field),
    });
    (name, fields.collect())
}

fn parse_kind(text: &'static str) -> Type {
    let inside =
        |open, close| text.strip_prefix(open).and_then(|rest: &'static str| rest.strip_suffix(close));
    if let Some(item) = inside('[', ']') {
        return Type::List(Box::new(parse_kind(item)));
    }
    if let Some(value) = inside('{', '}') {
        return Type::Dict(Box::new(parse_kind(value)));
    }
    match text {
        "string" | "time" => Type::Text,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "number" => Type::Number,
        "quantity" => Type::Quantity,
        "int-or-string" => Type::IntOrText,
        "any" => Type::Any,
        name => Type::Struct(name),
    }
}

/// Lines of obeyed.txt by `TYPE.FIELD`, `*.FIELD` or `TYPE.*`; the first of these that is there counts.
fn verdicts() -> HashMap<&'static str, Verdict> {
    lines(OBEYED)
        .filter_map(|line| line.split_once(' '))
        .map(|(key, rest)| (key, parse_verdict(rest)))
        .collect()
}

fn parse_verdict(text: &'static str) -> Verdict {
    match text.split_once(' ') {
        None if text == "obeyed" => Verdict::Obeyed,
        None if text == "record" => Verdict::Record,
        None if text == "others" => Verdict::LeftToOthers,
        Some(("default", rest)) => match rest.split_once(' ') {
            Some((values, remark)) => Verdict::ObeyedWhen(values, Some(remark)),
            None => Verdict::ObeyedWhen(rest, None),
        },
        Some(("not-obeyed", remark)) => Verdict::NotObeyed(remark),
        _ => Verdict::NotObeyed(NO_REMARK),
    }
}

fn verdict_of(verdicts: &HashMap<&'static str, Verdict>, name: &str, field: &str) -> Verdict {
    let keys = [format!("{name}.{field}"), format!("*.{field}"), format!("{name}.*")];
    keys.iter().find_map(|key| verdicts.get(key.as_str()).copied()).unwrap_or(Verdict::NotObeyed(NO_REMARK))
}

#[cfg(test)]
mod tests;
