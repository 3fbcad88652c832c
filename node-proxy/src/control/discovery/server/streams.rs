//! All streams that are open, and the shelf that they read from.
//!
//! The lock of the shelf is taken before that of a stream. Whoever holds either must never wait for a node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use config::{
    discovery::{Kind, Shelf, Site},
    model::Mesh,
};
use tokio::sync::Notify;

use super::{
    super::protocol::Request,
    change::Change,
    figures::Figures,
    nacks::{Nacks, quoted},
    stream::{Next, Notice, Proof, Refusal, Stream},
};

/// The shelf and its readers.
#[derive(Debug)]
pub struct Streams {
    shelf: Mutex<Stocked>,
    open: Mutex<Open>,
    nacks: Nacks,
    figures: Arc<Figures>,
}

#[derive(Debug)]
struct Stocked {
    shelf: Shelf,
    /// The version of the mesh on it. Without one, nothing is sent: an empty mesh would take away what nodes have.
    version: Option<u64>,
}

#[derive(Debug, Default)]
struct Open {
    streams: HashMap<u64, Arc<Entry>>,
    counter: u64,
}

#[derive(Debug)]
struct Entry {
    stream: Mutex<Stream>,
    wake: Notify,
}

/// A stream's place. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Streams>,
    entry: Arc<Entry>,
    number: u64,
    peer: String,
    /// What the node calls itself, for the log.
    node: OnceLock<String>,
}

impl Streams {
    /// Nobody yet, and nothing to read.
    pub fn new(site: Site) -> Self {
        Self {
            shelf: Mutex::new(Stocked { shelf: Shelf::new(site), version: None }),
            open: Mutex::default(),
            nacks: Nacks::default(),
            figures: Arc::default(),
        }
    }

    /// What is counted.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Puts a mesh on the shelf, and tells the streams.
    pub fn stock(&self, mesh: &Arc<Mesh>) {
        let mut stocked = locked(&self.shelf);
        let changed = stocked.shelf.stock(mesh);
        let is_first = stocked.version.replace(mesh.version).is_none();
        self.figures.stocked(mesh);
        let change = Change::of_shelf(&stocked.shelf, changed);
        if change.is_empty() && !is_first {
            return;
        }
        for entry in locked(&self.open).streams.values() {
            if locked(&entry.stream).note(&change, &stocked.shelf) || is_first {
                entry.wake.notify_one();
            }
        }
    }

    /// A place for one more stream, if there is one. `peer` is for the log.
    pub(super) fn open(self: &Arc<Self>, proof: Proof, peer: String) -> Option<Place> {
        let mut open = locked(&self.open);
        if open.streams.len() >= MOST {
            return None;
        }
        open.counter += 1;
        let number = open.counter;
        let entry = Arc::new(Entry { stream: Mutex::new(Stream::new(proof)), wake: Notify::new() });
        open.streams.insert(number, Arc::clone(&entry));
        self.figures.open(open.streams.len());
        Some(Place { streams: Arc::clone(self), entry, number, peer, node: OnceLock::new() })
    }
}

impl Place {
    /// Takes in what the node says.
    pub(super) fn hear(&self, request: &Request) -> Result<(), Refusal> {
        if let Some(node) = &request.node {
            self.node.get_or_init(|| quoted(&node.id));
        }
        let notices = {
            let stocked = locked(&self.streams.shelf);
            locked(&self.entry.stream).hear(request, &stocked.shelf)?
        };
        for notice in notices {
            self.log(&notice);
        }
        Ok(())
    }

    /// What is to be done next.
    pub(super) fn next(&self) -> Next {
        let stocked = locked(&self.streams.shelf);
        let Some(version) = stocked.version else { return Next::Wait };
        let mut stream = locked(&self.entry.stream);
        let before = stream.encoded();
        let next = stream.next(&stocked.shelf);
        self.streams.figures.encoded(stream.encoded() - before);
        match next {
            Next::Send(kind, mut response) => {
                response.system_version.insert_str(0, &version.to_string());
                if let Some(kind) = kind {
                    self.streams.figures.sent(kind, prost::Message::encoded_len(&response));
                }
                Next::Send(kind, response)
            }
            next => next,
        }
    }

    /// Returns when there may be something to send.
    pub(super) async fn woken(&self) {
        self.entry.wake.notified().await;
    }

    /// Whether the node owes an answer to a response of a type.
    pub(super) fn awaits_answer(&self, kind: Kind) -> bool {
        locked(&self.entry.stream).awaits_answer(kind)
    }

    /// Whether the node has said anything.
    pub(super) fn has_begun(&self) -> bool {
        locked(&self.entry.stream).has_begun()
    }

    fn log(&self, notice: &Notice) {
        let (streams, peer) = (&self.streams, &*self.peer);
        let node = self.node.get();
        match notice {
            Notice::Nack { kind, message, .. } => {
                streams.figures.nack(*kind);
                if streams.nacks.is_new(notice) {
                    let (kind, message) = (kind.type_url(), quoted(message));
                    tracing::warn!(
                        peer,
                        node,
                        kind,
                        message,
                        "a node did not take a response; it keeps what it had"
                    );
                }
            }
            Notice::Strange { type_url } => {
                let kind = quoted(type_url);
                tracing::warn!(
                    peer,
                    node,
                    kind,
                    "a type is asked for that is not served here; it is answered as empty"
                );
            }
            Notice::Misnamed { name } => {
                let name = quoted(name);
                tracing::warn!(
                    peer,
                    node,
                    name,
                    "a node gives a name that is none (NODE_NAME); it is told no probes"
                );
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = locked(&self.streams.open);
        open.streams.remove(&self.number);
        self.streams.figures.open(open.streams.len());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Streams that are open at a time.
const MOST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_streams_are_open_and_no_more_until_one_ends() {
        let site = Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
        let streams = Arc::new(Streams::new(site));
        let open = || streams.open(Proof::Nothing, String::new());
        let mut places: Vec<_> = (0..MOST).map(|_| open().unwrap()).collect();
        assert!(open().is_none());
        assert_eq!(streams.figures().streams(), MOST as u64);
        drop(places.pop());
        assert!(open().is_some());
    }
}
