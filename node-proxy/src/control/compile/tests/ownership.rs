//! Who may say what, and whom it affects: every cell of the tables of docs/concepts/ownership.md, by what connections meet.
//!
//! A cell's snapshots are compared with those from before: whoever is not meant to be affected has bit for bit what he had.
//! What is told of it is held by config/tests/ownership.

use std::{collections::BTreeSet, path::PathBuf};

use config::{
    name::NodeName,
    store::{FileText, Options, Store},
};

use super::*;

#[path = "../../../../../config/tests/ownership/said/mod.rs"]
#[expect(dead_code, reason = "what is told is the other test's affair")]
mod said;

mod loops;
mod view;

use self::{
    said::{
        Case, Part, What, cases, objects, page, parts,
        scene::{self, Text},
    },
    view::view,
};

fn store() -> Store {
    let node = NodeName::try_from(scene::NODE).ok();
    let node_addresses = vec![scene::OWN_ADDRESS.parse().unwrap()];
    Store::new(Options { node, node_addresses, ..Options::default() })
}

fn files(texts: &[&[Text]]) -> BTreeMap<PathBuf, FileText> {
    let all = texts.iter().copied().flatten();
    all.map(|(name, text)| (PathBuf::from(name), FileText::from(text.as_str()))).collect()
}

/// What everybody meets.
type View = BTreeMap<Part, Vec<String>>;

/// The same from nothing.
fn met(texts: &[&[Text]]) -> View {
    let mesh = store().apply(&files(texts)).mesh;
    view(&mesh, &compile(&mesh))
}

/// What everybody meets before a case, and after it: where a daemon starts with it, and where it sees it come.
fn before_and_after(case: &Case) -> (View, [(&'static str, View); 3]) {
    let scene = scene::files();
    let edited = |said: &[Text]| {
        let (mut store, mut compiler) = (store(), Compiler::new());
        let mesh = store.apply(&files(&[&scene, &case.given])).mesh;
        compiler.compile(&mesh);
        let mesh = store.apply(&files(&[&scene, &case.given, said])).mesh;
        view(&mesh, &compiler.compile(&mesh))
    };
    let after = [
        ("at the start", met(&[&scene, &case.given, &case.said])),
        ("as an edit", edited(&case.said)),
        ("as an edit that says it is older", edited(&scene::older(&case.said))),
    ];
    (met(&[&scene, &case.given]), after)
}

fn differing(one: &View, other: &View) -> BTreeSet<Part> {
    let all: BTreeSet<&Part> = one.keys().chain(other.keys()).collect();
    all.into_iter().filter(|part| one.get(part) != other.get(part)).cloned().collect()
}

#[test]
fn whoever_writes_what_changes_for_whom_the_page_says_and_for_nobody_else() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 100, "{} cells", cases.len());
    for case in cases {
        let (before, after) = before_and_after(&case);
        for (when, after) in after {
            let changed = differing(&before, &after);
            let besides: Vec<_> = changed.difference(&case.changes).collect();
            let missing: Vec<_> = case.changes.difference(&changed).collect();
            if !(besides.is_empty() && missing.is_empty()) {
                wrong.push(format!(
                    "{}, {when}: changed besides: {besides:?}; not changed: {missing:?}",
                    case.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_route_with_two_parents_is_the_producers_of_its_own_and_a_consumers_of_the_others() {
    let parent = |of: &str| format!("{{group: '', kind: Service, name: web, namespace: {of}}}");
    let spec = format!(
        "spec: {{parentRefs: [{}, {}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}",
        parent("bank"),
        parent("forum")
    );
    let route = [("0-said.yaml".to_owned(), scene::object("HTTPRoute", "forum", "name: web", &spec))];
    let scene = scene::files();
    let consumers = parts("its calls", "forum", &[What::Calls("bank")]);
    let producers = parts("all calls", "forum", &[What::Calls("forum")]);
    let expected: BTreeSet<Part> = consumers.into_iter().chain(producers).collect();
    assert_eq!(differing(&met(&[&scene]), &met(&[&scene, &route])), expected);
}

/// All writers of a row at once, each with an object of the same name: everybody meets what those said that are about him, as if the
/// others had said nothing.
#[test]
fn objects_of_equal_names_never_meet() {
    let scene = scene::files();
    for (name, write) in objects::ROWS {
        let written = objects::Writer::ALL.map(|by| {
            let written = write(by);
            let said = written.said.into_iter().map(|(file, text)| (format!("{file} of {by:?}"), text));
            (written.of, said.collect::<Vec<Text>>(), written.calls)
        });
        let row = page::table(page::OBJECTS).into_iter().find(|row| row[0] == name).unwrap();
        // Written over the scene's own, by whoever may: there is but one of it.
        if name.starts_with("Namespace") || name.starts_with("Tenant") {
            continue;
        }
        let all: Vec<Text> = written.iter().flat_map(|(_, said, _)| said.clone()).collect();
        let together = met(&[&scene, &all]);
        for part in together.keys() {
            let about = written.iter().zip(&row[1..]).filter(|((of, _, calls), words)| {
                let changes = parts(words, of, calls);
                changes.contains(part)
            });
            let own: Vec<Text> = about.flat_map(|((_, said, _), _)| said.clone()).collect();
            let alone = met(&[&scene, &own]);
            assert_eq!(together.get(part), alone.get(part), "{name}: {part:?}");
        }
    }
}
