//! Resources of one type by name, each with the version of what it says to everybody.
//!
//! Whoever puts one here says which version it is: it must be that of the body that is made of it later.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use serde::Serialize;

use super::differing::{Difference, differing};
use crate::discovery::{hash::Version, raise};

/// Resources by name.
#[derive(Debug)]
pub(super) struct Rack<T>(BTreeMap<Arc<str>, Slot<T>>);

#[derive(Debug)]
struct Slot<T> {
    object: Arc<T>,
    version: Version,
}

impl<T> Default for Rack<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Rack<T> {
    /// Puts an object in the place of the one of its name, or takes that away. Gives the name, and whether what it says differs.
    pub(super) fn put(&mut self, name: &str, new: Option<(&Arc<T>, Version)>) -> (Arc<str>, bool) {
        let known = self.0.get_key_value(name).map(|(name, slot)| (Arc::clone(name), slot.version));
        let differs = known.as_ref().map(|(_, version)| *version) != new.map(|(_, version)| version);
        let name = known.map_or_else(|| Arc::from(name), |(name, _)| name);
        match new {
            Some((object, version)) => {
                self.0.insert(Arc::clone(&name), Slot { object: Arc::clone(object), version });
            }
            None => {
                self.0.remove(&name);
            }
        }
        (name, differs)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// A name as it is shared, if there is such a resource.
    pub(super) fn name(&self, name: &str) -> Option<&Arc<str>> {
        self.0.get_key_value(name).map(|(name, _)| name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.0.get(name).map(|slot| &slot.object)
    }

    pub(super) fn version(&self, name: &str) -> Option<Version> {
        self.0.get(name).map(|slot| slot.version)
    }

    /// An object's version, and its body as it is made here.
    pub(super) fn of(&self, name: &str, body: impl Fn(&T) -> Vec<u8>) -> Option<(Version, Vec<u8>)> {
        self.0.get(name).map(|slot| (slot.version, body(&slot.object)))
    }
}

/// Of what is said in the model's own words alone.
impl<T: Serialize> Rack<T> {
    /// Takes over what differs, and gives the names of what says something else.
    pub(super) fn stock<K: Ord>(
        &mut self,
        before: &BTreeMap<K, Arc<T>>,
        after: &BTreeMap<K, Arc<T>>,
        name: impl Fn(&K) -> String,
    ) -> Vec<Arc<str>> {
        let put = |Difference { key, after, .. }: Difference<'_, K, T>| {
            let version = after.map(|object| (object, Version::of(&raise::facts(&**object).encode_to_vec())));
            Some(self.put(&name(key), version)).filter(|(_, differs)| *differs).map(|(name, _)| name)
        };
        differing(before, after).into_iter().filter_map(put).collect()
    }

    /// An object's version, and its body.
    pub(super) fn own(&self, name: &str) -> Option<(Version, Vec<u8>)> {
        self.of(name, |object| raise::facts(object).encode_to_vec())
    }
}
