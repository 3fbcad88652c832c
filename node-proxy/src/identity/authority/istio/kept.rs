//! The roots that answers of the service have named, each trusted until what came with it is over.
//!
//! While an authority changes its root, its replicas and the nodes' certificates come to the new one at different times: who trusted
//! the last answer alone would refuse half of its peers. It must never keep a root for longer than a certificate of its time lasts.

use rustls::pki_types::{CertificateDer, UnixTime};

use crate::identity::trust::Roots;

/// Roots, and until when each is trusted.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(CertificateDer<'static>, UnixTime)>);

impl Kept {
    /// Takes in the roots of an answer whose certificate ends at `until`; says which are trusted from `now` on. Where they would be too
    /// many, those of the answer alone.
    pub(super) fn with(&mut self, answered: Roots, until: UnixTime, now: UnixTime) -> Roots {
        for root in answered.certificates() {
            match self.0.iter_mut().find(|(known, _)| known == root) {
                Some((_, end)) => *end = (*end).max(until),
                None => self.0.push((root.clone(), until)),
            }
        }
        self.0.retain(|(_, end)| *end > now);
        Roots::new(self.0.iter().map(|(root, _)| root.clone())).unwrap_or_else(|_too_many| {
            self.0.retain(|(root, _)| answered.certificates().contains(root));
            answered
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn root() -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_root_is_trusted_until_the_last_certificate_that_came_with_it_is_over() {
        let (old, new) = (root(), root());
        let mut kept = Kept::default();
        let mut answer = |roots: &[&CertificateDer<'static>], now| {
            let answered = Roots::new(roots.iter().map(|root| (*root).clone())).unwrap();
            let trusted = kept.with(answered, at(now + 100), at(now));
            [&old, &new].map(|root| trusted.certificates().contains(root))
        };
        assert_eq!(answer(&[&old], 0), [true, false]);
        assert_eq!(answer(&[&new], 50), [true, true], "nodes that ask later still have the old one's");
        assert_eq!(answer(&[&old], 60), [true, true], "and a replica that is behind");
        assert_eq!(answer(&[&new], 159), [true, true]);
        assert_eq!(answer(&[&new], 160), [false, true], "what came with it at 60 is over");
        assert_eq!(answer(&[&old, &new], 170), [true, true], "or both in one answer");
    }

    #[test]
    fn an_answer_that_makes_them_too_many_is_trusted_alone() {
        let mut kept = Kept::default();
        let new: Vec<_> = (0..100).map(|_| root()).collect();
        let trusted = new.iter().map(|one| kept.with(Roots::new([one.clone()]).unwrap(), at(100), at(0)));
        let counts: Vec<usize> = trusted.map(|roots| roots.certificates().len()).collect();
        assert!(counts.windows(2).any(|pair| pair[1] == 1 && pair[0] > 1), "{counts:?}");
        assert!(kept.0.iter().any(|(one, _)| *one == new[99]), "the last is always one of them");
    }
}
