//! Tunnels to pods of other nodes: mutual TLS to port 15008 of the pod, kept for the next connection of the same workload to it.
//!
//! One pool per cell, `!Send`. A tunnel is only ever used by the tree whose identity it was made with, and only towards the pod that
//! its address meant when it was made. It must never hold up one peer because of another.

use std::{
    cell::{Cell as Slot, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use config::{identity::Identity, model::Workload};
use ebpf_redirect::Side;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use self::connection::Connection;
use super::UpstreamError;
use crate::{
    capture::Tree,
    cell::{Cell, Place, Places},
    hbone::{Tunnel, fields::TraceId},
    policy::Permit,
    tenancy::TunnelGuard,
};

mod connection;
mod offer;

/// Who can share a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The tree on whose behalf it is made: its pod, its identity, its address.
    pub tree: u64,
    /// Where the peer's tunnels end.
    pub address: SocketAddr,
    /// Who must prove to be there.
    pub allowed: Identity,
    /// The very pod: an address that is re-used belongs to another.
    pub uid: Option<String>,
}

/// Who is called.
#[derive(Debug, Clone, Copy)]
pub struct Callee<'a> {
    /// The workload.
    pub workload: &'a Arc<Workload>,
    /// Its address and port, as its own app has them.
    pub target: SocketAddr,
    /// The trace that the call is part of.
    pub trace: TraceId,
}

/// The tunnels of one cell.
#[derive(Debug, Default)]
pub struct Tunnels {
    lines: RefCell<HashMap<Key, Rc<Line>>>,
    sweeping: Slot<bool>,
    /// By the peer's address.
    places: Rc<Places<IpAddr>>,
}

/// Held for as long as a tunnel takes a socket.
pub(super) type Held = (Place<IpAddr>, TunnelGuard);

/// The tunnels of one key.
#[derive(Debug, Default)]
struct Line {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while one is being made: who waits will share it.
    connecting: Mutex<()>,
    /// The last failure to make one, and when.
    failed: RefCell<Option<(Instant, UpstreamError)>>,
    /// Nobody is to use it again: the pod at one of its ends is gone.
    retired: Slot<bool>,
}

impl Key {
    fn of(tree: &Tree, callee: Callee<'_>) -> Self {
        Self {
            tree: tree.id,
            address: SocketAddr::new(callee.target.ip(), crate::hbone::PORT),
            allowed: callee.workload.identity.clone(),
            uid: callee.workload.uid.clone(),
        }
    }

    /// Whether a tunnel of this key is made by a tree's pod, or ends there.
    pub fn is_of(&self, tree: &Tree) -> bool {
        self.tree == tree.id || tree.workload.addresses.contains(&self.address.ip())
    }
}

impl Tunnels {
    /// A stream to `callee`, of a tunnel that is there or of a new one; answered: the far end is connected to its app.
    pub async fn open(
        self: &Rc<Self>,
        cell: &Cell,
        permit: &Permit,
        callee: Callee<'_>,
    ) -> Result<Tunnel, UpstreamError> {
        if !cell.limits.shared_tunnels {
            let alone = Connection::open(cell, permit, callee).await?;
            return alone.connect(cell, offer::request(cell, permit, callee)).await;
        }
        let line = self.line(Key::of(&permit.tree, callee));
        let mut reused = true;
        loop {
            let connection = match line.ready().filter(|_| reused) {
                Some(connection) => connection,
                None => {
                    let made = line.lease(cell, permit, callee, &mut reused).await?;
                    self.keep_swept(cell.limits.tunnel_idle);
                    made
                }
            };
            match connection.connect(cell, offer::request(cell, permit, callee)).await {
                // The peer has not looked at it: the tunnel was about to end. Once more, on one that is new.
                Err(error) if reused && connection.is_ending() => {
                    tracing::debug!(%error, "a tunnel ended before its peer took up a new stream");
                    reused = false;
                }
                answered => return answered,
            }
        }
    }

