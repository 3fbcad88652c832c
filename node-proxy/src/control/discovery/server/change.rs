//! What a change of the shelf is to the streams that read from it: which resources, and by which names they are found.
//!
//! Worked out once for all streams, so that one that has nothing of it costs a look.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use config::discovery::{Kind, Reader, Shelf};

/// Resources that are new, changed or gone.
#[derive(Debug, Default)]
pub(super) struct Change {
    names: BTreeMap<Kind, Vec<Arc<str>>>,
    called: Option<HashSet<Arc<str>>>,
}

impl Change {
    /// From what the shelf says of itself.
    pub(super) fn of_shelf(shelf: &Shelf, changed: Vec<(Kind, Arc<str>)>) -> Self {
        let mut names = BTreeMap::<Kind, Vec<Arc<str>>>::new();
        for (kind, name) in changed {
            names.entry(kind).or_default().push(name);
        }
        let addresses = names.get(&Kind::Address).map_or(&[][..], Vec::as_slice);
        let called = (addresses.len() <= CALLED).then(|| called(shelf, addresses));
        Self { names, called }
    }

    /// Those of a type.
    pub(super) fn of(&self, kind: Kind) -> &[Arc<str>] {
        self.names.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Every name by which those that are there can be asked for; `None` where they are so many that to look for what was not found
    /// before is less work.
    pub(super) fn called(&self) -> Option<&HashSet<Arc<str>>> {
        self.called.as_ref()
    }

    /// Whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

fn called(shelf: &Shelf, names: &[Arc<str>]) -> HashSet<Arc<str>> {
    let nobody = Reader { node: None };
    let there = names.iter().filter(|name| shelf.version(Kind::Address, name, &nobody).is_some());
    there
        .flat_map(|name| {
            let aliases = shelf.aliases_of(name).into_iter().map(Arc::from);
            aliases.chain([Arc::clone(name)])
        })
        .collect()
}

/// Of so many changed workloads and Services it is worked out by which names they are found.
const CALLED: usize = 256;
