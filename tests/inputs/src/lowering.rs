//! Any bytes as a manifest: never a panic, never an object that vanishes without a finding, and a second, broken version never loses an accepted object.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use config::{
    finding::{Finding, Reason, Severity},
    report::{Report, TextOptions, render_json, render_text},
    store::{FileText, Options, Outcome, Store},
};

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
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
    store.apply(&files(bytes.to_vec()));
    if let Some(slip) = slip(bytes) {
        assert_nothing_lost(&mut store, &files(slip));
    }
}

/// The text after a slip of its author's hand: the last bytes say which one, and where.
fn slip(bytes: &[u8]) -> Option<Vec<u8>> {
    let [.., what, high, low] = bytes else { return None };
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let is_candidate = |line: &[u8]| match what % 3 {
        0 => true,
        1 => line.starts_with(b"---"),
        _ => line.trim_ascii_start().starts_with(b"kind:"),
    };
    let places: Vec<usize> = (0..lines.len()).filter(|place| is_candidate(&lines[*place])).collect();
    let chosen = usize::from(u16::from_be_bytes([*high, *low])).checked_rem(places.len())?;
    let place = places[chosen];
    if what % 3 == 2 {
        let letters = lines[place].iter().position(|byte| *byte == b':')? + 1;
        let letter = lines[place][letters..].iter_mut().find(|byte| byte.is_ascii_alphabetic())?;
        *letter = if *letter == b'q' { b'x' } else { b'q' };
    } else {
        lines.remove(place);
    }
    Some(lines.concat())
}

/// Where the second version has a rejected part, all that is in force stays, in some version. An object that has
/// just another name now is gone, and so is one whose address another pod of the file has got.
fn assert_nothing_lost(store: &mut Store, files: &BTreeMap<PathBuf, FileText>) {
    let before: BTreeSet<_> = store.in_force().cloned().collect();
    let outcome = store.apply(files);
    let together = [Reason::Conflict, Reason::NotPermitted, Reason::TooLarge];
    let is_broken =
        |finding: &Finding| finding.severity == Severity::Rejected && !together.contains(&finding.reason);
    if outcome.findings.iter().any(is_broken) {
        let after: BTreeSet<_> = store.in_force().cloned().collect();
        assert!(before.is_subset(&after), "lost: {:?}", before.difference(&after).collect::<Vec<_>>());
    }
}

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
