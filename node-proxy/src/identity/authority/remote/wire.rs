//! What a cell in a process of its own and the daemon say to each other about certificates: bytes, and descriptors beside them.
//!
//! Both are of one build: whoever carries these bytes has compared versions. The daemon must take every byte of a cell for what a
//! stranger wrote: it is bounded, and what cannot be read is an error and nothing else.

use std::os::fd::OwnedFd;

use config::identity::Identity;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::{AuthorityError, report};

/// Bytes of the largest question: a request of an identity is some 400.
const LARGEST_ASK: usize = 16 * 1024;

/// Bytes, and the descriptors that go with them.
#[derive(Debug, Default)]
pub struct Parcel {
    /// To be passed on as they are.
    pub bytes: Vec<u8>,
    /// In this order.
    pub descriptors: Vec<OwnedFd>,
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too many.
    #[error("{0} bytes are no question about certificates")]
    Large(usize),
    /// Not readable.
    #[error("what was said about certificates cannot be read")]
    Unreadable,
    /// Some of the descriptors are missing, or there are others.
    #[error("the descriptors are not those that belong to what was said")]
    Descriptors,
    /// What cannot be used was said.
    #[error("what was said about certificates is of no use: {0}")]
    Useless(String),
}

/// What a cell asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Said again with the answer.
    pub(super) number: u64,
    pub(super) identity: Identity,
    /// A signing request; empty where the source makes the key.
    pub(super) request: Vec<u8>,
}

/// What a cell is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tell {
    /// A chain: leaf first, no root.
    Chain { number: u64, chain: Vec<Vec<u8>> },
    /// Certificate, key and roots are in the three descriptors.
    Files { number: u64 },
    /// There is none.
    No { number: u64, why: No },
    /// There is a newer one than that of the last answer.
    Newer(Identity),
    /// These are trusted from now on.
    Roots(Vec<Vec<u8>>),
    /// The revocation lists of now are in the descriptor; without one there are none.
    Revocations,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum No {
    Unavailable(String),
    Refused(String),
    Setup { problem: String, remedy: String },
    Timeout,
}

impl Ask {
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > LARGEST_ASK {
            return Err(WireError::Large(bytes.len()));
        }
        decode(bytes)
    }
}

impl Tell {
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes)
    }
}

impl From<AuthorityError> for No {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Unavailable(why) => Self::Unavailable(why),
            AuthorityError::Refused(why) => Self::Refused(why),
            AuthorityError::Setup { problem, remedy } => Self::Setup { problem, remedy },
            AuthorityError::Timeout => Self::Timeout,
            other => Self::Unavailable(report(&other)),
        }
    }
}

impl From<No> for AuthorityError {
    fn from(no: No) -> Self {
        match no {
            No::Unavailable(why) => Self::Unavailable(why),
            No::Refused(why) => Self::Refused(why),
            No::Setup { problem, remedy } => Self::Setup { problem, remedy },
            No::Timeout => Self::Timeout,
        }
    }
}

fn encode(what: &impl Serialize) -> Result<Vec<u8>, WireError> {
    postcard::to_stdvec(what).map_err(|_| WireError::Unreadable)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((what, [])) => Ok(what),
        _ => Err(WireError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::packets::fingerprint;

    fn ask() -> Ask {
        let identity = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
        Ask { number: 7, identity, request: vec![1, 2, 3] }
    }

    #[test]
    fn a_question_survives_the_way_and_nothing_may_follow_it() {
        let mut bytes = ask().encode().unwrap();
        assert_eq!(Ask::decode(&bytes), Ok(ask()));
        bytes.push(0);
        assert_eq!(Ask::decode(&bytes), Err(WireError::Unreadable));
    }

    #[test]
    fn the_bytes_of_what_is_said_of_certificates_are_those_of_version_1_of_what_goes_to_and_from_cells() {
        let no = |why| Tell::No { number: 7, why };
        let setup = No::Setup { problem: "a".to_owned(), remedy: "b".to_owned() };
        let tells = [
            Tell::Chain { number: 7, chain: vec![vec![1], vec![2]] },
            Tell::Files { number: 7 },
            no(No::Unavailable("a".to_owned())),
            no(No::Refused("a".to_owned())),
            no(setup),
            no(No::Timeout),
            Tell::Newer(ask().identity),
            Tell::Roots(vec![vec![3]]),
            Tell::Revocations,
        ];
        let told = tells.iter().map(|tell| tell.encode().unwrap());
        let bytes = told.chain([ask().encode().unwrap()]).collect::<Vec<_>>().concat();
        let sum = fingerprint(bytes);
        assert_eq!(sum, 3_607_663_688, "count up the version in forest/wire, and write down the new sum");
    }

    #[test]
    fn a_question_that_is_too_large_is_not_looked_at() {
        let large = Ask { request: vec![0; LARGEST_ASK], ..ask() }.encode().unwrap();
        assert_eq!(Ask::decode(&large), Err(WireError::Large(large.len())));
    }

    #[test]
    fn a_name_that_is_none_is_refused_when_it_is_read() {
        let mut bytes = ask().encode().unwrap();
        let at = bytes.windows(4).position(|part| part == b"shop").unwrap();
        bytes[at] = b'/';
        assert_eq!(Ask::decode(&bytes), Err(WireError::Unreadable));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_writes_is_a_question_or_an_error(bytes in any::<Vec<u8>>()) {
            drop(Ask::decode(&bytes));
        }

        #[test]
        fn a_question_with_a_byte_changed_is_a_question_or_an_error(at in 0..40usize, byte in any::<u8>()) {
            let mut bytes = ask().encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(Ask::decode(&bytes));
        }
    }
}
