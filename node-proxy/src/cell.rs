//! What one cell's connections share: snapshot, balancer, upstream connections, ledger, log. One per lane, `!Send`.
//!
//! It must never hold anything of another tenant.

use std::{
    cell::{Cell as Slot, OnceCell, Ref, RefCell},
    collections::HashMap,
    fmt,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use config::name::{PodName, TenantId};
use ebpf_redirect::{Redirect, Side};
use serde::{Deserialize, Serialize};

use crate::{
    balance::Balancer,
    capture::Tree,
    handoff::Board,
    hbone::Site,
    identity::credentials::{Credentials, Kept, Sources},
    snapshot::Snapshot,
    stream::farewell::Patience,
    sys::{netns::Netns, sockets::Sockets},
    telemetry::AccessLog,
    tenancy::{Ledger, Payers, Permits, Share, Tenure, TunnelGuard},
    upstream::{
        Delivery,
        connect::{Connect, Kernel},
        handoff::Calls,
        pool::{Pool, Settings},
        shortcuts::Shortcuts,
        tunnel::Tunnels,
    },
};

pub(crate) use self::live::direction;
pub use self::{
    finder::{Find, Finder, Found},
    handshakes::{Handshake, Handshakes, PushedOut},
    live::{Live, LiveGuard, Registry},
    room::Seat,
};
pub use crate::tenancy::{Bound, Place, Places};

pub(crate) mod finder;
mod handshakes;
mod live;
mod pressure;
mod room;

/// The data-path state of one lane of one tenant.
#[derive(Debug)]
pub struct Cell {
    /// Whose it is.
    pub tenant: TenantId,
    /// Steering: exemption of own sockets, origin of accepted ones.
    pub redirect: Arc<dyn Redirect>,
    /// Endpoint state.
    pub balancer: Rc<Balancer>,
    /// What has been used.
    pub ledger: Arc<Ledger>,
    /// Where log lines go.
    pub access_log: AccessLog,
    /// Bounds and time-outs.
    pub limits: Limits,
    /// The cluster that it is in.
    pub site: Arc<Site>,
    /// The namespace this lane's thread lives in.
    pub home: Netns,
    /// Whether it is still this tenant's cell; asked before every stage that begins something.
    pub tenure: Tenure,
    /// Its accepted sockets, for the supervisor to shut down when the cell is stuck.
    pub sockets: Sockets,
    /// HTTP connections to endpoints.
    pub pool: Rc<Pool>,
    /// Tunnels to peers of other nodes.
    pub tunnels: Rc<Tunnels>,
    /// Its connections straight to neighbours' apps.
    pub shortcuts: Shortcuts,
    /// Who of its workloads pays for what is done.
    pub payers: Payers,
    /// What it may take of the process's descriptors, and has taken.
    pub share: Share,
    /// What its budget lets in.
    pub permits: Permits,
    scale: pressure::Scale,
    /// How upstream connections are made.
    pub connect: Rc<dyn Connect>,
    /// The connections of now.
    pub live: Registry,
    /// The certificates of its identities.
    pub credentials: Rc<Credentials>,
    /// Who says what a destination is that the snapshot does not have.
    pub finder: Finder,
    /// Handoffs that wait for an answer.
    pub calls: Calls,
    /// Counts up with whatever may change the choice of a delivery.
    epoch: Slot<u64>,
    board: RefCell<Arc<Board>>,
    /// Trees that take handoffs, by number; also those that were uprooted a moment ago.
    doors: RefCell<HashMap<u64, Rc<Tree>>>,
    snapshot: RefCell<Arc<Snapshot>>,
    trees: RefCell<HashMap<PodName, (Rc<Tree>, Kept)>>,
    /// Of accepted tunnels, under way.
    handshakes: Rc<Handshakes>,
    /// Accepted, by the peer's address.
    arrived: Rc<Places<IpAddr>>,
    draining: Slot<bool>,
    panic_hook: PanicHook,
}

/// Bounds and time-outs of the data path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// How long the first bytes of an undeclared protocol are waited for.
    pub detect: Duration,
    /// How long a request's head may take.
    pub head: Duration,
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a tunnel's handshake may take, TLS and HTTP/2 together.
    pub handshake: Duration,
    /// Handshakes of accepted tunnels under way at a time, in this cell and for each tree; of one peer's address half as many
    /// as for a tree.
    pub handshakes: Bound,
    /// Tunnels open at a time, each way, in this cell and with each peer's address.
    pub tunnels: Bound,
    /// How long a tunnel without streams is kept.
    pub tunnel_idle: Duration,
    /// How long after an answer a tunnel's peer is asked again whether it is there. It may take twice as long to answer.
    pub tunnel_keepalive: Duration,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged.
    pub unacknowledged: Duration,
    /// How long a connection may be idle in the pool.
    pub pool_idle: Duration,
    /// How long a client may be silent that was asked to let go of its connection and has nothing under way on it.
    pub farewell: Duration,
    /// How long a relayed connection may be silent in both directions; `None` is for ever.
    pub idle: Option<Duration>,
    /// Bytes of a request's or response's head.
    pub head_bytes: usize,
    /// Connections open at a time, in this cell, and as many sockets to elsewhere; until it is told otherwise.
    pub connections: usize,
    /// The same for every cell, where the operator has said it; otherwise it is a share of the descriptors.
    pub connections_told: Option<usize>,
    /// Whether connections of one pod to another share tunnels; otherwise each makes one for itself.
    pub shared_tunnels: bool,
    /// Whether it is measured which workload costs what.
    pub metered: bool,
}

