//! Edits one after the other give what everything at once gives: a store that makes each edit in what it has decides as one that
//! knows nothing but what is in force.

use std::{cell::Cell, path::Path};

use proptest::prelude::*;

use super::universe::{OBJECTS, UNEVALUATED, text_of};
use super::*;

/// One edit of the files.
#[derive(Debug, Clone)]
enum Edit {
    /// An object is in a file in this version, and in its other one no more.
    Put {
        object: usize,
        version: usize,
        elsewhere: bool,
    },
    /// It is in both of its files.
    Repeat {
        object: usize,
        version: usize,
    },
    Remove {
        object: usize,
    },
    /// All objects of a file stand further down.
    Move {
        file: usize,
    },
    /// What follows cannot be read; or can be read again.
    Break {
        file: usize,
        how: usize,
    },
    RemoveFile {
        file: usize,
    },
}

const FILES: usize = 6;
/// Most edits break nothing.
const BREAKS: [&str; 5] =
    ["", "", "---\nkind: [\n", "---\n- no\n", "---\nkind: AuthorizationPolicy\nmetadata: {namespace: shop\n"];

fn edit() -> impl Strategy<Value = Edit> {
    let object = || 0..OBJECTS;
    prop_oneof![
        20 => (object(), 0_usize..9, prop::bool::weighted(0.1))
            .prop_map(|(object, version, elsewhere)| Edit::Put { object, version, elsewhere }),
        1 => (object(), 0_usize..9).prop_map(|(object, version)| Edit::Repeat { object, version }),
        4 => object().prop_map(|object| Edit::Remove { object }),
        2 => (0..FILES).prop_map(|file| Edit::Move { file }),
        1 => (0..FILES, 0..BREAKS.len()).prop_map(|(file, how)| Edit::Break { file, how }),
        1 => (0..FILES).prop_map(|file| Edit::RemoveFile { file }),
    ]
}

/// Files in the making.
#[derive(Debug, Clone, Default)]
struct Directory {
    objects: BTreeMap<(usize, usize), usize>,
    above: [usize; FILES],
    broken: [usize; FILES],
    texts: BTreeMap<PathBuf, FileText>,
}

impl Directory {
    fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Put { object, version, elsewhere } => {
                let (file, other) = homes(object);
                let (file, other) = if elsewhere { (other, file) } else { (file, other) };
                self.objects.remove(&(other, object));
                self.objects.insert((file, object), version);
            }
            Edit::Repeat { object, version } => {
                let (file, other) = homes(object);
                self.objects.insert((file, object), version);
                self.objects.insert((other, object), version / 2);
            }
            Edit::Remove { object } => self.objects.retain(|(_, other), _| *other != object),
            Edit::Move { file } => self.above[file] += 1,
            Edit::Break { file, how } => self.broken[file] = how,
            Edit::RemoveFile { file } => {
                self.objects.retain(|(other, _), _| *other != file);
                self.broken[file] = 0;
            }
        }
        for file in 0..FILES {
            let objects = self.objects.iter().filter(|((of, _), _)| *of == file);
            let texts: String = objects.map(|((_, object), version)| text_of(*object, *version)).collect();
            let text =
                format!("{}{texts}{}", "# moved\n".repeat(self.above[file]), BREAKS[self.broken[file]]);
            let path = PathBuf::from(format!("{file}.yaml"));
            if text.is_empty() {
                self.texts.remove(&path);
            } else if self.texts.get(&path) != Some(&FileText::from(text.as_str())) {
                self.texts.insert(path, FileText::from(text.as_str()));
            }
        }
    }
}

/// The file of an object, and the one it may move to. Every object that is often edited has a file with one other.
fn homes(object: usize) -> (usize, usize) {
    (object % FILES, (object + 1) % FILES)
}

/// Whether the last files were taken in as edits: what everything is linked to stays the same then.
fn mark(store: &mut Store) {
    if let Some(linked) = &mut store.linked {
        linked.repeated.1.insert(PathBuf::from(MARK));
    }
}

fn is_marked(store: &Store) -> bool {
    store.linked.as_ref().is_some_and(|linked| linked.repeated.1.contains(Path::new(MARK)))
}

const MARK: &str = "a mark of this test";

