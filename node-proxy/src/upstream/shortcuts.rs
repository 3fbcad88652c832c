//! Connections of this cell that nobody else of the mesh sees: straight to a neighbour's app, or to an endpoint outside of the
//! mesh. So it is here that they end when a change of configuration takes their permission away, or the receiver has gone.
//!
//! Each is known from when it was made until it is dropped. What is here must never keep a connection alive.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use slab::Slab;

use crate::{
    capture::Tree,
    identity::Caller,
    policy::{Denied, Permit},
    stream::Stream,
    sys::sockets::{Registered, Sockets},
    telemetry::Reason,
};

/// The connections of one cell. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shortcuts {
    known: Rc<RefCell<Slab<Entry>>>,
    sockets: Sockets,
}

/// A connection that was made: who calls whom.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The tree on whose behalf.
    pub from: Rc<Tree>,
    /// As whom it speaks.
    pub caller: Arc<Caller>,
    /// Its address.
    pub client: SocketAddr,
    /// The receiver; `None` outside of the mesh.
    pub to: Option<Rc<Tree>>,
    /// The app's address.
    pub address: SocketAddr,
}

#[derive(Debug)]
struct Entry {
    ends: Ends,
    revoked: Rc<Revoked>,
}

/// Why a connection was ended from here, if it was.
pub type Revoked = OnceCell<Why>;

/// Why a connection was ended from here.
#[derive(Debug, Clone)]
pub enum Why {
    /// It is not permitted any more.
    Denied(Denied),
    /// Another reason.
    Other(Reason),
}

impl Why {
    /// The reason in log and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Denied(denied) => denied.reason(),
            Self::Other(reason) => *reason,
        }
    }

    /// Who denied it, for the log.
    pub fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Denied(denied) => Some(denied),
            Self::Other(_) => None,
        }
    }
}

/// Keeps a connection known.
#[derive(Debug)]
pub struct Shortcut {
    shortcuts: Shortcuts,
    key: usize,
    revoked: Rc<Revoked>,
    to: Option<Rc<Tree>>,
    _socket: Registered,
}

impl Shortcuts {
    /// Takes in a connection to a neighbour, or out of the mesh. `None` for one that no socket carries: it ends where its bytes come from.
    pub fn enter(
        &self,
        permit: &Permit,
        to: Option<&Rc<Tree>>,
        address: SocketAddr,
        stream: &Stream,
    ) -> Option<Shortcut> {
        let socket = stream.socket()?;
        let revoked = Rc::new(Revoked::new());
        let ends = Ends {
            from: Rc::clone(&permit.tree),
            caller: Arc::clone(&permit.caller),
            client: permit.origin.client,
            to: to.cloned(),
            address,
        };
        let key = self.known.borrow_mut().insert(Entry { ends, revoked: Rc::clone(&revoked) });
        let socket = self.sockets.register(socket, key as u64);
        Some(Shortcut { shortcuts: self.clone(), key, revoked, to: to.cloned(), _socket: socket })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.borrow().is_empty()
    }

    /// Ends those that `judge` does not permit any more, and names their ends.
    pub fn reconsider(&self, judge: impl Fn(&Ends) -> Result<(), Denied>) -> Vec<Ends> {
        let known = self.known.borrow();
        let mut ended = Vec::new();
        for (key, entry) in known.iter().filter(|(_, entry)| entry.revoked.get().is_none()) {
            if let Err(denied) = judge(&entry.ends) {
                self.end(key, entry, Why::Denied(denied));
                ended.push(entry.ends.clone());
            }
        }
        ended
    }

    /// Ends those that go to a tree's app.
    pub fn close_to(&self, tree: u64, reason: Reason) {
        let known = self.known.borrow();
        let goes_there = |entry: &Entry| entry.ends.to.as_ref().is_some_and(|to| to.id == tree);
        for (key, entry) in known.iter().filter(|(_, entry)| goes_there(entry)) {
            self.end(key, entry, Why::Other(reason));
        }
    }

    /// The first reason counts.
    fn end(&self, key: usize, entry: &Entry, why: Why) {
        if entry.revoked.set(why).is_ok() {
            self.sockets.shut_down(key as u64);
        }
    }
}

impl Shortcut {
    /// Is not known here any more; who it went to must be remembered elsewhere.
    pub fn leave(self) -> Option<Rc<Tree>> {
        self.to.clone()
    }

    /// Why it was ended from here; to be asked when it ends.
    pub fn revoked(&self) -> &Rc<Revoked> {
        &self.revoked
    }
}

impl Drop for Shortcut {
    fn drop(&mut self) {
        self.shortcuts.known.borrow_mut().try_remove(self.key);
    }
}