    /// Room for one more tunnel to a peer's address.
    fn place(&self, cell: &Cell, peer: IpAddr) -> Option<Held> {
        let place = self.places.take(peer.to_canonical(), cell.limits.tunnels)?;
        Some((place, TunnelGuard::open(&cell.ledger, Side::Outbound)))
    }

    /// Connections held.
    pub fn connections(&self) -> usize {
        self.lines.borrow().values().map(|line| line.connections.borrow().len()).sum()
    }

    /// Closes so many, at most, that nothing runs through. Gives how many.
    pub fn give_way(&self, tunnels: usize) -> usize {
        let mut left = tunnels;
        for line in self.lines.borrow().values() {
            line.connections.borrow_mut().retain(|connection| {
                let closed = left > 0 && Rc::strong_count(connection) == 1 && connection.is_unused();
                left -= usize::from(closed);
                !closed
            });
            if left == 0 {
                break;
            }
        }
        tunnels - left
    }

    /// Opens no stream again on tunnels of these keys that were made until now. Streams that are open go on.
    pub fn retire(&self, mut gone: impl FnMut(&Key) -> bool) {
        self.lines.borrow_mut().retain(|key, line| {
            let retired = gone(key);
            if retired {
                line.retired.set(true);
                line.connections.take();
            }
            !retired
        });
    }

    /// Opens no stream again on tunnels to these addresses, if they do not mean the same pod any more.
    pub fn retire_addresses(&self, mut gone: impl FnMut(IpAddr) -> bool) {
        self.retire(|key| gone(key.address.ip()));
    }

    fn line(&self, key: Key) -> Rc<Line> {
        Rc::clone(self.lines.borrow_mut().entry(key).or_default())
    }

    /// One task per pool, while there is anything in it, lets go of what is broken or has been unused for too long.
    fn keep_swept(self: &Rc<Self>, unused: Duration) {
        if self.sweeping.replace(true) {
            return;
        }
        let tunnels = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                sleep(SWEEP_EVERY).await;
                let Some(tunnels) = tunnels.upgrade() else { return };
                tunnels.sweep(unused);
                if tunnels.lines.borrow().is_empty() {
                    tunnels.sweeping.set(false);
                    return;
                }
            }
        });
    }

    fn sweep(&self, unused: Duration) {
        self.lines.borrow_mut().retain(|_, line| {
            line.connections.borrow_mut().retain(|connection| connection.is_worth_keeping(unused));
            Rc::strong_count(line) > 1 || !line.connections.borrow().is_empty()
        });
    }
}

impl Line {
    fn ready(&self) -> Option<Rc<Connection>> {
        self.connections.borrow().iter().find(|connection| connection.has_room()).map(Rc::clone)
    }

    /// One that is there, or a new one; of many that come at once one makes it, the others wait and share its failure too.
    async fn lease(
        &self,
        cell: &Cell,
        permit: &Permit,
        callee: Callee<'_>,
        reused: &mut bool,
    ) -> Result<Rc<Connection>, UpstreamError> {
        let since = Instant::now();
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.ready() {
            *reused = true;
            return Ok(connection);
        }
        if let Some((at, error)) = &*self.failed.borrow()
            && *at > since
        {
            return Err(error.shared());
        }
        *reused = false;
        match Connection::open(cell, permit, callee).await {
            Ok(connection) => {
                let mut connections = self.connections.borrow_mut();
                let unused = cell.limits.tunnel_idle;
                connections.retain(|connection| connection.is_worth_keeping(unused));
                if !self.retired.get() {
                    connections.push(Rc::clone(&connection));
                }
                Ok(connection)
            }
            Err(error) => {
                self.failed.replace(Some((Instant::now(), error.shared())));
                Err(error)
            }
        }
    }
}

/// How often tunnels are looked at: what is idle on one whose peer wants it to end is closed soon, so that the peer need not
/// wait for it.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