thread_local! {
    static TAKEN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Makes edits, and compares after each with a store that knows nothing but what was in force.
fn compare(options: &Options, edits: &[Edit]) -> Result<(), TestCaseError> {
    let mut directory = Directory::default();
    for object in (0..OBJECTS).filter(|object| *object != UNEVALUATED) {
        directory.edit(&Edit::Put { object, version: 0, elsewhere: false });
    }
    let mut store = Store::new(options.clone());
    let mut before = store.apply(&directory.texts);
    for edit in edits {
        directory.edit(edit);
        mark(&mut store);
        let now = store.apply(&directory.texts);
        let other = Store::resume(options.clone(), Arc::clone(&before.mesh), before.basis.clone())
            .apply(&directory.texts);
        TAKEN.with(|taken| {
            let (parts, all) = taken.get();
            taken.set((parts + usize::from(is_marked(&store)), all + 1));
        });
        let told = |outcome: &Outcome| {
            outcome
                .findings
                .iter()
                .map(|finding| format!("{finding} {:?}", finding.excerpt))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(told(&now), told(&other), "findings after {:?}", edit);
        prop_assert_eq!(&*now.mesh, &*other.mesh, "mesh after {:?}", edit);
        prop_assert_eq!(&now.changes, &other.changes, "changes after {:?}", edit);
        prop_assert_eq!(&now.standings, &other.standings, "standings after {:?}", edit);
        prop_assert_eq!(&now.basis, &other.basis, "basis after {:?}", edit);
        prop_assert_eq!(&now.rejected, &other.rejected);
        prop_assert_eq!((now.files, now.objects, now.accepted), (other.files, other.objects, other.accepted));
        before = now;
    }
    Ok(())
}

fn options() -> Options {
    let node = crate::name::NodeName::try_from("one").ok();
    Options { node, node_addresses: vec![[10, 7, 0, 9].into()], ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn edits_one_after_the_other_give_what_everything_at_once_gives(
        edits in prop::collection::vec(edit(), 1..14)
    ) {
        compare(&options(), &edits)?;
    }

    #[test]
    fn the_same_holds_where_there_is_hardly_room_for_the_objects(
        edits in prop::collection::vec(edit(), 1..14), more in 0_usize..3
    ) {
        let limits = Limits { objects: 19 + more, ..Limits::default() };
        compare(&Options { limits, ..options() }, &edits)?;
    }
}

#[test]
fn most_edits_are_made_in_what_there_is() {
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::with_cases(40),
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let edits = prop::collection::vec(edit(), 1..14);
    runner.run(&edits, |edits| compare(&options(), &edits)).unwrap();
    let (parts, all) = TAKEN.with(Cell::get);
    assert!(2 * parts > all, "{parts} of {all}");
}

/// What an edit decides about others than its object, each in as few edits as it takes.
#[test]
fn edits_that_concern_more_than_their_object_are_made_so() {
    let put = |object, version| Edit::Put { object, version, elsewhere: false };
    let remove = |object| Edit::Remove { object };
    let [tenant, p, r, h, t, u] = [2, 4, 6, 7, 9, 10];
    let [slice_of_u, another_slice, policy] = [13, 32, 35];
    for (what, edits) in [
        ("a budget has no room", vec![remove(policy), put(tenant, 2), put(policy, 0)]),
        ("an address is a node's no more", vec![put(31, 2), put(34, 1), remove(31), put(another_slice, 4)]),
        ("the last version's address is a node's no more", vec![remove(r), put(h, 1), put(slice_of_u, 2)]),
        ("a node has the address of a Service", vec![remove(u), put(p, 5), put(u, 0), put(p, 0), put(u, 1)]),
        ("a slice is refused, of whichever Service", vec![remove(another_slice), put(another_slice, 2)]),
        ("policies of others, and the last pod", vec![put(UNEVALUATED, 0), remove(r), remove(31)]),
        (
            "a Service in force comes first",
            vec![remove(another_slice), remove(t), put(t, 1), put(another_slice, 3)],
        ),
        ("slices lose their Service and get it back", vec![remove(t), put(t, 0)]),
        ("what stands in names a Service", vec![remove(policy), put(policy, 2), put(h, 0), remove(34)]),
        ("a namespace has another first object", vec![remove(25), put(25, 0)]),
    ] {
        compare(&options(), &edits).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
