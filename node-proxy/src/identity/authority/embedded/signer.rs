//! The signing thread: answers requests, and follows its directory.
//!
//! What it is asked are bytes; what it answers are certificates. A directory that became unusable is reported, and changes
//! nothing.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use config::identity::TrustDomain;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{sync::watch, time::Instant};

use super::{
    Leaf, Options, Order,
    directory::{self, Contents, DirectoryError},
    issuer::Issuer,
};
use crate::identity::{authority::AuthorityError, trust::Roots};

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long an intermediate is valid; many leaves, if leaves live longer than usual.
const INTERMEDIATE: Duration = Duration::from_secs(7 * 24 * 3600);
const LEAVES: u32 = 4;

/// The signing thread's state.
pub(super) struct Signer {
    options: Options,
    root: CertificateDer<'static>,
    intermediate: Issuer,
    renew_at: UnixTime,
    seen: Vec<(PathBuf, u64, i64, i64)>,
    roots: watch::Sender<Option<Arc<Roots>>>,
    generation: watch::Sender<u64>,
}

impl Signer {
    /// Opens the directory and makes this start's intermediate.
    pub(super) fn open(options: Options) -> Result<Self, DirectoryError> {
        let now = now(&options);
        directory::prepare(&options.directory, &options.trust_domain, now)?;
        let seen = directory::fingerprint(&options.directory).unwrap_or_default();
        let Contents { root, roots } = directory::load(&options.directory, &options.trust_domain, now)?;
        let (intermediate, renew_at) = intermediate(&root, &options.trust_domain, options.lifetime, now)
            .map_err(DirectoryError::Make)?;
        Ok(Self {
            root: root.certificate().clone(),
            intermediate,
            renew_at,
            seen,
            roots: watch::Sender::new(Some(Arc::new(roots))),
            generation: watch::Sender::new(0),
            options,
        })
    }

    /// The roots that are trusted.
    pub(super) fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.subscribe()
    }

    /// Counts up when another root signs.
    pub(super) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Works until nobody is left to ask.
    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        let mut look_at = Instant::now() + LOOK;
        loop {
            match inbox.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(order) => self.answer(order),
                Err(RecvTimeoutError::Timeout) => {
                    look_at = Instant::now() + LOOK;
                    self.look();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&self, order: Order) {
        let Order { identity, request, answer } = order;
        let leaf = Leaf { identity: &identity, lifetime: self.options.lifetime, now: now(&self.options) };
        let signed = self.sign(&request, leaf);
        // The cell may have ended meanwhile.
        let _ = answer.send(signed);
    }

    fn sign(&self, request: &[u8], leaf: Leaf<'_>) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        if leaf.identity.trust_domain != self.options.trust_domain {
            let problem = format!("{} is of another trust domain", leaf.identity);
            return Err(AuthorityError::Refused(problem));
        }
        let leaf = self.intermediate.leaf(request, leaf);
        let leaf = leaf.map_err(|error| AuthorityError::Refused(error.to_string()))?;
        Ok(vec![leaf, self.intermediate.certificate().clone()])
    }

    /// Takes up what has changed in the directory, and renews the intermediate in time.
    fn look(&mut self) {
        let now = now(&self.options);
        let Ok(seen) = directory::fingerprint(&self.options.directory) else { return };
        if seen == self.seen && now.as_secs() < self.renew_at.as_secs() {
            return;
        }
        self.seen = seen;
        if let Err(error) = self.reload(now) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the authority goes on with what it had");
            // Not again at every look; a change of the directory is seen at once.
            self.renew_at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + RETRY);
        }
    }

    fn reload(&mut self, now: UnixTime) -> Result<(), DirectoryError> {
        let contents = directory::load(&self.options.directory, &self.options.trust_domain, now)?;
        let Contents { root, roots } = contents;
        let (intermediate, renew_at) =
            intermediate(&root, &self.options.trust_domain, self.options.lifetime, now)
                .map_err(DirectoryError::Make)?;
        // Trusted first, signed with afterwards.
        self.roots.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&roots);
            if changed {
                tracing::info!(roots = roots.certificates().len(), "the roots that are trusted have changed");
                *known = Some(Arc::new(roots));
            }
            changed
        });
        (self.intermediate, self.renew_at) = (intermediate, renew_at);
        if self.root != *root.certificate() {
            self.root = root.certificate().clone();
            tracing::info!("another root signs; every certificate is renewed");
            self.generation.send_modify(|generation| *generation += 1);
        }
        Ok(())
    }
}

/// How long after a failure the intermediate's renewal is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// An intermediate for leaves that live so long, and when the next one is to be made.
pub(super) fn intermediate(
    root: &Issuer,
    trust_domain: &TrustDomain,
    leaves: Duration,
    now: UnixTime,
) -> Result<(Issuer, UnixTime), rcgen::Error> {
    let issuer = root.intermediate(trust_domain, INTERMEDIATE.max(leaves * LEAVES), now)?;
    let left = issuer.not_after().as_secs().saturating_sub(now.as_secs());
    Ok((issuer, UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + left / 2))))
}

fn now(options: &Options) -> UnixTime {
    options.clock.current_time().unwrap_or_else(UnixTime::now)
}
