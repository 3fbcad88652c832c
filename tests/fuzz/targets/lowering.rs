//! Any bytes as a manifest: never a panic, and a second, broken version never loses an accepted object.
#![no_main]

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    report::{Report, TextOptions, render_json, render_text},
    store::{FileText, Options, Store},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let files = |bytes: Vec<u8>| BTreeMap::from([(PathBuf::from("fuzz.yaml"), FileText::from(bytes))]);
    let mut store = Store::new(Options::default());
    let first = store.apply(&files(bytes.to_vec()));
    let report = Report::new(&first);
    let _ = render_text(&report, TextOptions { all: true });
    let _ = render_json(&report);

    let again = store.apply(&files(bytes.to_vec()));
    assert!(again.changes.is_empty(), "the same text twice is no change");

    let broken = store.apply(&files(b"{".to_vec()));
    assert_eq!(*broken.mesh, *first.mesh, "a file that cannot be read loses nothing");
});
