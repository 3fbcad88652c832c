//! What became of a case, beside what is expected of it. Complaints are for people: each says what was expected, and what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use config::{
    condition::{About, Standing, word},
    finding::{Finding, ObjectRef, Severity},
    store::Outcome,
};

use crate::{
    case::Case,
    expectation::Expected,
    scene::{self, NEIGHBOUR, NEIGHBOURS_FILE, Thing, closed, things},
};

/// A case, and what stores make of it.
#[derive(Debug)]
pub(crate) struct Trial {
    pub case: Case,
    alone: &'static Outcome,
    after: Vec<(&'static str, Outcome)>,
    /// What is left of the edit when its file is gone.
    gone: Outcome,
    /// The folder's sound object, and the case in its place.
    good: Outcome,
    over_good: Outcome,
}

impl Trial {
    pub(crate) fn new(case: Case) -> Self {
        let start = |prefix| scene::store().apply(&scene::files(prefix, &case.files));
        let mut running = scene::store();
        running.apply(&scene::files("", &[]));
        let edited = running.apply(&scene::files("99-case", &case.files));
        let gone = running.apply(&scene::files("", &[]));
        let mut after = vec![("as an edit", edited)];
        if !case.is_an_edit() {
            after.push(("at the start, behind all others", start("99-case")));
        }
        if !case.is_an_edit() && case.files.iter().map(Vec::len).sum::<usize>() < LARGE {
            after.push(("at the start, before all others", start("00-case")));
        }
        let mut running = scene::store();
        let good = running.apply(&scene::files("99-case", &case.kind.good_file()));
        let over_good = running.apply(&scene::files("99-case", &case.files));
        Self { case, alone: scene::alone(), after, gone, good, over_good }
    }
}

/// Bytes of a case of which it is tried once only at the start: reading takes its time.
const LARGE: usize = 100_000;

/// Whether an object is in force as it is written.
pub(crate) fn is_in_force(outcome: &Outcome, object: &ObjectRef) -> bool {
    standing(outcome, object)
        .and_then(|standing| standing.of(About::Programmed))
        .is_some_and(|condition| condition.status)
}

fn standing<'a>(outcome: &'a Outcome, object: &ObjectRef) -> Option<&'a Standing> {
    outcome.standings.iter().map(|standing| &**standing).find(|standing| standing.object == *object)
}

fn is_of_case(file: &Path) -> bool {
    file.to_string_lossy().contains("-case-")
}

/// What is not as the case expects it.
pub(crate) fn status(trial: &Trial) -> Vec<String> {
    let each = trial.after.iter().flat_map(|(when, outcome)| {
        let complaints = trial.case.expected.iter().flat_map(|expected| complaints(outcome, expected));
        let all = complaints.chain(not_expected(&trial.case, outcome)).collect::<Vec<_>>();
        let told = if all.is_empty() { String::new() } else { all_told(outcome) };
        all.into_iter().map(move |complaint| format!("{when}: {complaint}{told}"))
    });
    each.collect()
}

fn all_told(outcome: &Outcome) -> String {
    let told = outcome.findings.iter().filter(|finding| is_of_case(&finding.file));
    told.take(6).map(|finding| format!("\n        told: {finding}")).collect()
}

fn complaints(outcome: &Outcome, expected: &Expected) -> Vec<String> {
    match expected {
        Expected::Status(object, status) => match standing(outcome, object) {
            Some(standing) => {
                let all = status.complaints(&object.kind, &standing.conditions);
                all.into_iter().map(|complaint| format!("{object}: {complaint}")).collect()
            }
            None => vec![format!("{object} has no status")],
        },
        Expected::NoStatus(object) => {
            let there = standing(outcome, object);
            there.map(|there| format!("{object} has a status: {:?}", there.conditions)).into_iter().collect()
        }
        Expected::Told { severity, reason, piece } => {
            let is_it = |finding: &&Finding| {
                finding.severity.as_str() == severity
                    && word(finding.reason) == reason
                    && finding.to_string().contains(piece)
                    && is_of_case(&finding.file)
            };
            let is_told = outcome.findings.iter().any(|finding| is_it(&finding));
            let complaint = format!("nobody is told: {severity} {reason} {piece:?}");
            if is_told { Vec::new() } else { vec![complaint] }
        }
        Expected::Closed(places) => closed_otherwise(outcome, places.iter().cloned().collect()),
        Expected::AsAnEdit => Vec::new(),
    }
}

fn closed_otherwise(outcome: &Outcome, expected: BTreeSet<String>) -> Vec<String> {
    let closed = closed(&outcome.mesh);
    if closed == expected { Vec::new() } else { vec![format!("{closed:?} is closed, not {expected:?}")] }
}

