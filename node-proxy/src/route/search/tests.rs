//! The index against a walk over all entries, at random; and how many entries are asked where there are many.

use std::{hash::BuildHasher, sync::Arc};

use http::{HeaderName, Method};
use regex::Regex;

use super::*;
use crate::{
    route::tests::{request, rule},
    snapshot::routes::{Change, CompiledRule, ValueMatcher},
};

mod calls;
mod coarse;
mod many;
mod random;

/// What the index stands for: all entries in order of precedence, and the first of them that matches.
fn walk<'a>(entries: &[&'a Entry], request: &Parts) -> Option<Found<'a>> {
    let mut entries = entries.to_vec();
    entries.sort_by(|one, other| one.precedence(other));
    let matching = |entry| Some(Found { entry, prefix: matching::compare(&entry.matcher, request).ok()? });
    entries.into_iter().find_map(matching)
}

/// What is told of a find: which entry, and how long its prefix is.
fn told(found: Option<Found<'_>>) -> Option<(u32, usize)> {
    found.map(|found| (found.entry.position, found.prefix))
}

/// The find, and how many matchers were asked.
fn ask<'a, S: BuildHasher + Clone>(index: &'a Index<S>, request: &Parts) -> (Option<Found<'a>>, usize) {
    let mut asked = 0;
    let found = first(index, request, |matcher| {
        asked += 1;
        matching::compare(matcher, request).ok()
    });
    (found, asked)
}

/// Entries of these matchers, all of one route, in this order.
fn entries(matchers: impl IntoIterator<Item = Matcher>) -> Vec<Entry> {
    let rule: Arc<CompiledRule> = Arc::new(rule(&[]));
    let entry = |(matcher, position)| {
        let (matcher, rule) = (Arc::new(matcher), Arc::clone(&rule));
        Entry { matcher, rule, created: 0, position }
    };
    matchers.into_iter().zip(0..).map(entry).collect()
}

fn index(matchers: impl IntoIterator<Item = Matcher>) -> Index {
    Index::default().changed(Change::of_new(entries(matchers)))
}

fn exact(path: &str) -> Matcher {
    of(PathMatcher::Exact(path.into()))
}

fn prefix(path: &str) -> Matcher {
    of(PathMatcher::Prefix(path.into()))
}

fn regex(pattern: &str) -> Matcher {
    of(PathMatcher::Regex(anchored(pattern)))
}

fn of(path: PathMatcher) -> Matcher {
    Matcher { path, rpc: None, method: None, headers: Vec::new(), query: Vec::new() }
}

fn anchored(pattern: &str) -> Regex {
    Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap()
}

fn header(name: &str, value: &str) -> (HeaderName, ValueMatcher) {
    (name.parse().unwrap(), ValueMatcher::Exact(value.into()))
}

fn parameter(name: &str, value: &str) -> (String, ValueMatcher) {
    (name.into(), ValueMatcher::Exact(value.into()))
}

fn get(uri: &str) -> Parts {
    request("GET", uri, &[])
}
