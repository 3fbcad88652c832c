//! Tables of gRPC calls at random: among those a name counts before a regular expression, part by part, and not a path by its kind.

use config::model::{RpcMatch, ValueMatch};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    coarse::Coarse,
    random::{HEADERS, STEPS, VALUES, compare, conditions},
    *,
};
use crate::snapshot::routes::{PartRank, RpcRank};

/// Few, one of which begins with another, so that calls meet.
const SERVICES: [&str; 4] = ["a.B", "a.Bc", "a", "x.Y.Z"];
const SERVICE_PATTERNS: [&str; 5] = ["a.*", "a[.]B", ".+", "a|x[.]Y[.]Z", "(?i)A.b"];
const METHODS: [&str; 3] = ["M", "Mn", "N"];
const METHOD_PATTERNS: [&str; 4] = ["M.*", "M|N", ".*", "[A-Z]"];

fn part(names: &'static [&str], patterns: &'static [&str]) -> impl Strategy<Value = Option<ValueMatch>> {
    prop_oneof![
        3 => select(names).prop_map(|name| Some(ValueMatch::Exact(name.to_owned()))),
        2 => select(patterns).prop_map(|pattern| Some(ValueMatch::Regex(pattern.to_owned()))),
        1 => Just(None),
    ]
}

/// As the compiler makes it: names alone are a path, or its first element.
fn matcher((service, method): (Option<ValueMatch>, Option<ValueMatch>)) -> Matcher {
    let rank = |part: &Option<ValueMatch>| match part {
        Some(ValueMatch::Exact(name)) => PartRank::name(name),
        Some(ValueMatch::Regex(pattern)) => PartRank::regex(pattern),
        None => PartRank::Any,
    };
    let rpc = Some(RpcRank(rank(&service), rank(&method)));
    let path = match (&service, &method) {
        (None, None) => return prefix(""),
        (Some(ValueMatch::Exact(service)), Some(ValueMatch::Exact(method))) => {
            PathMatcher::Exact(format!("/{service}/{method}"))
        }
        (Some(ValueMatch::Exact(service)), None) => PathMatcher::Prefix(format!("/{service}")),
        _ => PathMatcher::Regex(anchored(&RpcMatch { service, method }.pattern())),
    };
    Matcher { rpc, ..of(path) }
}

fn entry() -> impl Strategy<Value = Entry> {
    let call = (part(&SERVICES, &SERVICE_PATTERNS), part(&METHODS, &METHOD_PATTERNS)).prop_map(matcher);
    let route = select(&["r0", "r1", "r2"][..]);
    (call, conditions(&HEADERS), 0..2_i64, route).prop_map(|(call, headers, created, route)| {
        let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect();
        let mut rule = rule(&[]);
        rule.route.name = route.try_into().unwrap();
        Entry { matcher: Arc::new(Matcher { headers, ..call }), rule: Arc::new(rule), created, position: 0 }
    })
}

fn asked() -> impl Strategy<Value = Parts> {
    let path = (select(&SERVICES[..]), select(&METHODS[..]));
    let path = prop_oneof![8 => path.prop_map(|(service, method)| format!("/{service}/{method}")), 1 => Just("/a.B".to_owned())];
    let name = prop_oneof![2 => select(&HEADERS[..2]), 1 => select(&**HEADERS)];
    (path, vec((name, select(&VALUES[..])), 0..4)).prop_map(|(path, headers)| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        request("POST", &path, &headers)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn of_calls_the_index_finds_what_a_walk_over_all_entries_finds(
        entries in vec((entry(), 0..STEPS, 0..STEPS), 0..40),
        requests in vec(asked(), 1..20),
    ) {
        let number = |((entry, from, to), position)| (Entry { position, ..entry }, from, to);
        let entries: Vec<_> = entries.into_iter().zip(0..).map(number).collect();
        compare::<std::hash::RandomState>(&entries, &requests);
        compare::<Coarse>(&entries, &requests);
    }
}