/// What is closed or rejected without the case's saying so.
fn not_expected(case: &Case, outcome: &Outcome) -> Vec<String> {
    let says_closed = case.expected.iter().any(|expected| matches!(expected, Expected::Closed(_)));
    let mut wrong = if says_closed { Vec::new() } else { closed_otherwise(outcome, BTreeSet::new()) };
    let is_expected = |finding: &&Finding| {
        case.expected.iter().any(|expected| match expected {
            Expected::Status(object, _) => finding.object.as_ref() == Some(object),
            Expected::Told { piece, .. } => finding.to_string().contains(piece),
            Expected::NoStatus(_) | Expected::Closed(_) | Expected::AsAnEdit => false,
        })
    };
    let rejected = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    let unexpected = rejected.filter(|finding| !is_expected(finding));
    wrong.extend(unexpected.take(3).map(|finding| format!("told: {finding}")));
    wrong
}

/// What a neighbour has of it.
pub(crate) fn neighbours(trial: &Trial) -> Vec<String> {
    let before = of(things(&trial.alone.mesh), NEIGHBOUR);
    let mut wrong = Vec::new();
    for (when, outcome) in &trial.after {
        let after = of(things(&outcome.mesh), NEIGHBOUR);
        let lost = before.iter().filter(|thing| !after.contains(thing));
        wrong.extend(lost.map(|thing| format!("{when}: is no more: {thing:?}")));
        let stood_in = |thing: &&Thing| !before.contains(thing) && !is_closed(&trial.case);
        wrong.extend(after.iter().filter(stood_in).map(|thing| format!("{when}: is new: {thing:?}")));
        let is_its = |standing: &&Arc<Standing>| {
            let object = &standing.object;
            object.namespace.as_deref().unwrap_or(&object.name) == NEIGHBOUR
        };
        for standing in trial.alone.standings.iter().filter(is_its) {
            let now = self::standing(outcome, &standing.object);
            // That there is another of its name is said of the name.
            let is_well = now.is_some_and(|now| now.of(About::Programmed) == standing.of(About::Programmed));
            if now != Some(standing) && !(trial.case.is_an_edit() && is_well) {
                wrong.push(format!("{when}: {} is {now:?}", standing.object));
            }
        }
        let is_new = |finding: &&Finding| {
            &*finding.file == Path::new(NEIGHBOURS_FILE) && !trial.alone.findings.contains(finding)
        };
        let told = outcome.findings.iter().filter(is_new);
        wrong.extend(told.map(|finding| format!("{when}: its owner is told: {finding}")));
    }
    wrong
}

/// Whether the case says that something of the neighbour's is closed: then it is an object of that namespace.
fn is_closed(case: &Case) -> bool {
    let is_named = |place: &String| place.split(' ').any(|word| word == NEIGHBOUR);
    let is_it =
        |expected: &Expected| matches!(expected, Expected::Closed(places) if places.iter().any(is_named));
    case.expected.iter().any(is_it)
}

fn of(things: Vec<Thing>, namespace: &str) -> Vec<Thing> {
    things.into_iter().filter(|thing| thing.namespace == namespace).collect()
}

/// What is lost of a sound object whose file becomes the case's, where the case is not in force.
pub(crate) fn last_good(trial: &Trial) -> Vec<String> {
    let it = trial.case.kind.it();
    let after = &trial.over_good;
    // Of two of one name, one may be its next version.
    let is_defect = |finding: &&Finding| {
        finding.severity == Severity::Rejected
            && is_of_case(&finding.file)
            && !(finding.object.as_ref() == Some(&it) && finding.message.contains("is there already"))
    };
    let is_rejected = after.findings.iter().any(|finding| is_defect(&finding));
    // The case may have it in words that are in force.
    let (_, fresh) = &trial.after[0];
    if !is_rejected || is_in_force(fresh, &it) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let kept = standing(after, &it).and_then(|standing| standing.of(About::Programmed));
    if kept.is_none_or(|condition| condition.reason != "KeptLastGood") {
        wrong.push(format!("over a sound {it}: Programmed is {kept:?}, not KeptLastGood{}", all_told(after)));
    }
    let own = |outcome: &Outcome| -> BTreeMap<String, Vec<String>> {
        let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let all = things(&outcome.mesh).into_iter().filter(|thing| thing.name == *it.name);
        all.for_each(|thing| own.entry(thing.namespace).or_default().push(thing.says));
        own
    };
    let (before, now) = (own(&trial.good), own(after));
    let is_there = |(namespace, says): (&String, &Vec<String>)| {
        now.get(namespace).is_some_and(|now| says.iter().all(|thing| now.contains(thing)))
    };
    if !before.iter().all(is_there) {
        wrong.push(format!("over a sound {it}: {before:?} became {now:?}"));
    }
    wrong
}

/// What is left of it when it is gone.
pub(crate) fn gone(trial: &Trial) -> Vec<String> {
    let mut left = Vec::new();
    if things(&trial.gone.mesh) != things(&trial.alone.mesh) {
        left.push("the mesh is not as it was before".to_owned());
    }
    let told = trial.gone.findings.iter().filter(|finding| !trial.alone.findings.contains(finding));
    left.extend(told.map(|finding| format!("still told: {finding}")));
    if trial.gone.standings != trial.alone.standings {
        left.push("objects have another status than before".to_owned());
    }
    left
}