/// Of all descriptors, the share of which one cell may make connections: two for each, and two more in the cell of
/// another tenant that it calls, leave a third for everybody else.
const DESCRIPTORS_PER_CONNECTION: u64 = 6;

impl Limits {
    /// The limits in a process that may have so many descriptors: one tenant's connections never take them all.
    pub fn of_descriptors(descriptors: u64) -> Self {
        let limits = Self::default();
        let bound = usize::try_from(descriptors / DESCRIPTORS_PER_CONNECTION).unwrap_or(usize::MAX);
        Self { connections: limits.connections.min(bound), ..limits }
    }

    /// How long the peer of a connection that is to end is waited for.
    pub fn patience(&self) -> Patience {
        Patience { silent: self.farewell, talking: self.head }
    }

    /// So many tunnels, of which one peer may have a quarter.
    pub fn tunnels(all: usize) -> Bound {
        Bound { all, each: (all / 4).max(1) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            detect: Duration::from_millis(200),
            head: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            handshakes: Bound { all: 256, each: 128 },
            tunnels: Limits::tunnels(8192),
            tunnel_idle: Duration::from_secs(300),
            tunnel_keepalive: Duration::from_secs(10),
            unacknowledged: Duration::from_secs(30),
            pool_idle: Duration::from_secs(60),
            // Three packets may be lost on the way, one after the other.
            farewell: Duration::from_secs(2),
            idle: None,
            head_bytes: 64 * 1024,
            connections: 65_536,
            connections_told: None,
            shared_tunnels: true,
            metered: true,
        }
    }
}

/// What a cell is made of.
#[derive(Debug)]
pub struct CellParts {
    /// Whose it is.
    pub tenant: TenantId,
    /// Steering.
    pub redirect: Arc<dyn Redirect>,
    /// Its ledger.
    pub ledger: Arc<Ledger>,
    /// Its log.
    pub access_log: AccessLog,
    /// Its bounds.
    pub limits: Limits,
    /// The cluster that it is in.
    pub site: Arc<Site>,
    /// The namespace its thread lives in.
    pub home: Netns,
    /// Its claim to serve the tenant.
    pub tenure: Tenure,
    /// Where its accepted sockets are registered.
    pub sockets: Sockets,
    /// Where its certificates come from.
    pub identity: Sources,
    /// Who says what a destination is that its snapshot does not have, if anybody knows more.
    pub find: Option<Arc<dyn Find>>,
}

impl Cell {
    /// An empty cell: no trees, everything outside.
    pub fn new(parts: CellParts) -> Rc<Self> {
        Self::with_connect(parts, Rc::new(Kernel))
    }

    /// As [`Cell::new`], with another way of making upstream connections.
    pub fn with_connect(parts: CellParts, connect: Rc<dyn Connect>) -> Rc<Self> {
        let snapshot = Arc::new(Snapshot::empty(parts.tenant.clone()));
        Rc::new(Self {
            finder: Finder::new(parts.tenant.clone(), parts.find),
            tenant: parts.tenant,
            redirect: parts.redirect,
            credentials: Credentials::new(parts.identity, Arc::clone(&parts.ledger)),
            balancer: Rc::default(),
            payers: Payers::new(&parts.ledger.costs),
            ledger: parts.ledger,
            access_log: parts.access_log,
            pool: Pool::new(Settings::of(&parts.limits)),
            share: Share::new(parts.limits.connections),
            permits: Permits::default(),
            scale: pressure::Scale::default(),
            tunnels: Rc::default(),
            limits: parts.limits,
            site: parts.site,
            home: parts.home,
            tenure: parts.tenure,
            sockets: parts.sockets,
            connect,
            shortcuts: Shortcuts::default(),
            live: Registry::default(),
            calls: Calls::default(),
            epoch: Slot::new(0),
            board: RefCell::default(),
            doors: RefCell::default(),
            snapshot: RefCell::new(snapshot),
            trees: RefCell::default(),
            handshakes: Rc::default(),
            arrived: Rc::default(),
            draining: Slot::new(false),
            panic_hook: PanicHook::default(),
        })
    }

