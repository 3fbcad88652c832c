//! Matching, choice, redirects and edits, by tables.

use config::{
    model::{AppProtocol, PathEdit, Redirect, Rewrite},
    name::{RouteKind, RouteName, ServiceName},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use regex::Regex;

use super::*;
use crate::snapshot::routes::{Change, Entry, HeaderChange, Matcher, PathMatcher, ValueMatcher};

pub(super) fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let builder = Request::builder().method(method).uri(uri);
    headers
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn get(uri: &str) -> Parts {
    request("GET", uri, &[])
}

fn cluster(name: &str) -> Arc<Cluster> {
    let service = ServiceName::new("shop".try_into().unwrap(), name.try_into().unwrap());
    Arc::new(Cluster::new(service, 80, AppProtocol::Http1, Vec::new().into()))
}

pub(super) fn rule(shares: &[(u32, Option<&str>)]) -> CompiledRule {
    let mut total_weight = 0;
    let backends = shares.iter().map(|(weight, name)| {
        total_weight += weight;
        CompiledBackend {
            cumulative_weight: total_weight,
            cluster: name.map(cluster),
            edits: Edits::default(),
            mirrors: Vec::new(),
        }
    });
    CompiledRule {
        backends: backends.collect(),
        total_weight,
        route: RouteName::new(RouteKind::Http, "shop".try_into().unwrap(), "r".try_into().unwrap()),
        name: "0".into(),
        edits: Edits::default(),
        redirect: None,
        mirrors: Vec::new(),
        request_timeout: None,
        backend_timeout: None,
    }
}

fn everything() -> Matcher {
    Matcher {
        path: PathMatcher::Prefix(String::new()),
        rpc: None,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn table(entries: Vec<(Matcher, CompiledRule)>) -> RouteTable {
    let entry = |((matcher, rule), position)| {
        let (matcher, rule) = (Arc::new(matcher), Arc::new(rule));
        Entry { matcher, rule, created: 0, position }
    };
    RouteTable::closed(8080).changed(Change::of_new(entries.into_iter().zip(0..).map(entry).collect()))
}

fn never(_: u32) -> u32 {
    panic!("there is nothing to choose")
}

/// Where it goes, in one word.
fn outcome(table: &RouteTable, request: &Parts, chance: impl FnOnce(u32) -> u32) -> String {
    match decide(table, request, chance) {
        Decision::Forward(forward) => forward.cluster.service.name.to_string(),
        Decision::Redirect { status, location, .. } => {
            format!("{} {}", status.as_u16(), location.to_str().unwrap())
        }
        Decision::NoRoute => "404".into(),
        Decision::InvalidBackend { .. } => "500".into(),
    }
}

#[test]
fn without_routes_everything_goes_to_the_service() {
    let table = RouteTable::open(&cluster("cart"));
    assert_eq!(outcome(&table, &get("/any?thing"), never), "cart");
}

#[test]
fn the_first_entry_that_matches_decides_and_none_is_a_404() {
    let only = |path: &str| Matcher { path: PathMatcher::Exact(path.into()), ..everything() };
    let table = table(vec![(only("/a"), rule(&[(1, Some("one"))])), (only("/b"), rule(&[(1, Some("two"))]))]);
    for (path, expected) in [("/a", "one"), ("/b", "two"), ("/c", "404"), ("/a/", "404"), ("/A", "404")] {
        assert_eq!(outcome(&table, &get(path), never), expected, "{path}");
    }
}

#[test]
fn paths_match_by_elements_exactly_or_as_a_whole() {
    let prefix = |path: &str| PathMatcher::Prefix(path.into());
    let regex = |pattern: &str| PathMatcher::Regex(Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap());
    let cases: [(&str, PathMatcher, &str, Option<usize>); 12] = [
        ("itself", prefix("/a"), "/a", Some(2)),
        ("below", prefix("/a"), "/a/b", Some(2)),
        ("slash", prefix("/a"), "/a/", Some(2)),
        ("part of an element", prefix("/a"), "/ab", None),
        ("query is no path", prefix("/a"), "/a?b", Some(2)),
        ("query is no path, exact", PathMatcher::Exact("/a".into()), "/a?b", Some(0)),
        ("everything", prefix(""), "/x", Some(0)),
        ("not decoded", PathMatcher::Exact("/a b".into()), "/a%20b", None),
        ("regex", regex("/v[12]/.*"), "/v1/x", Some(0)),
        ("regex from the start", regex("v1"), "/v1", None),
        ("regex to the end", regex("/v1"), "/v1/", None),
        ("every alternative of a regex", regex("/a|/b"), "/bc", None),
    ];
    for (name, path, uri, expected) in cases {
        assert_eq!(compare(&Matcher { path, ..everything() }, &get(uri)).ok(), expected, "{name}");
    }
    let star = request("OPTIONS", "*", &[]);
    assert_eq!(compare(&everything(), &star).ok(), Some(0), "the asterisk form");
}

#[test]
fn methods_headers_and_query_must_all_match() {
    let exact = |text: &str| ValueMatcher::Exact(text.into());
    let regex = |pattern: &str| ValueMatcher::Regex(Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap());
    let header = |value| Matcher { headers: vec![(HeaderName::from_static("x-a"), value)], ..everything() };
    let query = |name: &str, value| Matcher { query: vec![(name.to_owned(), value)], ..everything() };
    let host = |value| Matcher { headers: vec![(header::HOST, value)], ..everything() };
    let method = |method| Matcher { method: Some(method), ..everything() };
    let cases: [(&str, Matcher, Parts, bool); 22] = [
        ("method", method(Method::GET), get("/"), true),
        ("other method", method(Method::POST), get("/"), false),
        ("header", header(exact("1")), request("GET", "/", &[("X-A", "1")]), true),
        ("header value is case sensitive", header(exact("a")), request("GET", "/", &[("x-a", "A")]), false),
        ("header missing", header(exact("")), get("/"), false),
        ("header empty", header(exact("")), request("GET", "/", &[("x-a", "")]), true),
        (
            "header lines",
            header(exact("1,2,3")),
            request("GET", "/", &[("x-a", "1"), ("x-a", "2"), ("x-a", "3")]),
            true,
        ),
        ("one of the lines", header(exact("1")), request("GET", "/", &[("x-a", "1"), ("x-a", "2")]), false),
        ("header regex", header(regex("v[0-9]+")), request("GET", "/", &[("x-a", "v12")]), true),
        ("header regex, whole", header(regex("v[0-9]+")), request("GET", "/", &[("x-a", "v12b")]), false),
        ("host of HTTP/1", host(exact("cart")), request("GET", "/", &[("host", "cart")]), true),
        ("host of HTTP/2", host(exact("cart")), get("http://cart/"), true),
        ("query", query("q", exact("1")), get("/?a=2&q=1"), true),
        ("query missing", query("q", exact("1")), get("/"), false),
        ("query is case sensitive", query("q", exact("1")), get("/?Q=1"), false),
        ("first of a name counts", query("q", exact("2")), get("/?q=1&q=2"), false),
        ("query without value", query("q", exact("")), get("/?q"), true),
        ("value decoded", query("q", exact("a b&c")), get("/?q=a%20b%26c"), true),
        ("name decoded", query("a b", exact("1")), get("/?a%20b=1"), true),
        ("regex on what was decoded", query("q", regex("a b")), get("/?q=a%20b"), true),
        ("no regex on what is no text", query("q", regex(".*")), get("/?q=%ff"), false),
        ("value with an equals sign", query("q", exact("a=b")), get("/?q=a=b"), true),
    ];
    for (name, matcher, request, expected) in cases {
        assert_eq!(compare(&matcher, &request).is_ok(), expected, "{name}");
    }
    let both = Matcher { method: Some(Method::GET), ..header(exact("1")) };
    assert!(compare(&both, &get("/")).is_err(), "one of two is not enough");
}

#[test]
fn backends_get_their_share_of_the_tickets() {
    let table = table(vec![(everything(), rule(&[(3, Some("one")), (2, None), (5, Some("two"))]))]);
    let drawn: Vec<_> = (0..10)
        .map(|ticket| {
            outcome(&table, &get("/"), |count| {
                assert_eq!(count, 10);
                ticket
            })
        })
        .collect();
    assert_eq!(drawn, ["one", "one", "one", "500", "500", "two", "two", "two", "two", "two"]);
}

#[test]
fn a_rule_that_leaves_nothing_to_choose_is_answered_500() {
    for (name, shares) in [
        ("no backend", &[][..]),
        ("all weights 0", &[(0, Some("a")), (0, Some("b"))]),
        ("invalid", &[(1, None)]),
    ] {
        assert_eq!(outcome(&table(vec![(everything(), rule(shares))]), &get("/"), never), "500", "{name}");
    }
}

#[test]
fn an_only_backend_needs_no_chance_and_brings_its_edits_and_the_prefix() {
    let mut rule = rule(&[(7, Some("one"))]);
    rule.backends[0].edits.request.push(HeaderChange::Remove(HeaderName::from_static("x-a")));
    let matcher = Matcher { path: PathMatcher::Prefix("/a/b".into()), ..everything() };
    let table = table(vec![(matcher, rule)]);
    let Decision::Forward(forward) = decide(&table, &get("/a/b/c"), never) else { panic!() };
    assert_eq!(forward.matched_prefix, 4);
    assert_eq!(forward.backend_edits.unwrap().request.len(), 1);
}

#[test]
fn a_mirror_copies_its_fraction() {
    let mirror = |numerator| CompiledMirror { cluster: cluster("shadow"), numerator, denominator: 100 };
    let mirrored = [mirror(100), mirror(10), mirror(0)];
    let rule = CompiledRule { mirrors: mirrored.into(), ..rule(&[(1, Some("one"))]) };
    let table = table(vec![(everything(), rule)]);
    let Decision::Forward(forward) = decide(&table, &get("/"), never) else { panic!() };
    assert_eq!(mirrors(&forward, |_| 9).count(), 2);
    assert_eq!(mirrors(&forward, |_| 10).count(), 1);
    assert_eq!(mirrors(&forward, |_| 0).count(), 2);
}

#[test]
fn a_backend_s_mirrors_copy_what_that_backend_gets_besides_the_rule_s() {
    let mirror = |name| CompiledMirror { cluster: cluster(name), numerator: 1, denominator: 1 };
    let mut rule =
        CompiledRule { mirrors: vec![mirror("all")], ..rule(&[(1, Some("one")), (1, Some("two"))]) };
    rule.backends[1].mirrors.push(mirror("second"));
    let table = table(vec![(everything(), rule)]);
    let copied_to = |ticket| {
        let Decision::Forward(forward) = decide(&table, &get("/"), |_| ticket) else { panic!() };
        mirrors(&forward, never).map(|mirror| mirror.cluster.service.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(copied_to(0), ["all"]);
    assert_eq!(copied_to(1), ["all", "second"]);
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 }
}

#[test]
fn redirects_say_where_by_the_specifications_rules() {
    let (https, http) = (|| Some("https".to_owned()), || Some("http".to_owned()));
    let full = |path: &str| Some(PathEdit::Full(path.into()));
    let prefix = |path: &str| Some(PathEdit::Prefix(path.into()));
    let cases: [(&str, Redirect, u16, &str, &str); 13] = [
        ("nothing said", redirect(), 8080, "/a/b?q=1", "302 http://cart:8080/a/b?q=1"),
        ("nothing said, port 80", redirect(), 80, "/a/b", "302 http://cart/a/b"),
        ("status", Redirect { status: 308, ..redirect() }, 80, "/a", "308 http://cart/a"),
        (
            "host",
            Redirect { hostname: Some("example.org".into()), ..redirect() },
            80,
            "/a",
            "302 http://example.org/a",
        ),
        ("scheme", Redirect { scheme: https(), ..redirect() }, 8080, "/a", "302 https://cart/a"),
        ("scheme again", Redirect { scheme: http(), ..redirect() }, 8080, "/a", "302 http://cart/a"),
        ("port", Redirect { port: Some(8443), ..redirect() }, 80, "/a", "302 http://cart:8443/a"),
        ("port that is implied", Redirect { port: Some(80), ..redirect() }, 8080, "/a", "302 http://cart/a"),
        (
            "https and its port",
            Redirect { scheme: https(), port: Some(443), ..redirect() },
            80,
            "/a",
            "302 https://cart/a",
        ),
        (
            "https and http's",
            Redirect { scheme: https(), port: Some(80), ..redirect() },
            80,
            "/a",
            "302 https://cart:80/a",
        ),
        ("path", Redirect { path: full("/new"), ..redirect() }, 80, "/a/b?q=1", "302 http://cart/new?q=1"),
        (
            "prefix",
            Redirect { path: prefix("/new"), ..redirect() },
            80,
            "/a/b?q=1",
            "302 http://cart/new/b?q=1",
        ),
        ("prefix to root", Redirect { path: prefix("/"), ..redirect() }, 80, "/a", "302 http://cart/"),
    ];
    for (name, redirect, port, uri, expected) in cases {
        let rule = CompiledRule { redirect: Some(redirect), ..rule(&[]) };
        let matcher = Matcher { path: PathMatcher::Prefix("/a".into()), ..everything() };
        let table = RouteTable { port, ..table(vec![(matcher, rule)]) };
        for host in ["cart", "cart:1234"] {
            assert_eq!(
                outcome(&table, &request("GET", uri, &[("host", host)]), never),
                expected,
                "{name}, {host}"
            );
        }
        assert_eq!(outcome(&table, &get(&format!("http://cart:99{uri}")), never), expected, "{name}, HTTP/2");
    }
}

#[test]
fn a_redirect_of_a_request_without_a_usable_host_says_only_the_path() {
    for headers in [&[][..], &[("host", "")], &[("host", "a b")]] {
        let rule = CompiledRule { redirect: Some(redirect()), ..rule(&[]) };
        let table = table(vec![(everything(), rule)]);
        assert_eq!(outcome(&table, &request("GET", "/a?b", headers), never), "302 /a?b", "{headers:?}");
    }
}

#[test]
fn a_prefix_is_replaced_as_in_the_specifications_table() {
    let cases = [
        ("/foo/bar", 4, "/xyz", "/xyz/bar"),
        ("/foo/bar", 4, "/xyz/", "/xyz/bar"),
        ("/foo", 4, "/xyz", "/xyz"),
        ("/foo/", 4, "/xyz", "/xyz/"),
        ("/foo/bar", 4, "", "/bar"),
        ("/foo/", 4, "", "/"),
        ("/foo", 4, "", "/"),
        ("/foo/", 4, "/", "/"),
        ("/foo", 4, "/", "/"),
        ("/foo?q=/foo", 4, "/xyz", "/xyz?q=/foo"),
        ("/foo", 0, "/xyz", "/xyz/foo"),
    ];
    for (path, matched, to, expected) in cases {
        let mut request = get(path);
        let rewrite = Rewrite { hostname: None, path: Some(PathEdit::Prefix(to.into())) };
        edits::apply_request(&Edits { rewrite: Some(rewrite), ..Edits::default() }, &mut request, matched);
        assert_eq!(request.uri.to_string(), expected, "{path} to {to:?}");
    }
}

#[test]
fn a_rewritten_host_is_said_once_and_everywhere() {
    let rewrite = Rewrite { hostname: Some("new.example".into()), path: Some(PathEdit::Full("/n".into())) };
    let edits = Edits { rewrite: Some(rewrite), ..Edits::default() };
    let mut h1 = request("GET", "/a?q", &[("host", "old:80")]);
    edits::apply_request(&edits, &mut h1, 0);
    assert_eq!(
        (h1.uri.to_string(), &h1.headers[header::HOST]),
        ("/n?q".to_owned(), &HeaderValue::from_static("new.example"))
    );
    let mut h2 = get("http://old:80/a");
    h2.version = Version::HTTP_2;
    edits::apply_request(&edits, &mut h2, 0);
    assert_eq!(h2.uri.to_string(), "http://new.example/n");
    assert!(h2.headers.is_empty());

    let set = HeaderChange::Set(header::HOST, HeaderValue::from_static("set.example"));
    let mut absolute = request("GET", "http://old/a", &[("host", "old")]);
    edits::apply_request(&Edits { request: vec![set], ..Edits::default() }, &mut absolute, 0);
    assert_eq!(absolute.uri.host(), Some("set.example"));
    assert_eq!(absolute.headers[header::HOST], "set.example");
}

#[test]
fn headers_are_set_added_and_removed() {
    let (a, b, c) =
        (HeaderName::from_static("a"), HeaderName::from_static("b"), HeaderName::from_static("c"));
    let value = HeaderValue::from_static;
    let changes = || {
        vec![
            HeaderChange::Set(a.clone(), value("new")),
            HeaderChange::Add(b.clone(), value("2")),
            HeaderChange::Remove(c.clone()),
        ]
    };
    let expected: HeaderMap =
        [(&a, "new"), (&b, "1"), (&b, "2")].map(|(name, v)| (name.clone(), value(v))).into_iter().collect();
    let headers = [("a", "old"), ("a", "older"), ("b", "1"), ("c", "gone"), ("c", "gone too")];
    let mut request = request("GET", "/", &headers);
    let edits = Edits { request: changes(), ..Edits::default() };
    edits::apply_request(&edits, &mut request, 0);
    assert_eq!(request.headers, expected);
    let mut response = self::request("GET", "/", &headers).headers;
    edits::apply_response(&edits, &mut response);
    assert_ne!(response, expected, "a request's edits are not its response's");
    edits::apply_response(&Edits { response: changes(), ..Edits::default() }, &mut response);
    assert_eq!(response, expected);
}
