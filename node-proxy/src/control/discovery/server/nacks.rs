//! What was said of resources that nodes do not take: each version of a resource is complained of once, not once by every node.
//!
//! It must never hold more than it is bounded to, whatever nodes say.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use config::{discovery::Kind, finding::visible};

use super::{stream::Notice, version::Version};

/// What was logged.
#[derive(Debug, Default)]
pub(super) struct Nacks(Mutex<HashSet<(Kind, Box<str>, Option<Version>)>>);

impl Nacks {
    /// Whether something of this is new.
    pub(super) fn is_new(&self, notice: &Notice) -> bool {
        let Notice::Nack { kind, resources, .. } = notice else { return true };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + resources.len() > MOST {
            // Something is said twice then, which is better than not at all.
            known.clear();
        }
        let mut is_new = resources.is_empty();
        for (name, version) in resources {
            is_new |= known.insert((*kind, Box::from(&**name), *version));
        }
        is_new
    }
}

/// A node's words, as they may stand in a log.
pub(super) fn quoted(words: &str) -> String {
    let end = words.char_indices().map(|(at, _)| at).nth(WORDS).unwrap_or(words.len());
    visible(&words[..end]).to_string()
}

/// Versions of resources that are remembered.
const MOST: usize = 4096;
/// Letters of a node's message that are logged.
const WORDS: usize = 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nack(name: &str, version: char) -> Notice {
        let version = Version::of(&version.to_string().repeat(32));
        Notice::Nack {
            kind: Kind::Address,
            message: "no".to_owned(),
            resources: vec![(Arc::from(name), version)],
        }
    }

    #[test]
    fn a_version_is_complained_of_once_whoever_does_not_take_it() {
        let nacks = Nacks::default();
        assert!(nacks.is_new(&nack("one", '1')));
        assert!(!nacks.is_new(&nack("one", '1')), "another node");
        assert!(nacks.is_new(&nack("one", '2')) && nacks.is_new(&nack("two", '1')));
        assert!(nacks.is_new(&Notice::Strange { type_url: String::new() }));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let nacks = Nacks::default();
        for number in 0..3 * MOST {
            assert!(nacks.is_new(&nack(&number.to_string(), '1')));
            assert!(nacks.0.lock().unwrap().len() <= MOST);
        }
    }

    #[test]
    fn a_nodes_words_are_one_line_and_not_endless() {
        assert!(!quoted("one\ntwo\u{1b}[31m").contains(['\n', '\u{1b}']));
        assert!(quoted(&"é".repeat(5000)).chars().count() <= WORDS);
    }
}
