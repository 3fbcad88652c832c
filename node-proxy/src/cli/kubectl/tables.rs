//! Answers of several nodes as one table. What daemons say is read as loosely as can be: they may be of another version.
//!
//! Nothing is printed here, and nothing that a terminal would obey comes through.

use std::fmt::Write as _;

use config::finding::visible;
use serde_json::Value;

use super::nodes::Answer;
use crate::cli::{style, tree};

/// Each node's configuration, and below it what is rejected. Whether every node answers and nothing is.
pub(super) fn status(answers: &[Answer]) -> (String, bool) {
    let mut rows = vec![row(["NODE", "VERSION", "OBJECTS", "REJECTED", "WARNINGS", "CONTROL PLANE"])];
    let (mut below, mut is_fine) = (String::new(), true);
    for answer in answers {
        let Some(said) = said(answer, &mut rows) else {
            is_fine = false;
            continue;
        };
        let findings = said["findings"].as_array().map_or(&[][..], Vec::as_slice);
        let count = |severity: &str| findings.iter().filter(|one| one["severity"] == severity).count();
        let plane = match &said["discovery"] {
            Value::Null => "–",
            discovery if discovery["connected"] == true => "connected",
            _ => "away",
        };
        let cells = [plain(&said["version"]), plain(&said["accepted"])];
        let counts = [count("rejected").to_string(), count("warning").to_string(), plane.to_owned()];
        rows.push([vec![visible(&answer.node)], cells.to_vec(), counts.to_vec()].concat());
        for finding in findings.iter().filter(|one| one["severity"] == "rejected") {
            is_fine = false;
            let text = |name: &str| visible(finding[name].as_str().unwrap_or_default());
            let (node, file) = (visible(&answer.node), text("file"));
            // Writing to a String cannot fail.
            let _ = writeln!(below, "rejected  {node}  {file}  {}: {}", text("field"), text("message"));
        }
    }
    (table(&rows) + &below, is_fine)
}

/// What tenants use on each node. Whether every node answers.
pub(super) fn top(answers: &[Answer]) -> (String, bool) {
    let mut rows = vec![row(["NODE", "TENANT", "CPU", "MEMORY", "CONNECTIONS", "REQ/S", "REFUSED/S"])];
    let mut is_fine = true;
    for answer in answers {
        let Some(said) = said(answer, &mut rows) else {
            is_fine = false;
            continue;
        };
        for tenant in said["tenants"].as_array().into_iter().flatten() {
            let rate = |name: &str, digits: usize| {
                tenant["rates"][name].as_f64().map_or("–".to_owned(), |rate| format!("{rate:.digits$}"))
            };
            let memory = tenant["used"]["memory_bytes"].as_u64();
            rows.push(vec![
                visible(&answer.node),
                visible(tenant["tenant"].as_str().unwrap_or_default()),
                rate("cpu_cores", 3),
                memory.map_or("–".to_owned(), style::bytes),
                plain(&tenant["used"]["connections_open"]),
                rate("requests_per_second", 1),
                rate("refused_per_second", 1),
            ]);
        }
    }
    (table(&rows), is_fine)
}

/// What each node says, below its name. Whether every node answers.
pub(super) fn blocks(answers: &[Answer]) -> (String, bool) {
    let (mut out, mut is_fine) = (String::new(), true);
    for answer in answers {
        let _ = writeln!(out, "NODE {}", visible(&answer.node));
        let why = match &answer.said {
            Ok(said) if said.is_success => {
                said.out.lines().for_each(|line| out.push_str(&format!("  {}\n", visible(line))));
                continue;
            }
            Ok(said) => visible(said.complaint.trim()),
            Err(error) => visible(error),
        };
        is_fine = false;
        let _ = writeln!(out, "  does not answer: {why}");
    }
    (out, is_fine)
}

