//! How much of what a node has it says at the beginning of a stream, and what follows from not saying all. Pure.
//!
//! A server that takes no request so large would end every stream alike. It is told less then, and sends more; what it was not told
//! of it cannot say is gone. That is gone when the server says that it has sent all, as ours does, or has answered each name; never
//! because a response does not have it, since another server may send all in as many responses as it likes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use config::discovery::Kind;

use crate::control::discovery::protocol::Response;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Said {
    /// All versions.
    #[default]
    All,
    /// Of each type what goes into a request of [`LITTLE`] bytes.
    Little,
    /// None.
    Nothing,
}

/// What is held and was not said on the stream of now.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    rest: BTreeMap<Kind, Rest>,
    /// Names that are asked for one by one and were not answered yet.
    unanswered: BTreeSet<String>,
}

/// What of one type was not said.
#[derive(Debug)]
struct Rest {
    names: BTreeSet<String>,
    /// Whether it was asked for one by one.
    by_name: bool,
}

impl Said {
    /// The next smaller; after the smallest all again.
    pub(super) fn less(self) -> Self {
        match self {
            Self::All => Self::Little,
            Self::Little => Self::Nothing,
            Self::Nothing => Self::All,
        }
    }

    /// Bytes of versions in a request.
    fn room(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Little => LITTLE,
            Self::Nothing => 0,
        }
    }
}

impl Unsaid {
    /// A new stream.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Of what is held as a whole what is said, and takes note of the rest.
    pub(super) fn part(
        &mut self,
        kind: Kind,
        held: &HashMap<String, String>,
        said: Said,
    ) -> HashMap<String, String> {
        let mut room = said.room();
        let (mut told, mut rest) = (HashMap::new(), BTreeSet::new());
        for (name, version) in held {
            let bytes = name.len() + version.len() + OVERHEAD;
            if bytes <= room {
                room -= bytes;
                told.insert(name.clone(), version.clone());
            } else {
                rest.insert(name.clone());
            }
        }
        if !rest.is_empty() {
            self.rest.insert(kind, Rest { names: rest, by_name: false });
        }
        told
    }

    /// Nothing is said of what is asked for one by one: who is told of a version does not answer a name.
    pub(super) fn ask(&mut self, kind: Kind, held: &HashMap<String, String>, names: &BTreeSet<String>) {
        self.rest.insert(kind, Rest { names: held.keys().cloned().collect(), by_name: true });
        self.unanswered.clone_from(names);
    }

    /// A name is not asked for any more.
    pub(super) fn unwant(&mut self, name: &str) {
        self.unanswered.remove(name);
    }

    /// What a response shows to be gone: what was not sent, once all was.
    pub(super) fn gone(&mut self, kind: Kind, response: &Response) -> Vec<String> {
        let Some(rest) = self.rest.get_mut(&kind) else { return Vec::new() };
        for resource in &response.resources {
            rest.names.remove(&resource.name);
            for name in resource.aliases.iter().chain([&resource.name]) {
                self.unanswered.remove(name);
            }
        }
        for name in &response.removed {
            rest.names.remove(name);
            self.unanswered.remove(name);
        }
        let is_all = if rest.by_name { self.unanswered.is_empty() } else { response.is_whole() };
        if !is_all {
            return Vec::new();
        }
        self.rest.remove(&kind).map(|rest| rest.names.into_iter().collect()).unwrap_or_default()
    }
}

/// Bytes of a request that every server takes: gRPC's own bound is 4 MiB, and there is more in a request.
pub(super) const LITTLE: usize = 3 << 20;
/// Bytes of an entry of a map beside its two texts, at most.
const OVERHEAD: usize = 12;
