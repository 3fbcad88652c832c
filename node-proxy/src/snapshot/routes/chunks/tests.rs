//! What a change shares with what was there before, and that chunks stay of a useful size.

use config::name::{RouteKind, RouteName};

use super::*;
use crate::snapshot::routes::{CompiledRule, Edits, Matcher, PathMatcher};

/// Of this key, and of so many others the only one.
fn filed(key: u64, position: u32) -> Filed {
    let path = PathMatcher::Prefix(String::new());
    let matcher = Matcher { path, rpc: None, method: None, headers: Vec::new(), query: Vec::new() };
    let rule = CompiledRule {
        route: RouteName::new(RouteKind::Http, "shop".try_into().unwrap(), "r".try_into().unwrap()),
        name: "0".into(),
        edits: Edits::default(),
        redirect: None,
        mirrors: Vec::new(),
        backends: Vec::new(),
        total_weight: 0,
        request_timeout: None,
        backend_timeout: None,
    };
    let entry = Entry { matcher: Arc::new(matcher), rule: Arc::new(rule), created: 0, position };
    Filed { key: Key { place: key, sign: 0, mark: 0 }, by: By::Nothing, entry }
}

fn positions<'a>(filed: impl Iterator<Item = &'a Filed>) -> Vec<u32> {
    filed.map(|filed| filed.entry.position).collect()
}

fn many(keys: impl Iterator<Item = u64>) -> Chunks {
    Chunks::default().changed(&[], keys.zip(0..).map(|(key, position)| filed(key, position)).collect())
}

#[test]
fn one_more_or_one_less_leaves_all_chunks_but_one_where_they_are() {
    let before = many((0..10_000).map(|key| 2 * key));
    let more = before.changed(&[], vec![filed(5_001, 10_000)]);
    let less = more.changed(&[filed(5_001, 10_000)], Vec::new());
    for (old, new, count) in [(&before, &more, 10_001), (&more, &less, 10_000)] {
        let shared = old.0.iter().filter(|old| new.0.iter().any(|new| Arc::ptr_eq(&old.filed, &new.filed)));
        assert_eq!(shared.count(), old.0.len() - 1);
        assert_eq!(new.iter().count(), count);
    }
    assert_eq!(positions(less.iter()), positions(before.iter()));
}

#[test]
fn what_is_of_one_key_is_found_whole_and_in_order_over_however_many_chunks_it_is_spread() {
    let keys = [vec![1; 10], vec![2; 1_000], vec![3; 10]].concat();
    let chunks = many(keys.into_iter());
    let of = |key: u64| {
        let run = chunks.from(Key::first(key)).take_while(|filed| filed.key.place == key);
        positions(run)
    };
    assert_eq!(of(1), (0..10).collect::<Vec<_>>());
    assert_eq!(of(2), (10..1_010).collect::<Vec<_>>());
    assert_eq!(of(3), (1_010..1_020).collect::<Vec<_>>());
    assert_eq!(of(4), [] as [u32; 0]);
    let fewer = chunks.changed(&[filed(2, 500)], Vec::new());
    assert!(chunks.has(&filed(2, 500)) && !fewer.has(&filed(2, 500)) && fewer.has(&filed(2, 501)));
}

#[test]
fn chunks_are_neither_large_nor_many_whatever_comes_and_goes() {
    let mut chunks = Chunks::default();
    let key = |number: u32| u64::from(number.wrapping_mul(2_654_435_761));
    let check = |chunks: &Chunks, count: usize| {
        assert_eq!(chunks.iter().count(), count);
        assert!(chunks.0.iter().all(|chunk| (1..=FULL).contains(&chunk.filed.len())));
        assert!(chunks.0.iter().all(|chunk| chunk.key == chunk.filed[0].key));
        assert!(chunks.0.len() <= count / 8 + 1, "{} for {count}", chunks.0.len());
        assert!(chunks.iter().is_sorted_by(|one, other| one.order(other).is_lt()));
    };
    for number in 0..2_000 {
        chunks = chunks.changed(&[], vec![filed(key(number), number)]);
    }
    check(&chunks, 2_000);
    for number in 0..1_900 {
        chunks = chunks.changed(&[filed(key(number), number)], Vec::new());
    }
    check(&chunks, 100);
    for number in 1_900..2_000 {
        chunks = chunks.changed(&[filed(key(number), number)], Vec::new());
    }
    check(&chunks, 0);
}
