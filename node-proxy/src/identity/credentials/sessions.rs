//! TLS sessions of now, and what their peers proved themselves with: asked about again whenever roots or revocations change.
//!
//! One that rests on a certificate that was taken back, or on a root that was taken away before its time, ends. That a certificate
//! has expired since, a root's included, or was renewed, is no reason. Chains are judged a few at a time, so that a change of trust
//! never holds up a cell.

use std::{
    cell::{Cell as Slot, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use config::identity::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};
use slab::Slab;

use super::{Credentials, Revocations, Roots, Trust};
use crate::identity::verify::{PeerError, Usage, stands};

/// Chains judged before other tasks of the cell have their turn: some 150 µs each.
const SLICE: usize = 8;

/// Leaf first. Shared by the sessions of one peer.
type Chain = Rc<[CertificateDer<'static>]>;

/// The sessions of one cell.
#[derive(Default)]
pub(super) struct Sessions {
    known: RefCell<Slab<Rc<Entry>>>,
    chains: RefCell<HashSet<Chain>>,
}

/// Who is at the other end of a session that is being established.
#[derive(Debug)]
pub struct Peer<'a> {
    /// As whom this end speaks.
    pub own: &'a Identity,
    /// What the other end showed.
    pub chain: &'a [CertificateDer<'static>],
    /// At which end it was shown.
    pub usage: Usage,
    /// [`Credentials::trust_version`] when the handshake began.
    pub since: u64,
}

/// What is to become of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Stands,
    /// Its own end speaks by another authority now: the next connection is to be made anew, those there are go on.
    Outdated,
    /// It ends, and so does all it carries.
    Fallen(PeerError),
}

/// Keeps a session among those that are asked about.
pub struct Session {
    sessions: Rc<Sessions>,
    key: usize,
    entry: Rc<Entry>,
}

struct Entry {
    own: Identity,
    chain: Chain,
    usage: Usage,
    /// When it was believed.
    at: UnixTime,
    /// By which, for when its identity has no workload here any more.
    roots: Arc<Roots>,
    standing: RefCell<Standing>,
    driver: RefCell<Option<Waker>>,
    /// Something is to be read in `standing`.
    news: Slot<bool>,
}

impl Credentials {
    /// Takes in a session whose peer was just believed. An error where that is not so by now.
    pub fn establish(&self, peer: &Peer<'_>) -> Result<Session, PeerError> {
        let trust = self.trust(peer.own).ok_or(PeerError::UnknownAuthority)?;
        let at = self.now();
        if peer.since != self.trust_version() {
            stands(peer.chain, &trust, peer.usage, at)?;
        }
        let entry = Rc::new(Entry {
            own: peer.own.clone(),
            chain: self.sessions.chain(peer.chain),
            usage: peer.usage,
            at,
            roots: trust.roots,
            standing: RefCell::new(Standing::Stands),
            driver: RefCell::default(),
            news: Slot::new(false),
        });
        let key = self.sessions.known.borrow_mut().insert(Rc::clone(&entry));
        Ok(Session { sessions: Rc::clone(&self.sessions), key, entry })
    }

    /// Asks about every session of now again.
    pub(super) async fn look_again(&self) {
        let mut judged: HashMap<_, Result<(), PeerError>> = HashMap::new();
        for entry in self.sessions.all() {
            let by = Arc::as_ptr(&entry.roots);
            let who = (Rc::clone(&entry.chain), entry.own.clone(), entry.usage, by);
            let verdict = match judged.get(&who) {
                Some(verdict) => verdict.clone(),
                None => {
                    if judged.len() % SLICE == SLICE - 1 {
                        tokio::task::yield_now().await;
                    }
                    let verdict = self.stands_still(&entry);
                    judged.insert(who, verdict.clone());
                    verdict
                }
            };
            if let Err(error) = verdict {
                entry.tell(Standing::Fallen(error));
            }
        }
        drop(judged);
        self.sessions.chains.borrow_mut().retain(|chain| Rc::strong_count(chain) > 1);
    }

    /// The own end of these sessions has a certificate of another authority.
    pub(super) fn outdate(&self, own: &Identity) {
        for entry in self.sessions.all().into_iter().filter(|entry| entry.own == *own) {
            entry.tell(Standing::Outdated);
        }
    }

    /// Whether what was believed still is. A root that vouched for it and has gone is a revocation, unless its own time was over
    /// when it went: that is a change of authority to its end, which must not cut what lives longer than it.
    fn stands_still(&self, entry: &Entry) -> Result<(), PeerError> {
        let trust = self.trust_of(entry);
        let judge = |trust: &Trust| stands(&entry.chain, trust, entry.usage, entry.at);
        match judge(&trust) {
            Err(PeerError::UnknownAuthority) => {
                let over = entry.roots.over(self.now()).ok_or(PeerError::UnknownAuthority)?;
                judge(&Trust { roots: Arc::new(over), ..trust })
            }
            verdict => verdict,
        }
    }

    fn trust_of(&self, entry: &Entry) -> Trust {
        self.trust(&entry.own).unwrap_or_else(|| Trust {
            trust_domain: entry.own.trust_domain.clone(),
            roots: Arc::clone(&entry.roots),
            revocations: Arc::<Revocations>::clone(&self.revocations.borrow()),
        })
    }
}

impl Sessions {
    fn all(&self) -> Vec<Rc<Entry>> {
        self.known.borrow().iter().map(|(_, entry)| Rc::clone(entry)).collect()
    }

    fn chain(&self, chain: &[CertificateDer<'static>]) -> Chain {
        let mut chains = self.chains.borrow_mut();
        if let Some(known) = chains.get(chain) {
            return Rc::clone(known);
        }
        let chain = Chain::from(chain);
        chains.insert(Rc::clone(&chain));
        chain
    }
}

impl Entry {
    fn tell(&self, standing: Standing) {
        let mut current = self.standing.borrow_mut();
        if matches!(&*current, Standing::Fallen(_)) || *current == standing {
            return;
        }
        *current = standing;
        drop(current);
        self.news.set(true);
        let driver = self.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Session {
    /// Ready, once each, with what is to become of it. For who drives it, at each turn.
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Standing> {
        if self.entry.news.take() {
            return Poll::Ready(self.standing());
        }
        let mut driver = self.entry.driver.borrow_mut();
        match &mut *driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// What is to become of it.
    pub fn standing(&self) -> Standing {
        self.entry.standing.borrow().clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.known.borrow_mut().try_remove(self.key);
        // One in the set, one here.
        if Rc::strong_count(&self.entry.chain) <= 2 {
            self.sessions.chains.borrow_mut().remove(&self.entry.chain);
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("known", &self.known.borrow().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("standing", &self.entry.standing.borrow()).finish_non_exhaustive()
    }
}
