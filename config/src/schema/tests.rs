//! The tables are consistent with each other; what the check finds is tested with whole manifests.

use std::collections::BTreeSet;

use super::*;

fn type_names() -> BTreeSet<&'static str> {
    TABLES.keys().copied().collect()
}

#[test]
fn every_type_that_a_field_names_is_in_the_tables() {
    fn innermost(kind: &Type) -> &Type {
        match kind {
            Type::List(inner) | Type::Dict(inner) => innermost(inner),
            other => other,
        }
    }
    for (name, fields) in TABLES.iter() {
        for field in fields {
            if let Type::Struct(target) = innermost(&field.kind) {
                assert!(type_names().contains(target), "{name}.{} has type {target}", field.name);
            }
        }
    }
}

#[test]
fn every_verdict_names_a_field_that_exists() {
    for key in verdicts().keys() {
        let (name, field) = key.split_once('.').unwrap();
        let has_field = |fields: &Vec<Field>| field == "*" || fields.iter().any(|known| known.name == field);
        let found = if name == "*" {
            TABLES.values().any(has_field)
        } else {
            TABLES.get(name).is_some_and(has_field)
        };
        assert!(found, "{key} is in obeyed.txt but in no table");
    }
}

#[test]
fn every_kind_that_is_read_has_a_table() {
    for kind in crate::object::Kind::ALL {
        assert!(!fields(kind.as_str()).is_empty(), "{kind:?}");
    }
}
