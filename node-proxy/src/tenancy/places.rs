//! Places that are counted in all and per key, so that nobody's share can be taken by one that asks for many.
//!
//! A place is given back when it is dropped. Nothing here may wait.

use std::{cell::RefCell, collections::HashMap, fmt, hash::Hash, rc::Rc};

use serde::{Deserialize, Serialize};

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// In all.
    pub all: usize,
    /// Of one key.
    pub each: usize,
}

/// What is taken.
#[derive(Debug)]
pub struct Places<K>(RefCell<Taken<K>>);

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_key: HashMap<K, usize>,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(RefCell::new(Taken { all: 0, by_key: HashMap::new() }))
    }
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// One more of a key; `None` where there are as many as there may be.
    pub fn take(self: &Rc<Self>, key: K, bound: Bound) -> Option<Place<K>> {
        let mut taken = self.0.borrow_mut();
        let of_key = taken.by_key.get(&key).copied().unwrap_or_default();
        if taken.all >= bound.all || of_key >= bound.each {
            return None;
        }
        taken.all += 1;
        taken.by_key.insert(key, of_key + 1);
        Some(Place { places: Rc::clone(self), key })
    }

    /// How many of a key are taken.
    pub fn of(&self, key: K) -> usize {
        self.0.borrow().by_key.get(&key).copied().unwrap_or_default()
    }

    fn give_back(&self, key: K) {
        let mut taken = self.0.borrow_mut();
        taken.all -= 1;
        let left = taken.by_key.get_mut(&key).map(|of_key| {
            *of_key -= 1;
            *of_key
        });
        if left == Some(0) {
            taken.by_key.remove(&key);
        }
    }
}

/// One that is taken.
pub struct Place<K: Copy + Eq + Hash> {
    places: Rc<Places<K>>,
    key: K,
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.give_back(self.key);
    }
}

impl<K: Copy + Eq + Hash + fmt::Debug> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_key_and_come_back() {
        let (places, bound) = (Rc::new(Places::default()), Bound { all: 3, each: 2 });
        let a = [places.take('a', bound), places.take('a', bound)];
        assert!(a.iter().all(Option::is_some));
        assert!(places.take('a', bound).is_none(), "two of a key");
        let b = places.take('b', bound);
        assert!(b.is_some() && places.take('c', bound).is_none(), "three in all");
        drop(a);
        assert!(places.take('a', bound).is_some());
        drop(b);
        assert_eq!((places.0.borrow().all, places.0.borrow().by_key.len()), (0, 0), "nothing is left behind");
    }
}
