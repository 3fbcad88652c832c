//! What differs between two maps of shared objects.
//!
//! An object that is in both is not looked into. Whether two that are not the same say the same must be asked elsewhere.

use std::{collections::BTreeMap, sync::Arc};

/// An object that is another than before, new, or gone.
#[derive(Debug)]
pub(super) struct Difference<'a, K, V> {
    /// Its key.
    pub(super) key: &'a K,
    /// As it was.
    pub(super) before: Option<&'a Arc<V>>,
    /// As it is.
    pub(super) after: Option<&'a Arc<V>>,
}

/// What differs, in the order of keys.
pub(super) fn differing<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
) -> Vec<Difference<'a, K, V>> {
    let (mut olds, mut news) = (before.iter().peekable(), after.iter().peekable());
    let mut differences = Vec::new();
    loop {
        // Almost all are the same object, of one key: keys are compared only where they are not, as that costs far more.
        let (old, new) = match (olds.peek().copied(), news.peek().copied()) {
            (None, None) => return differences,
            (Some(old), Some(new)) if Arc::ptr_eq(old.1, new.1) => (Some(old), Some(new)),
            (Some(old), Some(new)) => {
                (Some(old).filter(|old| old.0 <= new.0), Some(new).filter(|new| new.0 <= old.0))
            }
            one_sided => one_sided,
        };
        if old.is_some() {
            olds.next();
        }
        if new.is_some() {
            news.next();
        }
        let is_same = old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old.1, new.1));
        if let Some((key, _)) = new.or(old).filter(|_| !is_same) {
            differences.push(Difference { key, before: old.map(|it| it.1), after: new.map(|it| it.1) });
        }
    }
}
