//! Certificates for a cell that is a process of its own: asked for in bytes, signed or opened by the daemon.
//!
//! The key is made in the cell, and its signing request is all that leaves it; or it lies in a file, which the daemon opens and the
//! cell reads. What is trusted, and what was revoked, is told by the daemon. Of SPIRE such a cell has nothing: its agent gives
//! whoever may ask it *every* identity of the node, so a cell that is not to be trusted must not have that socket.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use config::identity::Identity;
use futures_util::future::LocalBoxFuture;
use rustls::{pki_types::CertificateDer, time_provider::DefaultTimeProvider};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use self::wire::{Ask, Tell};
use super::{
    AuthorityError, Certificate, CertificateAuthority, CertificateSource, Issued, Opened, Request, Wanted,
};
use crate::identity::{
    credentials::Sources,
    trust::{Revocations, Roots},
};

pub use self::wire::{Parcel, WireError};

pub mod desk;

mod wire;

/// What a cell has to know of the source before it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// As the daemon names it.
    pub authority: String,
    /// Whether the cell makes its keys.
    pub signs: bool,
}

impl Terms {
    /// Those of an authority; `None` where it can do nothing for a cell in a process of its own.
    pub fn of(authority: &dyn CertificateAuthority) -> Option<Self> {
        let signs = authority.on_behalf()?.signs();
        Some(Self { authority: authority.name().to_owned(), signs })
    }
}

/// The daemon's authority, as seen from the cell's process.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: &'static str,
    signs: bool,
    asks: mpsc::Sender<Vec<u8>>,
    number: AtomicU64,
    /// Never held while anything else is done.
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// How often each identity had a newer certificate.
    newer: watch::Sender<BTreeMap<Identity, u64>>,
    roots: watch::Sender<Option<Arc<Roots>>>,
    revocations: watch::Sender<Arc<Revocations>>,
}

type Waiting = oneshot::Sender<Result<Issued, AuthorityError>>;

impl Remote {
    /// Asks through `asks`; what is told comes to [`told`](Self::told).
    pub fn new(terms: &Terms, asks: mpsc::Sender<Vec<u8>>) -> Self {
        let name = NAMES.into_iter().find(|name| *name == terms.authority).unwrap_or("remote");
        Self(Arc::new(Shared {
            name,
            signs: terms.signs,
            asks,
            number: AtomicU64::new(0),
            waiting: Mutex::default(),
            newer: watch::Sender::default(),
            roots: watch::Sender::default(),
            revocations: watch::Sender::default(),
        }))
    }

    /// What the cell is given.
    pub fn sources(&self) -> Sources {
        Sources {
            authority: Arc::new(self.clone()),
            revocations: self.0.revocations.subscribe(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }

    /// Takes what the daemon says.
    pub fn told(&self, parcel: Parcel) -> Result<(), WireError> {
        let Parcel { bytes, descriptors } = parcel;
        let tell = Tell::decode(&bytes)?;
        match (tell, descriptors.len()) {
            (Tell::Chain { number, chain }, 0) => {
                self.answer(number, Ok(Issued::Chain(chain.into_iter().map(CertificateDer::from).collect())));
            }
            (Tell::Files { number }, _) => {
                let descriptors = descriptors.try_into().map_err(|_| WireError::Descriptors)?;
                self.answer(number, Ok(Issued::Files(Opened::from_descriptors(descriptors))));
            }
            (Tell::No { number, why }, 0) => self.answer(number, Err(why.into())),
            (Tell::Newer(identity), 0) => {
                self.0.newer.send_modify(|newer| *newer.entry(identity).or_default() += 1);
            }
            (Tell::Roots(roots), 0) => {
                let roots = Roots::new(roots.into_iter().map(CertificateDer::from));
                let roots = roots.map_err(|error| WireError::Useless(error.to_string()))?;
                self.0.roots.send_replace(Some(Arc::new(roots)));
            }
            (Tell::Revocations, 0 | 1) => {
                let lists = descriptors.into_iter().next().map(|sealed| {
                    Revocations::from_sealed(&File::from(sealed))
                        .map_err(|error| WireError::Useless(error.to_string()))
                });
                self.0.revocations.send_replace(Arc::new(lists.transpose()?.unwrap_or_default()));
            }
            _ => return Err(WireError::Descriptors),
        }
        Ok(())
    }

    fn answer(&self, number: u64, issued: Result<Issued, AuthorityError>) {
        if let Some(waiting) = self.0.waiting().remove(&number) {
            // Who asked may have given up.
            drop(waiting.send(issued));
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        // What a panic left is whole: each change is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, identity: &Identity, request: Vec<u8>) -> Result<Issued, AuthorityError> {
        let gone = || AuthorityError::Unavailable("the daemon does not listen".to_owned());
        let number = self.number.fetch_add(1, Relaxed);
        let ask = Ask { number, identity: identity.clone(), request };
        let bytes = ask.encode().map_err(|error| AuthorityError::Unavailable(error.to_string()))?;
        let (answer, issued) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.retain(|_, waiting| !waiting.is_closed());
            waiting.insert(number, answer);
        }
        self.asks.try_send(bytes).map_err(|_| gone())?;
        issued.await.map_err(|_| gone())?
    }
}

impl CertificateAuthority for Remote {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(Source {
            identity: wanted.identity.clone(),
            shared: Arc::clone(&self.0),
            newer: self.0.newer.subscribe(),
            seen: 0,
        })
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.0.roots.subscribe()
    }
}

/// One identity's, in its cell.
struct Source {
    identity: Identity,
    shared: Arc<Shared>,
    newer: watch::Receiver<BTreeMap<Identity, u64>>,
    seen: u64,
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            self.seen = self.newer.borrow().get(&self.identity).copied().unwrap_or_default();
            let request = if self.shared.signs { Some(Request::new(&self.identity)?) } else { None };
            let bytes = request.as_ref().map(|request| request.der().to_vec()).unwrap_or_default();
            match (self.shared.ask(&self.identity, bytes).await?, request) {
                (Issued::Chain(chain), Some(request)) => Ok(request.fulfil(chain)?),
                (Issued::Files(opened), None) => opened.read(&self.identity),
                _ => Err(AuthorityError::Unavailable("what was answered was not asked".to_owned())),
            }
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            let (identity, seen) = (&self.identity, self.seen);
            let is_newer =
                |newer: &BTreeMap<Identity, u64>| newer.get(identity).is_some_and(|count| *count > seen);
            if self.newer.wait_for(is_newer).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// Names of the sources, as their own files have them.
const NAMES: [&str; 4] = ["embedded", "files", "istio", "spire"];

#[cfg(test)]
mod tests;
