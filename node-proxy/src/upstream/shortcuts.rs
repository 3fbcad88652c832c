//! Connections of this cell that pass by who would refuse them: straight to a neighbour's app, by hand to another tenant's cell,
//! or to an endpoint outside of the mesh. So it is here that they end when a change of configuration takes their permission
//! away, or the receiver has gone.
//!
//! Each is known from when it was made until it is dropped. What is here must never keep a connection alive.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use config::model::Workload;
use slab::Slab;

use crate::{
    capture::Tree,
    handoff,
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
    /// The receiver.
    pub to: Goal,
    /// The app's address.
    pub address: SocketAddr,
}

/// Where a connection goes that nobody else sees.
#[derive(Debug, Clone)]
pub enum Goal {
    /// To the app of this tree of the cell.
    Neighbour(Rc<Tree>),
    /// To the cell of another tenant of the node, which answers for this workload's app.
    Guest(Arc<Workload>),
    /// Out of the mesh.
    Outside,
}

impl Goal {
    /// Whether it is the app of this tree.
    pub fn is_tree(&self, tree: u64) -> bool {
        matches!(self, Self::Neighbour(to) if to.id == tree)
    }
}

#[derive(Debug)]
struct Entry {
    ends: Ends,
    /// What carries it, where that is no socket.
    pipe: Option<handoff::Handle>,
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
    to: Goal,
    _socket: Option<Registered>,
}

impl Shortcuts {
    /// Takes in a connection. `None` for one that neither socket nor pipe carries: it ends where its bytes come from.
    pub fn enter(&self, permit: &Permit, to: Goal, address: SocketAddr, stream: &Stream) -> Option<Shortcut> {
        let (socket, pipe) = (stream.socket(), stream.pipe());
        if socket.is_none() && pipe.is_none() {
            return None;
        }
        let revoked = Rc::new(Revoked::new());
        let ends = Ends {
            from: Rc::clone(&permit.tree),
            caller: Arc::clone(&permit.caller),
            client: permit.origin.client,
            to: to.clone(),
            address,
        };
        let key = self.known.borrow_mut().insert(Entry { ends, pipe, revoked: Rc::clone(&revoked) });
        let socket = socket.map(|socket| self.sockets.register(socket, key as u64));
        Some(Shortcut { shortcuts: self.clone(), key, revoked, to, _socket: socket })
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
        for (key, entry) in known.iter().filter(|(_, entry)| entry.ends.to.is_tree(tree)) {
            self.end(key, entry, Why::Other(reason));
        }
    }

    /// The first reason counts.
    fn end(&self, key: usize, entry: &Entry, why: Why) {
        let reason = why.reason();
        if entry.revoked.set(why).is_err() {
            return;
        }
        match &entry.pipe {
            Some(pipe) => pipe.abort(reason),
            None => drop(self.sockets.shut_down(key as u64)),
        }
    }
}

impl Shortcut {
    /// Is not known here any more; who it went to must be remembered elsewhere.
    pub fn leave(self) -> Goal {
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
