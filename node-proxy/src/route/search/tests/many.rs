//! Tables of many entries: few of them are asked, and no more of a path is read than any of them could want.

use std::{
    cell::Cell,
    hash::{DefaultHasher, Hasher},
};

use super::*;
use crate::sys::arena::own_net;

const MANY: usize = 10_000;

/// A usual shape: its name, its entries by number, and a request that the last of them is for.
type Shape = (&'static str, Box<dyn Fn(usize) -> Matcher>, Parts);

fn shapes() -> [Shape; 9] {
    let of_header = |name: &str, value: &str| Matcher { headers: vec![header(name, value)], ..prefix("") };
    let of_user = |user: usize| Matcher { query: vec![parameter("user", &user.to_string())], ..prefix("/a") };
    let both = |user: usize| Matcher {
        method: Some(Method::GET),
        headers: vec![header("x-env", "prod"), header("x-user", &user.to_string())],
        ..prefix("/a")
    };
    let post = |number: usize| Matcher { method: Some(Method::POST), ..exact(&format!("/{number}")) };
    let last = MANY - 1;
    let user = last.to_string();
    let get_with = |headers: &[(&str, &str)]| request("GET", "/a/b", headers);
    [
        ("exact", Box::new(|number| exact(&format!("/a/{number}"))), get(&format!("/a/{last}"))),
        ("prefix", Box::new(|number| prefix(&format!("/a/{number}"))), get(&format!("/a/{last}/b/c?d=e"))),
        (
            "header's value",
            Box::new(move |number| of_header("x-user", &number.to_string())),
            get_with(&[("x-user", &user)]),
        ),
        (
            "header's name",
            Box::new(move |number| of_header(&format!("x-{number}"), "1")),
            get_with(&[(&format!("x-{last}"), "1"), ("x", "y")]),
        ),
        ("query", Box::new(of_user), get(&format!("/a/b?user={last}&user=1"))),
        ("several conditions", Box::new(both), get_with(&[("x-user", &user), ("x-env", "prod")])),
        ("regex", Box::new(|number| regex(&format!("/{number}/[a-z]+"))), get(&format!("/{last}/b"))),
        ("the same again and again", Box::new(|_| prefix("/a")), get("/a/b")),
        ("method", Box::new(post), request("POST", &format!("/{last}"), &[])),
    ]
}

#[test]
fn of_many_entries_of_any_usual_shape_few_are_asked() {
    for (name, matcher, request) in shapes() {
        let index = index((0..MANY).map(matcher));
        let (found, asked) = ask(&index, &request);
        assert!(found.is_some(), "{name}");
        assert!(asked <= 2, "{name}: {asked} are asked");
        let (found, asked) = ask(&index, &get("/elsewhere"));
        assert!(found.is_none(), "{name}");
        assert!(asked <= 1, "{name}, no match: {asked} are asked");
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().unwrap();
    let lines = [("x-user", "1"), ("x-user", "2"), ("x-env", "prod"), ("a", "b")];
    for (name, matcher, usual) in shapes() {
        let index = index((0..100).map(matcher));
        let coded = request("GET", "/a/b%20c//d?user=%31&us%65r=2&a=b", &lines);
        for request in [&usual, &coded, &get("*")] {
            // A regular expression's own memory is made when it is first asked.
            ask(&index, request);
            let before = allocated.get();
            ask(&index, request);
            assert_eq!(allocated.get(), before, "{name}: {request:?}");
        }
    }
}

#[test]
fn an_entry_costs_less_than_a_hundred_bytes_of_the_index() {
    for (name, matcher, _) in shapes() {
        let entries = entries((0..MANY).map(matcher));
        let before = own_net();
        let index = Index::<std::hash::RandomState>::default().changed(Change::of_new(entries.clone()));
        let each = (own_net() - before) as f64 / MANY as f64;
        assert_eq!(index.entries().len(), MANY);
        assert!((1.0..100.0).contains(&each), "{name}: {each} bytes");
    }
}

#[test]
fn an_entry_is_filed_by_what_few_others_ask_for_in_whatever_order_they_come() {
    let matcher = |number: usize| Matcher {
        headers: vec![header("x-env", "prod"), header("x-user", &number.to_string())],
        ..prefix("/a")
    };
    let mut index: Index = Index::default();
    for entry in entries((0..200).map(matcher)) {
        index = index.changed(Change::of_new(vec![entry]));
    }
    let (found, asked) = ask(&index, &request("GET", "/a", &[("x-env", "prod"), ("x-user", "7")]));
    assert_eq!(told(found), Some((7, 2)));
    assert!(asked <= 2, "{asked} are asked");
}

#[test]
fn of_many_prefixes_inside_each_other_the_longest_that_matches_counts() {
    let nested = |depth: usize| {
        let headers = if depth > 3 { vec![header("x-depth", &depth.to_string())] } else { Vec::new() };
        Matcher { headers, ..prefix(&"/a".repeat(depth)) }
    };
    let index = index((0..60).map(nested));
    for depth in [60, 59, 44, 43, 30, 4, 3, 1] {
        let asked = request("GET", &"/a".repeat(60), &[("x-depth", &depth.to_string())]);
        let expected = if (4..60).contains(&depth) { depth } else { 3 };
        assert_eq!(told(ask(&index, &asked).0), Some((expected, 2 * expected as usize)), "{depth}");
    }
}

#[test]
fn a_renewed_entry_has_another_rule_in_the_same_place_and_goes_as_it_came() {
    let of_user = |user: usize| Matcher { headers: vec![header("x-user", &user.to_string())], ..exact("/a") };
    let before = entries((0..200).map(of_user));
    let rule = Arc::new(rule(&[]));
    let other = |entry: &Entry| Entry { rule: Arc::clone(&rule), ..entry.clone() };
    let renewed: Vec<Entry> = before.iter().map(other).collect();
    let index = Index::<std::hash::RandomState>::default().changed(Change::of_new(before));
    let index = index.changed(Change { renewed: renewed[50..100].to_vec(), ..Change::default() });
    assert_eq!(index.entries().len(), 200);
    for (user, is_renewed) in [(49, false), (50, true), (99, true), (100, false)] {
        let (found, asked) = ask(&index, &request("GET", "/a", &[("x-user", &user.to_string())]));
        let found = found.unwrap();
        assert_eq!((found.entry.position, asked), (user, 1));
        assert_eq!(Arc::ptr_eq(&found.entry.rule, &rule), is_renewed, "{user}");
    }
    let none = index.changed(Change { gone: renewed, ..Change::default() });
    assert!(none.entries().is_empty() && none.exact("/a").is_none());
}

#[test]
fn a_host_that_only_the_target_says_is_found_among_conditions_on_many_other_headers() {
    let of_header = |name: &str| Matcher { headers: vec![header(name, "cart")], ..prefix("") };
    let names = (0..500).map(|number| format!("x-{number}")).chain(["host".to_owned()]);
    let index = index(names.map(|name| of_header(&name)));
    let (found, asked) = ask(&index, &get("http://cart/a"));
    assert_eq!(told(found), Some((500, 0)));
    assert!(asked <= 2, "{asked} are asked");
    assert!(ask(&index, &get("http://elsewhere/a")).0.is_none());
}

#[test]
fn a_hundred_thousand_entries_of_a_hostile_table_are_told_apart() {
    let deep = "/a".repeat(500);
    let matcher = |number: usize| match number % 4 {
        0 => prefix(&deep[..2 * (1 + number / 4 % 500)]),
        1 => Matcher { headers: vec![header(&format!("x-{number}"), "")], ..prefix("") },
        2 => exact(&format!("{deep}/{number}")),
        _ => Matcher { query: vec![parameter("q", &number.to_string())], ..prefix("/a/a") },
    };
    let index = index((0..100_000).map(matcher));
    for path in [deep.clone(), format!("{deep}/x?q=7"), format!("{deep}/99998")] {
        let (found, asked) = ask(&index, &get(&path));
        assert!(found.is_some());
        assert_eq!(asked, 1, "{path}");
    }
    let (found, asked) = ask(&index, &request("GET", "/b", &[("x-99997", "")]));
    assert_eq!((told(found), asked), (Some((99_997, 0)), 1));
}

thread_local!(static HASHED: Cell<usize> = const { Cell::new(0) });

/// Counts the bytes that are hashed by this thread.
#[derive(Debug, Clone, Default)]
struct Counting;

#[derive(Debug, Default)]
struct CountingHasher(DefaultHasher);

impl BuildHasher for Counting {
    type Hasher = CountingHasher;
    fn build_hasher(&self) -> CountingHasher {
        CountingHasher::default()
    }
}

impl Hasher for CountingHasher {
    fn write(&mut self, bytes: &[u8]) {
        HASHED.set(HASHED.get() + bytes.len());
        self.0.write(bytes);
    }
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[test]
fn no_more_of_a_path_is_read_than_the_longest_path_of_the_table_has() {
    let matchers = [prefix("/a/a/a"), prefix("/aa/a"), exact("/a/a/a/b"), regex("/a/a/[0-9]+")];
    let (deep, before) =
        (entries([prefix(&"/a".repeat(500)), prefix(&"/b".repeat(500))]), Index::<Counting>::default());
    // What is gone is not read for, either.
    let before = before.changed(Change::of_new(deep.clone()));
    let index = before.changed(Change { gone: deep, ..Change::of_new(entries(matchers)) });
    let long = "x".repeat(60_000);
    for (name, path, found) in [
        ("many elements", "/a".repeat(30_000), true),
        ("a long element", format!("/{long}"), false),
        ("a long element below", format!("/a/a/{long}"), false),
        ("empty elements", "/".repeat(60_000), false),
    ] {
        let request = get(&path);
        HASHED.set(0);
        let outcome = first(&index, &request, |matcher| matching::compare(matcher, &request).ok());
        assert_eq!(outcome.is_some(), found, "{name}");
        assert!(HASHED.get() <= 32, "{name}: {} bytes are hashed", HASHED.get());
    }
}
