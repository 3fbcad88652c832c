//! What a part that cannot be read may have been: the security objects of which signs are left in it.
//!
//! A security object never vanishes, so what stands in for an unreadable one has to know which it may be, and of which
//! namespace. Guesses, towards denial. They must never be a reason to accept anything, nor depend on other files.

use std::collections::BTreeSet;

pub(crate) use self::{
    signs::{is_meant, is_near},
    text::{in_text, listed_in, namespaces_in},
    tree::{Found, in_item, in_tree, kinds_of, named_in, of_tenant, whereabouts},
};
use crate::{finding::Position, name::Namespace, object::Kind};

mod outline;
mod parts;
mod signs;
mod text;
mod tree;

/// A security object that may be in an unreadable part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) kind: Kind,
    /// Whether its kind can be read; else it is of an API group that has security objects, and `kind` is the strictest
    /// that it can be.
    pub(crate) is_sure: bool,
    pub(crate) place: Whereabouts,
    pub(crate) at: Position,
}

/// The namespaces that an unreadable object may be of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// It may be of another one, since a name of it cannot be read.
    pub(crate) elsewhere: bool,
}

impl Whereabouts {
    /// Takes over a word of what may be a list of namespaces.
    fn listed(&mut self, word: &str) {
        for word in word.to_lowercase().split_whitespace() {
            if self.namespaces.len() < LISTED {
                self.namespaces.extend(Namespace::try_from(word).ok());
            }
        }
    }

    /// Takes over what stands where a namespace is named. If it is none, one may be in it.
    fn named(&mut self, text: Option<&str>) {
        match text.and_then(|text| Namespace::try_from(text).ok()) {
            Some(namespace) => {
                self.namespaces.insert(namespace);
            }
            None => {
                let text = text.unwrap_or_default().to_lowercase();
                let words = text.split_whitespace();
                self.namespaces.extend(words.filter_map(|word| Namespace::try_from(word).ok()));
                self.elsewhere = true;
            }
        }
    }
}

/// Words that are taken for namespaces of a Tenant that cannot be read: no more are read of one, so that none costs memory.
const LISTED: usize = 1000;
