//! What people and programs get to see.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::store::{FileText, Options, Store};

fn report(text: &str) -> Report {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    Report::new(&Store::new(Options::default()).apply(&files))
}

const BROKEN: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec:\n  ports:\n    - prot: 80\n";

#[test]
fn text_shows_the_line_with_a_caret_under_the_field() {
    let text = render_text(&report(BROKEN), TextOptions::default());
    let expected = "\
a.yaml:6:7: rejected: Service default/cart: spec.ports[0].prot: unknown field: did you mean port?
  6 |     - prot: 80
    |       ^
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("1 files: 0 objects accepted (0 tenants,"), "{text}");
    assert!(text.ends_with("2 rejected, 0 warning, 0 not-obeyed, 0 ignored\n"), "{text}");
}

#[test]
fn where_there_is_nothing_the_text_says_so() {
    let nothing = Report::new(&Store::new(Options::default()).apply(&BTreeMap::new()));
    assert!(nothing.is_empty() && nothing.ok);
    let text = render_text(&nothing, TextOptions::default());
    assert!(text.starts_with("warning: no manifest was found: "), "{text}");
    let text = render_text(&report("# only a word\n"), TextOptions::default());
    assert!(text.starts_with("warning: no file holds an object: "), "{text}");
    let text = render_text(
        &report("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"),
        TextOptions::default(),
    );
    assert!(text.starts_with("1 files: 1 objects accepted"), "{text}");
}

#[test]
fn json_has_place_object_field_and_reason() {
    let report = report(BROKEN);
    assert_eq!(report.exit_code(), 1);
    let json: serde_json::Value = serde_json::from_str(&render_json(&report).unwrap()).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["summary"]["findings"]["rejected"], 2);
    let finding = &json["findings"][0];
    let expected = serde_json::json!({
        "severity": "rejected", "reason": "unknown-field", "file": "a.yaml", "line": 6, "column": 7,
        "object": {"kind": "Service", "namespace": "default", "name": "cart"},
        "field": "spec.ports[0].prot", "message": "unknown field: did you mean port?",
        "excerpt": "    - prot: 80",
    });
    assert_eq!(*finding, expected);
}

#[test]
fn control_characters_of_a_manifest_do_not_reach_the_terminal() {
    let hostile = "apiVersion: v1\nkind: Pod\nmetadata: {name: \"\\e[31mred\\n\", \"\\e[0m\": 1}\n";
    let text = render_text(&report(hostile), TextOptions { all: true });
    assert!(text.contains("unknown field"), "{text:?}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn fields_of_others_are_counted_and_shown_on_demand() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {priority: 1, containers: [{name: c, image: i}]}\n\
               status: {podIP: 10.0.0.1}\n";
    let report = report(pod);
    assert!(report.ok);
    let text = render_text(&report, TextOptions::default());
    assert!(
        text.contains("(2 fields are left to other parts of Kubernetes)") && !text.contains("image"),
        "{text}"
    );
    assert!(render_text(&report, TextOptions { all: true }).contains("spec.containers[0].image"));
}