    /// Puts a new snapshot in place; connections see it at their next request.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        let directory = Arc::clone(&snapshot.directory);
        for (tree, kept) in self.trees.borrow().values() {
            kept.follow(snapshot.now(&tree.workload));
        }
        self.keep_to(&snapshot.budget);
        let before = self.snapshot.replace(snapshot);
        self.turn();
        self.finder.swapped();
        if !Arc::ptr_eq(&before.directory, &directory) {
            self.balancer.retain(|address| directory.is_endpoint(address));
            self.pool.retire(|key| !before.directory.is_same_endpoint(&directory, key.address));
            self.tunnels.retire(|key| !before.directory.is_same_endpoint(&directory, key.address));
        }
    }

    /// The snapshot of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The version of the snapshot of now, without touching its reference count.
    pub fn version(&self) -> u64 {
        self.snapshot.borrow().version
    }

    /// Puts a new switchboard in place. Connections to trees that are not on it any more are not lent again.
    pub fn connect_by(&self, board: Arc<Board>) {
        let before = self.board.replace(Arc::clone(&board));
        self.turn();
        self.calls.clear();
        self.pool
            .retire(|key| key.delivery == Delivery::Handoff && before.has_lost(&board, key.address.ip()));
    }

    /// The switchboard of now.
    pub fn board(&self) -> Ref<'_, Board> {
        Ref::map(self.board.borrow(), |board| &**board)
    }

    /// Changes with whatever may change the choice of a delivery.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    fn turn(&self) {
        self.epoch.set(self.epoch.get() + 1);
    }

    /// The tree of this number, where it takes handoffs.
    pub fn door(&self, tree: u64) -> Option<Rc<Tree>> {
        self.doors.borrow().get(&tree).map(Rc::clone)
    }

    /// Takes no more handoffs for a tree.
    pub fn shut(&self, tree: u64) {
        self.doors.borrow_mut().remove(&tree);
    }

    /// Adds a workload's tree, and keeps its identity's certificate fresh from now on.
    pub fn plant(&self, tree: Rc<Tree>) {
        self.turn();
        self.doors.borrow_mut().insert(tree.id, Rc::clone(&tree));
        let workload = Arc::clone(self.snapshot.borrow().now(&tree.workload));
        let kept = self.credentials.keep(&workload.identity, Some(&workload));
        let before = self.trees.borrow_mut().insert(workload.pod.clone(), (tree, kept));
        drop(before);
    }

    /// Removes a workload's tree; its connections go on until they end or are told to.
    pub fn uproot(&self, pod: &PodName) -> Option<Rc<Tree>> {
        self.turn();
        self.trees.borrow_mut().remove(pod).map(|(tree, _kept)| tree)
    }

    /// The tree of a workload of this tenant on this node.
    pub fn tree(&self, pod: &PodName) -> Option<Rc<Tree>> {
        self.trees.borrow().get(pod).map(|(tree, _)| Rc::clone(tree))
    }

    /// A place for one more handshake of an accepted tunnel; `None` where too many are under way that have spoken.
    pub fn handshake(&self, tree: &Tree, peer: IpAddr) -> Option<Handshake> {
        self.handshakes.begin(tree.id, peer, self.limits.handshakes)
    }

    /// Room for one more accepted tunnel from an address.
    pub fn arrival(&self, peer: IpAddr) -> Option<(Place<IpAddr>, TunnelGuard)> {
        let place = self.arrived.take(peer.to_canonical(), self.limits.tunnels)?;
        Some((place, TunnelGuard::open(&self.ledger, Side::Inbound)))
    }

    /// Asks every HTTP connection to end after its current requests. Opaque ones go on until they are closed.
    pub fn drain(&self) {
        self.draining.set(true);
        self.pool.close();
        self.live.each(Live::finish);
    }

    /// Whether [`Cell::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Says who is told of every contained panic. Only the first call has an effect.
    pub fn on_panic(&self, hook: impl Fn() + 'static) {
        drop(self.panic_hook.0.set(Box::new(hook)));
    }

    /// Counts a contained panic and tells the supervisor.
    pub(crate) fn panicked(&self) {
        self.ledger.panicked();
        if let Some(hook) = self.panic_hook.0.get() {
            hook();
        }
    }
}

#[derive(Default)]
struct PanicHook(OnceCell<Box<dyn Fn()>>);

impl fmt::Debug for PanicHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PanicHook").field(&self.0.get().is_some()).finish()
    }
}
