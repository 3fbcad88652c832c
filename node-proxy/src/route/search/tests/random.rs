//! Tables and requests at random: what is found is what a walk over all entries finds, however the table came to be.

use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{coarse::Coarse, *};

/// Few, and within each other, so that paths meet.
const ELEMENTS: [&str; 8] = ["a", "b", "ab", "A", "", "%61", "a.b", "*"];
/// Of whole paths.
const PATTERNS: [&str; 11] = [
    "/a/.*",
    "/a/b",
    "/a/b/?",
    "/(a|b)/a",
    ".*/a",
    "(?i)/a/b.*",
    "/a//.*",
    "/[ab]+/.*",
    "/a/b/[^/]+",
    "",
    r"\*",
];
const METHODS: [&str; 3] = ["GET", "POST", "BREW"];
pub(super) const VALUES: [&str; 6] = ["1", "2", "1,2", "", "a b", "%31"];
/// As values may be written in a query.
const WRITTEN: [&str; 8] = ["1", "2", "%31", "1%2C2", "", "a%20b", "%2531", "%ff"];
/// More than a place is looked through by, and `host`, which is not always a header.
pub(super) static HEADERS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..20).map(|number| format!("x-{number}")).chain(["host".into()]).collect());
static PARAMETERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..20).map(|number| format!("q{number}")).chain(["a b".into(), String::new()]).collect()
});
static PATHS: LazyLock<Vec<Regex>> = LazyLock::new(|| PATTERNS.map(anchored).to_vec());
static TEXTS: LazyLock<Vec<Regex>> = LazyLock::new(|| ["[12]", ".*", "1.*"].map(anchored).to_vec());

fn path() -> impl Strategy<Value = String> {
    let join = |elements: Vec<&str>| format!("/{}", elements.join("/"));
    let deep =
        (0..40_usize, select(&ELEMENTS[..3])).prop_map(|(depth, last)| "/a".repeat(depth) + "/" + last);
    prop_oneof![6 => vec(select(&ELEMENTS[..]), 0..5).prop_map(join), 1 => deep]
}

fn path_matcher() -> impl Strategy<Value = PathMatcher> {
    let prefix = || path().prop_map(|path| PathMatcher::Prefix(path.trim_end_matches('/').to_owned()));
    prop_oneof![
        2 => path().prop_map(PathMatcher::Exact),
        3 => prefix(),
        5 => select(&["", "", "/a"][..]).prop_map(|prefix| PathMatcher::Prefix(prefix.into())),
        2 => select(&**PATHS).prop_map(PathMatcher::Regex),
    ]
}

fn value_matcher() -> impl Strategy<Value = ValueMatcher> {
    prop_oneof![
        4 => select(&VALUES[..]).prop_map(|value| ValueMatcher::Exact(value.into())),
        1 => select(&**TEXTS).prop_map(ValueMatcher::Regex),
    ]
}

/// Often one of the first, so that conditions meet; each name once.
pub(super) fn conditions(names: &'static [String]) -> impl Strategy<Value = Vec<(String, ValueMatcher)>> {
    let name = prop_oneof![select(&names[..2]), select(names)];
    let some = prop_oneof![2 => Just(0..1_usize), 2 => Just(1..2), 1 => Just(2..4)];
    let once = |mut conditions: Vec<(String, ValueMatcher)>| {
        conditions.sort_by(|(one, _), (other, _)| one.cmp(other));
        conditions.dedup_by(|(one, _), (other, _)| one == other);
        conditions
    };
    some.prop_flat_map(move |count| vec((name.clone(), value_matcher()), count)).prop_map(once)
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let method = proptest::option::weighted(0.3, select(&METHODS[..]));
    let all = (path_matcher(), method, conditions(&HEADERS), conditions(&PARAMETERS));
    all.prop_map(|(path, method, headers, query)| Matcher {
        path,
        rpc: None,
        method: method.map(|method| Method::from_bytes(method.as_bytes()).unwrap()),
        headers: headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect(),
        query,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let route = select(&["r0", "r1", "r2"][..]);
    (matcher(), 0..2_i64, route).prop_map(|(matcher, created, route)| {
        let mut rule = rule(&[]);
        rule.route.name = route.try_into().unwrap();
        Entry { matcher: Arc::new(matcher), rule: Arc::new(rule), created, position: 0 }
    })
}

fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        2 => select(&PARAMETERS[..2]),
        2 => select(&PARAMETERS[..20]),
        1 => select(&["a%20b", "", "q%30"][..]).prop_map(String::from),
    ];
    let pair = (name, select(&WRITTEN[..]), select(&["=", ""][..]));
    let pairs = vec(pair.prop_map(|(name, value, equals)| format!("{name}{equals}{value}")), 0..5);
    pairs.prop_map(|pairs| pairs.join("&"))
}

fn asked() -> impl Strategy<Value = Parts> {
    let target = prop_oneof![
        8 => (path(), query(), any::<bool>()).prop_map(|(path, query, is_absolute)| {
            format!("{}{path}?{query}", if is_absolute { "http://1" } else { "" })
        }),
        4 => path(),
        1 => Just("*".to_owned()),
        1 => Just("1:80".to_owned()),
    ];
    let name = prop_oneof![2 => select(&HEADERS[..2]), 3 => select(&**HEADERS)];
    let headers = vec((name, select(&VALUES[..])), 0..5);
    (select(&METHODS[..]), target, headers).prop_map(|(method, target, headers)| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        request(method, &target, &headers)
    })
}

/// Puts all requests to a table that is made step by step. Of each entry: at which step it comes, and at which it goes, if that
/// is a later one.
pub(super) fn compare<S>(entries: &[(Entry, u8, u8)], requests: &[Parts])
where
    S: BuildHasher + Clone + Default,
{
    let some = |is: &dyn Fn(u8, u8) -> bool| -> Vec<Entry> {
        let some = entries.iter().filter(|(_, from, to)| is(*from, *to));
        some.map(|(entry, ..)| entry.clone()).collect()
    };
    let mut index = Index::<S>::default();
    for step in 0..STEPS {
        index = index.changed(Change {
            gone: some(&|from, to| from < to && to == step),
            renewed: some(&|from, to| from < step && (to <= from || step < to) && (from + to) % 2 == 0),
            new: some(&|from, _| from == step),
        });
        let there = some(&|from, to| from <= step && (to <= from || step < to));
        let there: Vec<&Entry> = there.iter().collect();
        assert_eq!(index.entries().len(), there.len());
        for request in requests {
            let expected = told(walk(&there, request));
            assert_eq!(told(ask(&index, request).0), expected, "{request:?} in step {step}: {there:#?}");
        }
    }
}

pub(super) const STEPS: u8 = 3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_index_finds_what_a_walk_over_all_entries_finds(
        entries in vec((entry(), 0..STEPS, 0..STEPS), 0..60),
        requests in vec(asked(), 1..30),
    ) {
        let number = |((entry, from, to), position)| (Entry { position, ..entry }, from, to);
        let entries: Vec<_> = entries.into_iter().zip(0..).map(number).collect();
        compare::<std::hash::RandomState>(&entries, &requests);
        compare::<Coarse>(&entries, &requests);
    }
}
