//! What is different between a map, or a list in the order of its keys, and the one that comes after it.

use std::{cmp::Ordering, collections::BTreeMap};

/// The keys whose values are not the same, or that only one of the two maps has.
pub(super) fn differences<K: Ord + Clone, A, B>(
    old: &BTreeMap<K, A>,
    new: &BTreeMap<K, B>,
    is_same: impl Fn(&A, &B) -> bool,
) -> Vec<K> {
    differing(old.iter(), new.iter(), |before, now| is_same(before, now)).into_iter().cloned().collect()
}

/// The same of lists, both in the order of their keys; a key may come twice. Values that are the same are of one key: what is unchanged
/// costs this one comparison, and no look at its name.
pub(super) fn differing<'a, K: Ord, A, B>(
    old: impl Iterator<Item = (&'a K, A)>,
    new: impl Iterator<Item = (&'a K, B)>,
    is_same: impl Fn(&A, &B) -> bool,
) -> Vec<&'a K> {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    let mut different = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return different,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((_, before)), Some((_, now))) if is_same(before, now) => {
                old.next();
                new.next();
                continue;
            }
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = old.next_if(|_| order.is_le()).map(|(key, _)| key);
        let now = new.next_if(|_| order.is_ge()).map(|(key, _)| key);
        different.extend(before.or(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_or_changed_is_different() {
        // A value is its key and a version: `13` is the first key's third.
        let map =
            |values: &[u32]| values.iter().map(|value| (value / 10, *value)).collect::<BTreeMap<_, _>>();
        for (name, old, new, expected) in [
            ("nothing", &[][..], &[][..], &[][..]),
            ("all new", &[], &[10, 20], &[1, 2]),
            ("all gone", &[10, 20], &[], &[1, 2]),
            ("the same", &[10, 20], &[10, 20], &[]),
            ("changed", &[10, 20, 30], &[10, 21, 30], &[2]),
            ("each", &[10, 30, 40], &[20, 31, 40, 50], &[1, 2, 3, 5]),
        ] {
            assert_eq!(differences(&map(old), &map(new), |one, other| one == other), expected, "{name}");
        }
    }
}
