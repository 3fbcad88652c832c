//! The results' contract: what is in `SCENARIO.json`, by which names. Others read these files; whoever changes a name here has
//! changed it for them.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::*;
use crate::outcome::{Sample, Samples, verdict};

/// A scenario of load, its cases and its subjects.
type Promised = (fn() -> Scenario, &'static [&'static str], &'static [&'static str]);
/// Those that others read.
const CONTRACT: [Promised; 4] = [
    (Scenario::http, &["c1-64b", "c32-64b", "c256-64b", "c32-16k"], &BESIDE_ENVOY),
    (Scenario::http2, &["c32x10-64b"], &BESIDE_ENVOY),
    (Scenario::tcp, &["ping-pong", "bulk", "connect"], &BESIDE_ENVOY),
    (Scenario::capture, &["ping-pong", "bulk", "connect"], &BY_STEERING),
];
const BESIDE_ENVOY: [&str; 3] = ["direct", "canopy-node", "envoy-node"];
const BY_STEERING: [&str; 3] = ["direct", "canopy-node-ebpf", "canopy-node-iptables"];

/// What was promised, and what has come beside it.
const FILE: [&[&str]; 2] = [
    &["scenario", "machine", "rounds", "rows", "ratios"],
    &["differences", "verdicts", "provenance", "samples"],
];
const ROW: [&[&str]; 2] = [
    &["case", "subject", "rps", "p50_us", "p99_us", "cpu_us_per_request", "rss_bytes", "errors"],
    &[
        "pss_bytes",
        "p50_closed_us",
        "p99_closed_us",
        "rate_per_second",
        "proxy_busy",
        "void_rounds",
        "unserved",
        "bytes_each",
    ],
];
const RATIO: [&[&str]; 2] = [&["case", "of", "to", "metric", "median", "min", "max"], &[]];
const METRICS: [&[&str]; 2] =
    [&["rps", "p50_us", "p99_us", "cpu_us_per_request", "rss_bytes"], &["p50_closed_us", "p99_closed_us"]];

/// A subject's figures in a round; the n-th subject's are n times the first one's.
fn sample(case: &str, subject: &str, number: usize, again: bool) -> Sample {
    let figure = (number + 1) as f64;
    Sample {
        case: case.to_owned(),
        subject: subject.to_owned(),
        again,
        rps: figure,
        p50_us: figure,
        p99_us: figure,
        p50_closed_us: figure,
        p99_closed_us: figure,
        cpu_us_per_request: figure,
        rss_bytes: figure,
        ..Sample::default()
    }
}

/// One round, as if it had been measured.
fn measured(scenario: &Scenario) -> Measured {
    let mut samples = Vec::new();
    for group in &scenario.groups {
        for case in &group.cases {
            for (number, kind) in group.subjects.iter().enumerate() {
                samples.push(sample(case.name, kind.name(), number, false));
                if group.is_measured_twice(*kind) {
                    samples.push(sample(case.name, kind.name(), number, true));
                }
            }
        }
    }
    Measured { samples: Samples(samples), ..Measured::default() }
}

/// The file that a run of this scenario writes.
fn written(scenario: &Scenario) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let run = Run {
        directory: directory.path().to_owned(),
        docs: PathBuf::new(),
        canopy: "/nonexistent".into(),
        envoy: PathBuf::new(),
        access_log: false,
        subjects: Vec::new(),
        cases: Vec::new(),
        interrupted: Arc::default(),
    };
    let mut outcome = run.outcome(scenario, Plan::new(true, Some(1)), measured(scenario));
    outcome.verdicts = verdict::all(&outcome);
    outcome.write(run.directory()).unwrap();
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [directory.path().join(format!("{}.json", scenario.name))]);
    serde_json::from_str(&fs::read_to_string(&files[0]).unwrap()).unwrap()
}

fn assert_keys(value: &Value, keys: [&[&str]; 2]) {
    let there: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(there, keys.concat().into_iter().collect(), "{value}");
}

fn texts<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    values.as_array().unwrap().iter().map(|value| value[key].as_str().unwrap()).collect()
}

#[test]
fn a_scenarios_file_has_the_keys_and_types_that_were_promised() {
    for (scenario, ..) in CONTRACT {
        let scenario = scenario();
        let file = written(&scenario);
        assert_keys(&file, FILE);
        assert_eq!(file["scenario"], scenario.name);
        assert!(file["machine"].is_object() && file["rounds"] == 1, "{file}");
        for row in file["rows"].as_array().unwrap() {
            assert_keys(row, ROW);
            assert!(row["errors"].is_u64() && row["case"].is_string() && row["subject"].is_string(), "{row}");
            for metric in METRICS.concat() {
                assert!(row[metric].is_f64(), "{metric} of {row}");
            }
        }
        for ratio in file["ratios"].as_array().unwrap() {
            assert_keys(ratio, RATIO);
            assert!(["median", "min", "max"].iter().all(|key| ratio[key].is_f64()), "{ratio}");
        }
    }
}

#[test]
fn every_subject_has_a_row_in_every_case_by_the_names_that_were_promised() {
    for (scenario, cases, subjects) in CONTRACT {
        let file = written(&scenario());
        let rows = file["rows"].as_array().unwrap();
        let there: Vec<_> =
            texts(&file["rows"], "case").into_iter().zip(texts(&file["rows"], "subject")).collect();
        let promised: Vec<_> =
            cases.iter().flat_map(|case| subjects.iter().map(move |subject| (*case, *subject))).collect();
        assert_eq!(there, promised, "{}", file["scenario"]);
        assert_eq!(rows.len(), cases.len() * subjects.len());
    }
}

#[test]
fn every_metric_of_each_canopy_subject_is_given_to_each_other_subject_and_to_itself() {
    for (scenario, cases, subjects) in CONTRACT {
        let file = written(&scenario());
        let mut ratios = file["ratios"].as_array().unwrap().iter();
        for case in cases {
            for (of_number, of) in subjects.iter().enumerate().filter(|(_, of)| of.starts_with("canopy")) {
                for (to_number, to) in subjects.iter().enumerate() {
                    let metrics: BTreeSet<_> = ratios
                        .by_ref()
                        .take(METRICS.concat().len())
                        .map(|ratio| {
                            assert_eq!(
                                [&ratio["case"], &ratio["of"], &ratio["to"]],
                                [case, of, to],
                                "{ratio}"
                            );
                            // Of by to, whatever is the better for it.
                            let median = (of_number + 1) as f64 / (to_number + 1) as f64;
                            assert_eq!(ratio["median"], median, "{ratio}");
                            ratio["metric"].as_str().unwrap()
                        })
                        .collect();
                    assert_eq!(metrics, METRICS.concat().into_iter().collect(), "{of} to {to}");
                }
            }
        }
        assert_eq!(ratios.next(), None);
    }
}

#[test]
fn of_a_file_anywhere_on_this_machine_its_name_alone_is_published() {
    let words = ["tcp", "--canopy", "/somewhere/else/canopy", "--out", "target/bench", "/"];
    assert_eq!(words.map(as_published), ["tcp", "--canopy", "canopy", "--out", "target/bench", "/"]);
}