/// One pod, as its node's daemon has it. Whether it is enrolled.
pub(super) fn pod(answers: &[Answer], namespace: &str, name: &str) -> (String, bool) {
    let Some(answer) = answers.first() else { return ("no daemon answers\n".to_owned(), false) };
    let node = visible(&answer.node);
    let said = match answer.json() {
        Ok(said) => said,
        Err(error) => return (format!("node {node} does not answer: {}\n", visible(&error)), false),
    };
    let is_it = |it: &&Value| it["pod"]["namespace"] == namespace && it["pod"]["name"] == name;
    let cells = said["cells"].as_array().into_iter().flatten();
    let found = cells.flat_map(|cell| cell["trees"].as_array().into_iter().flatten()).find(is_it);
    if let Some(tree) = found {
        let text = tree::of_pod(&said, namespace, name)
            .map(|text| text.lines().map(|line| visible(line) + "\n").collect());
        // Of a daemon whose version says it otherwise, as it says it.
        let text: String = text.unwrap_or_else(|| style::json(tree).unwrap_or_default());
        return (format!("enrolled on node {node}\n{text}"), true);
    }
    let why = said["waiting"].as_array().into_iter().flatten().find(is_it);
    let why = why.and_then(|it| it["problem"].as_str()).map(visible);
    let why = why.unwrap_or_else(|| "its daemon does not carry it: is it opted in?".to_owned());
    (format!("{namespace}/{name} on node {node} is not enrolled: {why}\n"), false)
}

/// What a node answers; of one that does not, a row says so.
fn said(answer: &Answer, rows: &mut Vec<Vec<String>>) -> Option<Value> {
    let silent = |error: String| {
        rows.push(vec![visible(&answer.node), format!("does not answer: {}", visible(&error))]);
    };
    answer.json().map_err(silent).ok()
}

fn plain(value: &Value) -> String {
    if value.is_null() { "–".to_owned() } else { visible(&value.to_string()) }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Columns as wide as what is in them; the last cell of a row is as long as it is and widens nothing.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::kubernetes::Said;

    fn answer(node: &str, said: Result<Value, &str>) -> Answer {
        let said =
            said.map(|value| Said { out: value.to_string(), complaint: String::new(), is_success: true });
        Answer { node: node.to_owned(), pod: format!("canopy-{node}"), said: said.map_err(str::to_owned) }
    }

    #[test]
    fn a_node_that_does_not_answer_is_a_row_and_the_others_are_shown() {
        let fine = json!({ "version": 7, "accepted": 8, "findings": [], "discovery": { "connected": true } });
        let (text, is_fine) =
            status(&[answer("one", Ok(fine.clone())), answer("two", Err("no answer within 10 s"))]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["one", "7", "8", "0", "0", "connected"]);
        assert_eq!(lines[2], "two   does not answer: no answer within 10 s");
        assert!(!is_fine);
        assert!(status(&[answer("one", Ok(fine))]).1);
    }

    #[test]
    fn what_a_node_rejects_is_shown_with_the_node_and_no_terminal_obeys_it() {
        let finding =
            json!({ "severity": "rejected", "file": "a.json", "field": "spec", "message": "no\u{1b}[2J" });
        let (text, is_fine) = status(&[answer("one", Ok(json!({ "version": 1, "findings": [finding] })))]);
        assert!(text.contains("rejected  one  a.json  spec: no"), "{text}");
        assert!(!text.contains('\u{1b}') && !is_fine);
    }

    #[test]
    fn a_pod_is_enrolled_or_it_is_told_why_not() {
        let pod_named = |name: &str| json!({ "namespace": "shop", "name": name });
        let said = json!({
            "cells": [{ "trees": [{ "pod": pod_named("cart") }] }],
            "waiting": [{ "pod": pod_named("late"), "problem": "no network namespace" }],
        });
        let of = |name: &str| pod(&[answer("one", Ok(said.clone()))], "shop", name);
        assert!(of("cart").1 && of("cart").0.starts_with("enrolled on node one\n"));
        assert_eq!(
            of("late"),
            ("shop/late on node one is not enrolled: no network namespace\n".to_owned(), false)
        );
        assert!(of("other").0.contains("is it opted in?"));
    }

    #[test]
    fn top_has_a_row_for_each_tenant_of_each_node() {
        let costs = json!({ "tenants": [{
            "tenant": "ns/shop", "rates": { "cpu_cores": 0.25, "requests_per_second": 3.0 },
            "used": { "memory_bytes": 1024, "connections_open": 2 },
        }] });
        let (text, is_fine) = top(&[answer("one", Ok(costs.clone())), answer("two", Ok(costs))]);
        let rows: Vec<_> =
            text.lines().skip(1).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>()).collect();
        assert_eq!(rows, [["one", "ns/shop", "0.250"], ["two", "ns/shop", "0.250"]]);
        assert!(is_fine);
    }
}
