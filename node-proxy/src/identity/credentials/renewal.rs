//! How a cell's certificates are kept fresh: the first at once, the next at half of the last one's time, with jitter; after a
//! failure again and again, with growing pauses. The trust is followed too.

use std::{
    convert::Infallible,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::pki_types::UnixTime;
use tokio::time::{sleep, timeout};

use super::{Credentials, kept::Holding};
use crate::identity::{
    authority::{
        AuthorityError, CertificateSource, report,
        retry::{Backoff, jitter},
    },
    certificate::Certificate,
    verify::{Anchor, SKEW},
};

/// How long an authority may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A renewal is this much of half the time earlier or later.
const RENEWAL_JITTER: f64 = 0.1;
/// Renewals are never closer together: a certificate from a file may be near its end, and so may be the next.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest sleep without a look at the wall clock, which may be set, or have gone on while the machine slept.
const NAP: Duration = Duration::from_secs(60);

impl Credentials {
    /// Keeps every certificate fresh. Polled by the cell's own loop, for as long as the cell lives.
    pub async fn run(self: Rc<Self>) -> Infallible {
        let mut keepers = FuturesUnordered::new();
        let mut trust = Box::pin(Rc::clone(&self).follow_trust());
        let mut sessions = Box::pin(Rc::clone(&self).follow_sessions());
        loop {
            keepers.extend(self.unkept.take().into_iter().map(|holding| {
                let credentials = Rc::clone(&self);
                Box::pin(async move {
                    tokio::select! {
                        () = holding.released() => {}
                        _ = credentials.renew(&holding) => {}
                    }
                })
            }));
            tokio::select! {
                () = self.wanted.notified() => {}
                Some(()) = keepers.next() => {}
                _ = &mut trust => {}
                _ = &mut sessions => {}
            }
        }
    }

    async fn renew(&self, holding: &Holding) -> Infallible {
        let mut source = self.sources.authority.source(&holding.wanted());
        let mut pause = Backoff::default();
        loop {
            let rest = match self.obtain(&mut *source).await {
                Ok((certificate, anchor)) => {
                    pause = Backoff::default();
                    let due = renewal_at(self.now(), certificate.validity().not_after, fastrand::f64());
                    tracing::debug!(
                        identity = %holding.identity(), serial = certificate.serial(), "a certificate was issued"
                    );
                    let adopted = holding.adopt(certificate, anchor);
                    if adopted.trust {
                        self.trust_changed();
                    }
                    if adopted.authority {
                        self.outdate(holding.identity());
                    }
                    self.ledger.certificate_issued();
                    Rest::Until(due)
                }
                Err(error) => {
                    let problem = report(&error);
                    tracing::warn!(identity = %holding.identity(), problem, "no certificate could be had; trying again");
                    holding.failed(problem);
                    self.ledger.certificate_failed();
                    Rest::For(match holding.expires() {
                        Some(end) => pause.next_before_end(until(end, self.now()), fastrand::f64()),
                        None => pause.next(fastrand::f64()),
                    })
                }
            };
            self.account();
            tokio::select! {
                () = self.rest(rest) => {}
                () = source.changed() => {}
            }
        }
    }

    async fn obtain(
        &self,
        source: &mut dyn CertificateSource,
    ) -> Result<(Certificate, Anchor), AuthorityError> {
        let certificate = timeout(ANSWER, source.obtain()).await.map_err(|_| AuthorityError::Timeout)??;
        // What peers would refuse is not used, nor is what works given up for it.
        let roots =
            certificate.roots().map(Arc::clone).or_else(|| self.sources.authority.roots().borrow().clone());
        let roots =
            roots.ok_or_else(|| AuthorityError::Unavailable("its roots are not known yet".to_owned()))?;
        let trust = super::Trust {
            trust_domain: certificate.identity().trust_domain.clone(),
            roots,
            revocations: Arc::clone(&self.revocations.borrow()),
        };
        let anchor = certificate.check(&trust, self.now())?;
        Ok((certificate, anchor))
    }

    async fn rest(&self, rest: Rest) {
        let due = match rest {
            Rest::Until(due) => due,
            Rest::For(pause) => return sleep(pause).await,
        };
        let mut before = self.now();
        loop {
            let now = self.now();
            let left = until(due, now);
            // Set back by more than clocks may be apart: what was signed by the former time is for later, and peers refuse it until then.
            if left.is_zero() || until(before, now) > SKEW {
                return;
            }
            before = now;
            sleep(left.min(NAP)).await;
        }
    }

    /// Takes up changes of roots and revocations.
    async fn follow_trust(self: Rc<Self>) -> Infallible {
        let mut roots = self.sources.authority.roots();
        let mut revocations = self.sources.revocations.clone();
        loop {
            let new_roots = roots.borrow_and_update().clone();
            let new_revocations = Arc::clone(&revocations.borrow_and_update());
            self.roots.replace(new_roots);
            self.revocations.replace(new_revocations);
            self.holdings.borrow().values().for_each(|holding| holding.forget_configs());
            self.trust_changed();
            tokio::select! {
                Ok(()) = roots.changed() => {}
                Ok(()) = revocations.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    fn trust_changed(&self) {
        self.trust_version.send_modify(|version| *version += 1);
    }

    /// Has sessions that were established before a change of trust asked about again.
    async fn follow_sessions(self: Rc<Self>) -> Infallible {
        let mut version = self.trust_version.subscribe();
        loop {
            version.borrow_and_update();
            self.look_again().await;
            // Its sender is this very value's.
            let _changed = version.changed().await;
        }
    }

    /// Tells the ledger which certificate is the first to expire.
    pub(super) fn account(&self) {
        let first = self
            .holdings
            .borrow()
            .values()
            .filter_map(|holding| holding.expires())
            .map(|at| at.as_secs())
            .min();
        self.ledger.certificate_expiry.store(first.unwrap_or_default(), Relaxed);
    }
}

/// When the authority is asked again, unless it speaks up before.
enum Rest {
    /// By the wall clock, as certificates expire by it.
    Until(UnixTime),
    /// After a failure.
    For(Duration),
}

/// When a certificate that was obtained at `now` is renewed: half-way to its end, a little earlier or later by `chance`.
fn renewal_at(now: UnixTime, not_after: UnixTime, chance: f64) -> UnixTime {
    let left = until(not_after, now);
    let pause = (left / 2).mul_f64(jitter(RENEWAL_JITTER, chance)).max(SHORTEST);
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(pause))
}

/// How long it is until then; none where that has passed.
fn until(then: UnixTime, now: UnixTime) -> Duration {
    Duration::from_secs(then.as_secs().saturating_sub(now.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn certificates_of_one_moment_are_renewed_apart_about_half_way() {
        let due = [0.0, 0.5, 1.0].map(|chance| renewal_at(at(5_000), at(5_000 + 2_000), chance).as_secs());
        assert_eq!(due, [5_900, 6_000, 6_100]);
    }

    #[test]
    fn what_is_near_its_end_or_past_it_is_renewed_after_a_moment() {
        for not_after in [0, 5_000, 5_001] {
            assert_eq!(renewal_at(at(5_000), at(not_after), 0.5), at(5_001), "{not_after}");
        }
    }
}
