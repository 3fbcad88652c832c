//! Versions of objects by their names: a sorted map of which a copy shares everything that is not changed in it.
//!
//! What is in force is held by whoever explains it while the next edit is taken in; it must never be copied whole for that.

use std::sync::Arc;

use crate::{finding::ObjectRef, lower::Lowered};

/// Versions in the order of names, in parts that copies share. No part is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    parts: Vec<Arc<Part>>,
    len: usize,
}

type Part = Vec<(ObjectRef, Arc<Lowered>)>;

/// How many versions a part has at most: so many are copied when one is changed.
const PART: usize = 128;

impl Versions {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, object: &ObjectRef) -> Option<&Arc<Lowered>> {
        let (part, place) = self.find(object);
        Some(&self.parts.get(part)?.get(place.ok()?)?.1)
    }

    pub(crate) fn contains_key(&self, object: &ObjectRef) -> bool {
        self.find(object).1.is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<Lowered>)> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(object, version)| (object, version))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectRef> {
        self.iter().map(|(object, _)| object)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Lowered>> {
        self.iter().map(|(_, version)| version)
    }

    pub(crate) fn insert(&mut self, object: ObjectRef, version: Arc<Lowered>) {
        let (index, place) = self.find(&object);
        let Some(shared) = self.parts.get_mut(index) else {
            self.parts.push(Arc::new(vec![(object, version)]));
            self.len += 1;
            return;
        };
        let part = Arc::make_mut(shared);
        match place {
            Ok(place) => part[place].1 = version,
            Err(place) => {
                part.insert(place, (object, version));
                self.len += 1;
            }
        }
        if part.len() > PART {
            // What comes in order fills its part before it begins the next.
            let at = if place == Err(PART) { PART } else { PART / 2 };
            let rest = part.split_off(at);
            self.parts.insert(index + 1, Arc::new(rest));
        }
    }

    pub(crate) fn remove(&mut self, object: &ObjectRef) {
        let (index, Ok(place)) = self.find(object) else { return };
        let part = Arc::make_mut(&mut self.parts[index]);
        part.remove(place);
        self.len -= 1;
        if part.is_empty() {
            self.parts.remove(index);
        }
    }

    /// In which part a name is, or would be, and where in it.
    fn find(&self, object: &ObjectRef) -> (usize, Result<usize, usize>) {
        let begins_before = |part: &Arc<Part>| part.first().is_some_and(|(first, _)| first <= object);
        let index = self.parts.partition_point(begins_before).saturating_sub(1);
        let place = |part: &Arc<Part>| part.binary_search_by(|(name, _)| name.cmp(object));
        (index, self.parts.get(index).map_or(Err(0), place))
    }
}

impl PartialEq for Versions {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl FromIterator<(ObjectRef, Arc<Lowered>)> for Versions {
    fn from_iter<T: IntoIterator<Item = (ObjectRef, Arc<Lowered>)>>(all: T) -> Self {
        let mut versions = Self::default();
        all.into_iter().for_each(|(object, version)| versions.insert(object, version));
        versions
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::{finding::Position, lower::Draft};

    fn version(number: u32) -> Arc<Lowered> {
        let (object, file) = (ObjectRef::new("Kind", None, "name"), Arc::from(Path::new("a")));
        let at = Position { line: number, column: 1 };
        Arc::new(Lowered { object, file, at, created: None, weight: 0, draft: Draft::ServiceAccount })
    }

    proptest! {
        #[test]
        fn versions_are_a_sorted_map_and_a_copy_stays_as_it_was(
            edits in prop::collection::vec((0_u32..600, any::<bool>()), 0..2000)
        ) {
            let mut versions = Versions::default();
            let mut known = BTreeMap::new();
            let mut copy = (versions.clone(), known.clone());
            for (round, (number, is_there)) in edits.into_iter().enumerate() {
                let object = ObjectRef::new("Kind", Some("shop"), &format!("n-{number}"));
                if is_there {
                    versions.insert(object.clone(), version(number));
                    known.insert(object, version(number));
                } else {
                    versions.remove(&object);
                    known.remove(&object);
                }
                if round == 700 {
                    copy = (versions.clone(), known.clone());
                }
            }
            for (versions, known) in [(versions, known), copy] {
                prop_assert!(versions.iter().eq(known.iter()));
                prop_assert_eq!(versions.len(), known.len());
                prop_assert!(known.iter().all(|(object, version)| versions.get(object) == Some(version)));
                prop_assert!(versions.parts.iter().all(|part| (1..=PART).contains(&part.len())));
            }
        }
    }
}
