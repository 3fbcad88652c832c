//! The daemon's half: has signed, or opened, what one cell in a process of its own asks for, and tells it what is trusted.
//!
//! The cell is not trusted. It has certificates of its tenant's own workloads on this node and of nobody else, however it asks;
//! it cannot ask faster than others can bear, and what cannot be read ends the conversation.

use std::{collections::HashMap, sync::Arc, time::Duration};

use config::identity::Identity;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Aborted, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    super::{AuthorityError, Issued, OnBehalf},
    wire::{Ask, Parcel, Tell, WireError},
};
use crate::identity::{
    credentials::Sources,
    trust::{Revocations, Roots},
};

/// Questions that may wait to be read: what the channel of [`Line::asks`] is made with. Whoever fills it may drop what follows;
/// the cell asks again.
pub const WAITING: usize = 256;
/// Questions of one cell that are under way at a time, so that it takes little of what all wait for.
const AT_ONCE: usize = 8;
/// For as long after its answer a question keeps its place: a cell has at most 80 certificates a second.
const REST: Duration = Duration::from_millis(100);

/// What goes to and fro.
#[derive(Debug)]
pub struct Line {
    /// The bytes of the cell's questions.
    pub asks: mpsc::Receiver<Vec<u8>>,
    /// What it is told.
    pub tells: mpsc::Sender<Parcel>,
}

/// Serves a cell until it is gone. `is_its_own` says whether a workload of its tenant on this node has an identity.
///
/// An error means that the cell said what no cell of this build says.
pub async fn serve(
    sources: Sources,
    mut line: Line,
    is_its_own: impl Fn(&Identity) -> bool,
) -> Result<(), WireError> {
    let mut desk = Desk::new(sources.authority.on_behalf());
    let (mut roots, mut revocations) = (sources.authority.roots(), sources.revocations.clone());
    roots.mark_changed();
    revocations.mark_changed();
    loop {
        let parcel = tokio::select! {
            (bytes, place) = desk.next(&mut line.asks) => {
                let Some(bytes) = bytes else { return Ok(()) };
                desk.take(Ask::decode(&bytes)?, place, &is_its_own);
                continue;
            }
            Some((parcel, place)) = desk.answers.next() => {
                desk.resting.push(rest(place).boxed());
                parcel?
            }
            Some(()) = desk.resting.next() => continue,
            Some(newer) = desk.newer.next() => {
                let Ok(identity) = newer else { continue };
                desk.followed.remove(&identity);
                plain(&Tell::Newer(identity))?
            }
            Ok(()) = roots.changed() => {
                let known = roots.borrow_and_update().clone();
                let Some(known) = known else { continue };
                of_roots(&known)?
            }
            Ok(()) = revocations.changed() => {
                let lists = Arc::clone(&revocations.borrow_and_update());
                of_revocations(&lists)?
            }
        };
        if line.tells.send(parcel).await.is_err() {
            return Ok(());
        }
    }
}

/// What is under way for one cell.
struct Desk {
    behalf: Option<Arc<dyn OnBehalf>>,
    places: Arc<Semaphore>,
    answers: FuturesUnordered<BoxFuture<'static, (Result<Parcel, WireError>, OwnedSemaphorePermit)>>,
    resting: FuturesUnordered<BoxFuture<'static, ()>>,
    newer: FuturesUnordered<BoxFuture<'static, Result<Identity, Aborted>>>,
    /// What ends the wait for a newer one of each.
    followed: HashMap<Identity, AbortHandle>,
}

impl Desk {
    fn new(behalf: Option<Arc<dyn OnBehalf>>) -> Self {
        Self {
            behalf,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            answers: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            newer: FuturesUnordered::new(),
            followed: HashMap::new(),
        }
    }

    /// The next question, once there is a place for it.
    fn next<'a>(
        &self,
        asks: &'a mut mpsc::Receiver<Vec<u8>>,
    ) -> impl Future<Output = (Option<Vec<u8>>, Option<OwnedSemaphorePermit>)> + use<'a> {
        let places = Arc::clone(&self.places);
        async move {
            // Never closed.
            let place = places.acquire_owned().await.ok();
            (asks.recv().await, place)
        }
    }

    fn take(
        &mut self,
        ask: Ask,
        place: Option<OwnedSemaphorePermit>,
        is_its_own: impl Fn(&Identity) -> bool,
    ) {
        let Some(place) = place else { return };
        let Ask { number, identity, request } = ask;
        // Its last workload here has gone: nobody uses a newer one.
        self.followed.retain(|identity, wait| {
            let stays = is_its_own(identity);
            if !stays {
                wait.abort();
            }
            stays
        });
        let refused = if is_its_own(&identity) {
            None
        } else {
            Some(AuthorityError::Refused(format!("{identity} has no workload of this tenant on this node")))
        };
        let nobody =
            || AuthorityError::Refused("this source serves no cell in a process of its own".to_owned());
        let issued = match (refused, &self.behalf) {
            (Some(refused), _) => futures_util::future::ready(Err(refused)).boxed(),
            (None, None) => futures_util::future::ready(Err(nobody())).boxed(),
            (None, Some(behalf)) => {
                if !self.followed.contains_key(&identity) {
                    let whose = identity.clone();
                    let (newer, wait) = abortable(behalf.newer(&identity).map(|()| whose));
                    self.newer.push(newer.boxed());
                    self.followed.insert(identity.clone(), wait);
                }
                behalf.issue(&identity, request)
            }
        };
        self.answers.push(async move { (answer(number, issued.await), place) }.boxed());
    }
}

async fn rest(place: OwnedSemaphorePermit) {
    tokio::time::sleep(REST).await;
    drop(place);
}

fn answer(number: u64, issued: Result<Issued, AuthorityError>) -> Result<Parcel, WireError> {
    match issued {
        Ok(Issued::Chain(chain)) => {
            plain(&Tell::Chain { number, chain: chain.iter().map(|der| der.to_vec()).collect() })
        }
        Ok(Issued::Files(opened)) => Ok(Parcel {
            bytes: Tell::Files { number }.encode()?,
            descriptors: opened.into_descriptors().into(),
        }),
        Err(error) => plain(&Tell::No { number, why: error.into() }),
    }
}

fn of_roots(roots: &Roots) -> Result<Parcel, WireError> {
    plain(&Tell::Roots(roots.certificates().iter().map(|der| der.to_vec()).collect()))
}

/// The lists may be large, so they go as a descriptor of sealed memory.
fn of_revocations(lists: &Revocations) -> Result<Parcel, WireError> {
    let sealed = lists.sealed().map(|file| file.try_clone().map(Into::into)).transpose();
    let sealed = sealed.map_err(|error| WireError::Useless(error.to_string()))?;
    let descriptors = sealed.into_iter().collect();
    Ok(Parcel { bytes: Tell::Revocations.encode()?, descriptors })
}

fn plain(tell: &Tell) -> Result<Parcel, WireError> {
    Ok(Parcel { bytes: tell.encode()?, descriptors: Vec::new() })
}
