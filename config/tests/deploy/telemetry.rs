//! Dashboard and alerts ask for metrics and labels that there are, and every alert leads to what to do about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;

use crate::manifests::{documents, items, text};

static OPERATIONS: LazyLock<String> = LazyLock::new(|| text("docs/operations.md"));
static CONTROL: LazyLock<String> = LazyLock::new(|| text("docs/control-plane.md"));

/// Labels that Prometheus puts to what it scrapes (deploy/monitoring/podmonitors.yaml).
const OF_TARGETS: [&str; 3] = ["job", "node", "pod"];

/// Documented metrics, each with its labels.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let rows = OPERATIONS.lines().chain(CONTROL.lines()).filter_map(|line| line.strip_prefix("| `canopy_"));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: BTreeSet<&str> = cells[2].split(", ").map(|label| label.trim_matches('`')).collect();
        found.entry(cells[0].trim_matches('`')).or_insert_with(BTreeSet::new).extend(labels);
    }
    found
}

/// Every question that is asked of Prometheus, with where it is.
fn questions() -> Vec<(String, String)> {
    let rules = &documents(&text("deploy/monitoring/alerts.yaml"))[0];
    let alerts = items(&rules["spec"]["groups"][0]["rules"]);
    let mut found: Vec<_> = alerts
        .map(|alert| (alert["alert"].to_string(), alert["expr"].as_str().expect("a text").to_owned()))
        .collect();
    let dashboard: Value =
        serde_json::from_str(&text("deploy/monitoring/dashboard.json")).expect("a dashboard");
    for panel in items(&dashboard["panels"]) {
        let asked =
            items(&panel["targets"]).map(|target| target["expr"].as_str().expect("a text").to_owned());
        found.extend(asked.map(|question| (panel["title"].to_string(), question)));
    }
    for variable in items(&dashboard["templating"]["list"]).filter(|variable| variable["type"] == "query") {
        found.push((variable["name"].to_string(), variable["query"].as_str().expect("a text").to_owned()));
    }
    found
}

#[test]
fn only_documented_metrics_and_labels_are_asked_for() {
    let documented = documented();
    assert!(documented.len() > 50, "{} metrics were found", documented.len());
    let mut asked = BTreeSet::new();
    for (place, question) in questions() {
        let metrics = metrics(&question);
        assert!(!metrics.is_empty() || question.contains("up{"), "{place}: {question}");
        let mut labels: BTreeSet<&str> = OF_TARGETS.into();
        for metric in &metrics {
            let own = documented.get(metric.trim_start_matches("canopy_"));
            labels.extend(own.unwrap_or_else(|| panic!("{place}: {metric} is not documented")));
        }
        for label in labels_of(&question) {
            assert!(
                labels.contains(label.as_str()),
                "{place}: {question}: nothing there has the label {label}"
            );
        }
        asked.extend(metrics);
    }
    assert!(asked.len() > 25, "{asked:?}");
}

#[test]
fn words_of_labels_are_such_as_there_are() {
    for (place, question) in questions() {
        for rest in question.split("reason=~\"").skip(1) {
            for reason in rest.split('"').next().unwrap().split('|') {
                assert!(OPERATIONS.contains(&format!("\n| `{reason}` |")), "{place}: no reason {reason}");
            }
        }
        for rest in question.split("event=~\"").skip(1) {
            for event in rest.split('"').next().unwrap().split('|').filter(|event| !event.ends_with(".*")) {
                assert!(OPERATIONS.contains(&format!("\n| `{event}` | ")), "{place}: no event {event}");
            }
        }
    }
}

#[test]
fn every_alert_has_a_runbook_that_is_there_and_every_runbook_an_alert() {
    let rules = &documents(&text("deploy/monitoring/alerts.yaml"))[0];
    let mut names = BTreeSet::new();
    for alert in items(&rules["spec"]["groups"][0]["rules"]) {
        let name = alert["alert"].as_str().unwrap();
        let link = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        assert_eq!(
            link.rsplit_once("docs/operations.md#").map(|(_, anchor)| anchor),
            Some(&*name.to_lowercase()),
            "{name}"
        );
        assert!(
            ["critical", "warning", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        for word in ["summary", "description"] {
            assert!(alert["annotations"][word].is_string(), "{name}: no {word}");
        }
        names.insert(name.to_owned());
    }
    let section =
        OPERATIONS.split("\n## ").find(|section| section.starts_with("Alerts\n")).expect("a section Alerts");
    let headings: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    assert_eq!(names, headings);
}

/// The metrics of a question.
fn metrics(question: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    question.split(|c| !is_word(c)).filter(|word| word.starts_with("canopy_")).map(str::to_owned).collect()
}

/// The labels by which it selects and groups.
fn labels_of(question: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in question.split('{').skip(1) {
        let selector = rest.split('}').next().unwrap_or_default();
        found
            .extend(selector.split(", ").filter_map(|part| part.split(['=', '!']).next()).map(str::to_owned));
    }
    for rest in question.split("by (").skip(1) {
        found.extend(rest.split(')').next().unwrap_or_default().split(", ").map(str::to_owned));
    }
    found
}
