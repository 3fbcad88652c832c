//! A corpus of broken and hostile objects, each with what is to become of it, by its conditions and by what stands in for it;
//! and that no neighbour has anything of it, whatever it is.
//!
//! The cases are data (`cases/KIND/*.cases`, form: `case.rs`); beside them `good.yaml` is a sound object of the kind. Each case is
//! put to a store that starts with it and to one that runs, in a file before and behind all others, and in the place of the sound
//! object. A case that expects nothing is an error.

mod case;
mod expectation;
mod judge;
mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        mpsc::{RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use config::finding::{Finding, Severity};

use self::{
    case::{Case, Kind},
    judge::Trial,
};

/// As many as the corpus has at least, in all and of each kind.
const CASES: usize = 200;
const CASES_OF_A_KIND: usize = 8;
/// How long one case may take, in all its trials, before it is said to stall others.
const LIMIT: Duration = Duration::from_secs(60);
/// How many are tried at once.
const AT_ONCE: usize = 4;
/// Documents that are no objects, and files that are no documents.
const FRAMING: &str = "framing";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases")
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<_> = read.map(|entry| entry.expect("the folder can be read").path()).collect();
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All cases, or what is wrong with the corpus.
fn cases() -> Result<Vec<Case>, String> {
    let mut all = Vec::new();
    for folder in entries(&corpus()) {
        let good = fs::read_to_string(folder.join("good.yaml"));
        let good = good.map_err(|error| format!("{}: no good.yaml: {error}", folder.display()))?;
        let kind = Kind::new(&name_of(&folder), good);
        for file in entries(&folder).into_iter().filter(|file| name_of(file) != "good.yaml") {
            let place = format!("{}/{}", name_of(&folder), name_of(&file));
            if file.extension().is_none_or(|extension| extension != "cases") {
                return Err(format!("{place}: a file of cases is called NAME.cases"));
            }
            let text = fs::read_to_string(&file).map_err(|error| format!("{place}: {error}"))?;
            all.extend(case::read(&place, &text, &kind)?);
        }
    }
    Ok(all)
}

/// What stores make of every case, or that it panics or never ends: each is tried on a thread that is not waited for longer than
/// the limit.
static TRIED: LazyLock<Vec<Result<Trial, String>>> = LazyLock::new(|| {
    let cases = cases().expect("the corpus can be read");
    let begin = |case: &Case| {
        let (case, (done, tried)) = (case.clone(), channel());
        // Who waited may have gone on.
        let _: JoinHandle<_> = thread::spawn(move || drop(done.send(Trial::new(case))));
        tried
    };
    let mut all = Vec::with_capacity(cases.len());
    for some in cases.chunks(AT_ONCE) {
        let begun: Vec<_> = some.iter().map(|case| (&case.place, begin(case))).collect();
        all.extend(begun.into_iter().map(|(place, tried)| {
            tried.recv_timeout(LIMIT).map_err(|error| match error {
                RecvTimeoutError::Disconnected => format!("{place}: panics, see above"),
                RecvTimeoutError::Timeout => format!("{place}: takes longer than {LIMIT:?}"),
            })
        }));
    }
    all
});

/// Puts every case to a judgement, and names all that fail.
fn each(judge: fn(&Trial) -> Vec<String>) {
    let mut wrong = Vec::new();
    for tried in TRIED.iter() {
        match tried {
            Ok(trial) => {
                let complaints = judge(trial).into_iter();
                wrong.extend(complaints.map(|complaint| format!("{}: {complaint}", trial.case.place)));
            }
            Err(why) => wrong.push(why.clone()),
        }
    }
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_of_every_kind_and_no_name_of_a_case_is_there_twice() {
    let cases = cases().unwrap();
    assert!(cases.len() >= CASES, "{} cases", cases.len());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for case in &cases {
        *counts.entry(&case.kind.folder).or_default() += 1;
        assert!(
            names.insert((&case.kind.folder, &case.name)),
            "{}: there is another of this name",
            case.place
        );
    }
    let kinds: BTreeSet<&str> = config::kinds().chain([FRAMING]).collect();
    assert_eq!(counts.keys().copied().collect::<BTreeSet<_>>(), kinds);
    for (kind, count) in counts {
        assert!(count >= CASES_OF_A_KIND, "{kind}: {count} cases");
    }
}

#[test]
fn the_scene_and_the_sound_object_of_every_kind_are_well_and_told_nothing() {
    let all = cases().unwrap();
    for one in all.chunk_by(|one, other| one.kind.folder == other.kind.folder) {
        let case = &one[0];
        let outcome = scene::with(&case.kind.good_file());
        // A grant is always told what of it is nobody's business here.
        let told = outcome.findings.iter().filter(|finding| finding.severity < Severity::NotObeyed);
        assert_eq!(told.collect::<Vec<_>>(), [] as [&Finding; 0], "{}", case.kind.folder);
        assert!(judge::is_in_force(&outcome, &case.kind.it()), "{}", case.kind.folder);
    }
}

#[test]
fn every_object_of_the_corpus_has_the_status_that_is_expected_of_it() {
    each(judge::status);
}

#[test]
fn whatever_a_tenant_writes_its_neighbours_objects_are_in_force_and_unchanged() {
    each(judge::neighbours);
}

#[test]
fn what_was_in_force_stays_so_where_its_file_becomes_what_is_refused() {
    each(judge::last_good);
}

#[test]
fn nothing_is_left_of_a_case_when_its_file_is_gone() {
    each(judge::gone);
}

#[test]
fn a_case_without_an_expectation_is_an_error_and_so_is_one_that_cannot_be_read() {
    let kind = Kind::new("AuthorizationPolicy", String::new());
    for (text, error) in [
        ("", "has no case"),
        ("spec: {}\n#case a\n#it well\nspec: {}\n", "stands before the first case"),
        ("#case\n#it well\nspec: {}\n", "has no name"),
        ("#case a\nspec: {}\n", "expects nothing"),
        ("#case a\n#it well\n", "has no text"),
        ("#case a\n#it\nspec: {}\n", "says nothing"),
        ("#case a\n#it Accpted=Duplicate\nspec: {}\n", "Accpted"),
        ("#case a\n#it Accepted=Duplicat\nspec: {}\n", "Duplicat"),
        ("#case a\n#it Accepted=Duplicate\nspec: {}\n", "closed"),
        ("#case a\n#it Accepted=Duplicate \"no end\n#closed shop\nspec: {}\n", "quote"),
        ("#case a\n#told rejcted Malformed \"x\"\nspec: {}\n", "rejcted"),
        ("#case a\n#told rejected Malformed\nspec: {}\n", "piece"),
        ("#case a\n#ti well\nspec: {}\n", "#ti"),
        ("#case a\n#it well\nspec: @{nonsense}\n", "nonsense"),
        ("#case a\n#it well\nspec: @[x*y]@\n", "no number"),
    ] {
        let read = case::read("f", text, &kind);
        assert!(read.as_ref().is_err_and(|why| why.contains(error)), "{text:?}: {read:?}");
    }
}
