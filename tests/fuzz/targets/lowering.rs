//! Any bytes as a manifest: never a panic, never an object that vanishes without a finding, and a second, broken version never loses an accepted object.
#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use config::{
    finding::{Reason, Severity},
    report::{Report, TextOptions, render_json, render_text},
    store::{FileText, Options, Outcome, Store},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let files = |bytes: Vec<u8>| BTreeMap::from([(PathBuf::from("fuzz.yaml"), FileText::from(bytes))]);
    let mut store = Store::new(Options::default());
    let first = store.apply(&files(bytes.to_vec()));
    assert_none_vanished(&first);
    let report = Report::new(&first);
    let _ = render_text(&report, TextOptions { all: true });
    let _ = render_json(&report);

    let again = store.apply(&files(bytes.to_vec()));
    assert!(again.changes.is_empty(), "the same text twice is no change");

    let broken = store.apply(&files(b"{".to_vec()));
    assert_eq!(*broken.mesh, *first.mesh, "a file that cannot be read loses nothing");
});

/// Each object is in force or has a rejection of its own. Said of a first reading: nothing is kept there.
fn assert_none_vanished(outcome: &Outcome) {
    // Where findings or objects were left out, the one finding that says so stands for them all.
    if outcome.findings.iter().any(|finding| finding.reason == Reason::TooLarge) {
        return;
    }
    let rejections = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    let rejected: BTreeSet<_> = rejections.filter_map(|finding| finding.object.as_ref()).collect();
    let answered = outcome.accepted + rejected.len();
    assert!(answered >= outcome.objects, "an object vanished: {} of {}", answered, outcome.objects);
}
