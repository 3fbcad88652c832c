//! What docs/operations.md says is what the code has: reasons, metrics and verbs, in both directions.

use std::{collections::BTreeSet, process::Command};

use node_proxy::telemetry::Reason;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// First cells, in backquotes, of the table below a heading.
fn first_cells(heading: &str) -> BTreeSet<&'static str> {
    let section = OPERATIONS
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .expect("a section of that heading");
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_reason_is_documented_with_its_label() {
    let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(first_cells("Reasons"), labels);
}

#[test]
fn every_documented_status_is_the_one_answered() {
    let section = OPERATIONS.split("\n## ").find(|section| section.starts_with("Reasons")).unwrap();
    for reason in Reason::ALL {
        let row = section.lines().find(|line| line.starts_with(&format!("| `{reason}` |"))).unwrap();
        let status = row.split('|').nth(2).unwrap().trim();
        assert!(status == "–" || status == reason.status().as_str(), "{row}");
    }
}

#[test]
fn every_verb_is_documented() {
    let help = Command::new(env!("CARGO_BIN_EXE_canopy")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let verbs: BTreeSet<_> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        // What is wrapped is indented further.
        .filter_map(|line| {
            line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()
        })
        .filter(|verb| *verb != "help")
        .collect();
    let documented = first_cells("Verbs");
    let documented: BTreeSet<_> =
        documented.iter().filter_map(|cell| cell.strip_prefix("canopy ")?.split(' ').next()).collect();
    assert_eq!(verbs, documented);
}
