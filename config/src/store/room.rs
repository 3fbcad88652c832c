//! For which objects there is room: memory is bounded, whoever writes how many of them.
//!
//! What is enforced has its own room, which no number of other objects fills; in each room, newcomers of different
//! namespaces take turns, so that nobody's many push out anybody else's few. What is in force has its place. A pure function
//! of the files and of what is in force.

use std::collections::{BTreeMap, BTreeSet};

use super::named::Entry;
use crate::{finding::ObjectRef, object::Kind};

/// How much room is taken, by objects that are enforced and by all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken([usize; 2]);

impl Taken {
    pub(super) fn of<'a>(objects: impl Iterator<Item = &'a ObjectRef>) -> Self {
        let mut taken = Self::default();
        objects.for_each(|object| *taken.of_kind(object) += 1);
        taken
    }

    /// One object comes or goes.
    pub(super) fn count(&mut self, object: &ObjectRef, comes: bool) {
        let count = self.of_kind(object);
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Whether there is room for all of them.
    pub(super) fn is_within(&self, limit: usize) -> bool {
        self.0.iter().all(|count| *count <= limit)
    }

    fn of_kind(&mut self, object: &ObjectRef) -> &mut usize {
        &mut self.0[usize::from(is_enforced(object))]
    }
}

/// Which of the objects, by their number, there is no room for.
pub(super) fn beyond<'a>(
    entries: &[Entry<'_>],
    is_in_force: impl Fn(&ObjectRef) -> bool,
    held: impl Iterator<Item = &'a ObjectRef>,
    limit: usize,
) -> BTreeSet<usize> {
    let mut taken = BTreeMap::from([(true, 0), (false, 0)]);
    let mut take = |name: &ObjectRef| *taken.entry(is_enforced(name)).or_default() += 1_usize;
    held.for_each(&mut take);
    let mut turns: BTreeMap<(bool, Option<&str>), usize> = BTreeMap::new();
    let mut newcomers: BTreeMap<bool, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let name = &entry.object.name;
        if is_in_force(name) {
            take(name);
            continue;
        }
        let is_enforced = is_enforced(name);
        let turn = turns.entry((is_enforced, name.namespace.as_deref())).or_default();
        *turn += 1;
        newcomers.entry(is_enforced).or_default().push((*turn, index));
    }
    let without_room = |(is_enforced, mut newcomers): (bool, Vec<(usize, usize)>)| {
        newcomers.sort_unstable();
        let room = limit.saturating_sub(taken.get(&is_enforced).copied().unwrap_or_default());
        newcomers.into_iter().skip(room).map(|(_, index)| index)
    };
    newcomers.into_iter().flat_map(without_room).collect()
}

/// Whether a pod without this would be open, or be taken for somebody else's.
fn is_enforced(name: &ObjectRef) -> bool {
    Kind::of(name).is_some_and(|kind| kind.protects() || [Kind::Pod, Kind::Namespace].contains(&kind))
}
