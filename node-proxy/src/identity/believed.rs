//! Chains that one configuration has verified before: a peer that opens many tunnels is not verified from the root each time.
//!
//! Only the very same bytes are believed again, and only while every certificate among them is valid without any allowance for
//! clocks. That the peer holds the key is proven in every handshake. It must never outlive the trust that verified it: it
//! belongs to one configuration, and trust that changes makes a new one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use config::identity::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::leaf::{self, Validity};

/// Chains that are remembered. A server that is called by more forgets the one that was asked for the longest time ago.
const KEPT: usize = 32;

/// The chains of one configuration, the last one asked for first.
#[derive(Debug, Default)]
pub(super) struct Believed(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    chain: Box<[CertificateDer<'static>]>,
    validity: Validity,
    identity: Identity,
}

impl Believed {
    /// Who these certificates were found to prove, if they still do.
    pub(super) fn find(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Identity> {
        let mut entries = self.entries();
        let at = entries.iter().position(|entry| *entry.chain == *chain)?;
        let valid = entries[at].validity;
        if now < valid.not_before || now > valid.not_after {
            entries.remove(at);
            return None;
        }
        entries[..=at].rotate_right(1);
        Some(entries[0].identity.clone())
    }

    /// Remembers that a chain was verified. One whose times cannot be read is verified again each time.
    pub(super) fn keep(&self, chain: &[CertificateDer<'_>], identity: &Identity) {
        let Some(validity) = of_all(chain) else { return };
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let mut entries = self.entries();
        entries.truncate(KEPT - 1);
        entries.insert(0, Entry { chain, validity, identity: identity.clone() });
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // What a panic left is whole: each change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When all of them are valid.
fn of_all(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let each = chain.iter().map(|certificate| leaf::validity_of(certificate).ok());
    each.reduce(|one, other| {
        let (one, other) = (one?, other?);
        Some(Validity {
            not_before: one.not_before.max(other.not_before),
            not_after: one.not_after.min(other.not_after),
        })
    })?
}
