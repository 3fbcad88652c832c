//! The trees of one cell: their accept loops, and how a tree, or all of them, come to an end.
//!
//! What waits in a listener's backlog when its tree ends was accepted by the kernel, so it is served, not reset.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ebpf_redirect::Side;
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet, spawn_local},
    time::{Instant, sleep},
};

use crate::{
    capture::Tree,
    cell::{Cell, Live, direction},
    forest::{
        describe::{CONNECTIONS_SHOWN, ConnectionDescription, ListenerDescription, TreeDescription},
        message::{Plant, ToCell},
    },
    handoff::Inbox,
    path,
    telemetry::Reason,
};

/// How long listeners are still served after steering has stopped: connections that were steered a moment earlier are
/// established, or about to be.
const LINGER: Duration = Duration::from_millis(50);
/// How often a draining cell looks whether it is empty.
const LOOK: Duration = Duration::from_millis(10);
/// How long connections that were told to end may take to do so.
const LAST: Duration = Duration::from_millis(250);

/// The trees of one cell.
#[derive(Debug)]
pub(super) struct Grove {
    cell: Rc<Cell>,
    acceptors: JoinSet<io::Error>,
    trees: BTreeMap<u64, Planted>,
    /// Since when what was there is to finish.
    finishing: Option<Instant>,
    draining: Option<Drain>,
}

#[derive(Debug)]
struct Planted {
    tree: Rc<Tree>,
    listeners: Vec<(Side, SocketAddr)>,
    acceptors: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Drain {
    /// Connections are ended then.
    until: Instant,
    /// Not over earlier, since listeners are still served.
    not_before: Instant,
}

/// What happens to a grove by itself.
#[derive(Debug)]
pub(super) enum Event {
    /// A listener does not work any more.
    BrokenListener(io::Error),
    /// A drain that was asked for has come to its end.
    Finished,
}

impl Grove {
    /// No trees yet. Handoffs are taken from now on.
    pub(super) fn new(cell: Rc<Cell>, handoffs: Arc<Inbox>) -> Self {
        let mut acceptors = JoinSet::new();
        acceptors.spawn_local(path::handoff_loop(Rc::clone(&cell), handoffs));
        Self { cell, acceptors, trees: BTreeMap::new(), finishing: None, draining: None }
    }

    /// Does what the supervisor says.
    pub(super) fn obey(&mut self, message: ToCell) -> io::Result<()> {
        match message {
            ToCell::Plant(plant) => self.plant(plant)?,
            ToCell::Uproot { pod, tree, grace } => {
                // A pod that was planted anew has a tree with another number already.
                if self.cell.tree(&pod).is_some_and(|planted| planted.id == tree) {
                    self.cell.uproot(&pod);
                }
                self.uproot(tree, grace);
            }
            ToCell::Board(board) => self.cell.connect_by(board),
            ToCell::Swap(snapshot) => path::swap(&self.cell, snapshot),
            ToCell::Share(connections) => self.cell.change_share(connections),
            // Who asked may have stopped waiting.
            ToCell::Describe(reply) => drop(reply.send(self.describe())),
            ToCell::Unlisten { tree, grace } => self.uproot(tree, grace),
            ToCell::Finish => self.finish(),
            ToCell::Drain { grace } => self.drain(grace),
        }
        Ok(())
    }

    /// What happens by itself; pending while nothing does. A panic of an accept loop goes on here.
    pub(super) async fn event(&mut self) -> Event {
        let Self { cell, acceptors, draining, .. } = self;
        tokio::select! {
            error = broken_listener(acceptors) => Event::BrokenListener(error),
            () = drained(cell, draining) => Event::Finished,
        }
    }

    fn plant(&mut self, plant: Plant) -> io::Result<()> {
        let Plant { workload, netns, tree, listeners, presence, row } = plant;
        if self.cell.limits.metered {
            self.cell.payers.open(tree, row);
        }
        let tree = Rc::new(Tree { workload, netns: Rc::new(netns), id: tree, presence });
        self.cell.plant(Rc::clone(&tree));
        let mut planted = Planted { tree, listeners: Vec::new(), acceptors: Vec::new() };
        for listener in listeners {
            let (side, address) = (listener.side, listener.address);
            let socket = TcpListener::from_std(listener.into())?;
            let accepting = path::accept_loop(Rc::clone(&self.cell), Rc::clone(&planted.tree), side, socket);
            planted.acceptors.push(self.acceptors.spawn_local(accepting));
            planted.listeners.push((side, address));
        }
        self.trees.insert(planted.tree.id, planted);
        Ok(())
    }

    fn uproot(&mut self, tree: u64, grace: Duration) {
        let Some(planted) = self.trees.remove(&tree) else { return };
        let cell = Rc::clone(&self.cell);
        let is_ending = self.finishing.is_some();
        // Its addresses may be another pod's in a moment.
        cell.pool.retire(|key| key.is_of(&planted.tree));
        cell.tunnels.retire(|key| key.is_of(&planted.tree));
        spawn_local(async move {
            sleep(LINGER).await;
            planted.acceptors.iter().for_each(AbortHandle::abort);
            // While all ends, callers still have requests to finish.
            if !is_ending && !cell.is_draining() {
                cell.shut(tree);
            }
            cell.live.finish_tree(tree);
            // From here on its connections alone have it.
            drop(planted);
            sleep(grace).await;
            cell.shut(tree);
            cell.live.close_tree(tree, Reason::Draining);
            cell.shortcuts.close_to(tree, Reason::Draining);
            cell.payers.close(tree);
            // What its last requests gave back. Its addresses are not its own any more.
            cell.pool.retire(|key| key.tree == tree);
            cell.tunnels.retire(|key| key.tree == tree);
        });
    }

    /// Says when what was to finish has.
    pub(super) fn look(&self) {
        let Some(since) = self.finishing else { return };
        let mut is_left = false;
        self.cell.live.each(|live| is_left |= live.since <= since);
        self.cell.ledger.finished.store(!is_left, Relaxed);
    }

    fn finish(&mut self) {
        self.finishing = Some(Instant::now());
        self.cell.live.each(Live::finish);
        // An idle one may be what a neighbour's cell waits for.
        self.cell.pool.retire(|_| true);
        self.look();
    }

    fn drain(&mut self, grace: Duration) {
        let now = Instant::now();
        self.draining = Some(Drain { until: now + grace, not_before: now + 2 * LINGER });
        self.cell.drain();
        for tree in self.trees.keys().copied().collect::<Vec<_>>() {
            self.uproot(tree, grace);
        }
    }

    fn describe(&self) -> Vec<TreeDescription> {
        let mut oldest: BTreeMap<u64, Oldest> = BTreeMap::new();
        self.cell.live.each(|live| oldest.entry(live.tree.id).or_default().see(live));
        let describe = |planted: &Planted| {
            let oldest = oldest.remove(&planted.tree.id).unwrap_or_default();
            let listener = |(side, address): &(Side, SocketAddr)| ListenerDescription {
                side: direction(*side).to_owned(),
                address: *address,
            };
            TreeDescription {
                pod: planted.tree.workload.pod.clone(),
                identity: planted.tree.workload.identity.clone(),
                certificate: self.cell.credentials.describe(&planted.tree.workload.identity),
                listeners: planted.listeners.iter().map(listener).collect(),
                connections: oldest.shown.into_iter().map(|(_, connection)| connection).collect(),
                connections_open: oldest.seen,
            }
        };
        self.trees.values().map(describe).collect()
    }
}

/// The error of an accept loop that ended by itself.
async fn broken_listener(acceptors: &mut JoinSet<io::Error>) -> io::Error {
    loop {
        match acceptors.join_next().await {
            Some(Ok(error)) => return error,
            Some(Err(ended)) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Some(Err(_aborted)) => {}
            None => std::future::pending().await,
        }
    }
}

async fn drained(cell: &Cell, draining: &Option<Drain>) {
    let Some(Drain { until, not_before }) = draining else { return std::future::pending().await };
    loop {
        let now = Instant::now();
        if now >= *until {
            cell.live.close_all(Reason::Draining);
        }
        let empty = now >= *not_before && cell.live.is_empty();
        if empty || now >= *until + LAST {
            return;
        }
        sleep(LOOK).await;
    }
}

/// The oldest connections of a tree, kept while all are looked through.
#[derive(Debug, Default)]
struct Oldest {
    seen: u64,
    shown: Vec<(Instant, ConnectionDescription)>,
}

impl Oldest {
    fn see(&mut self, live: &Live) {
        self.seen += 1;
        let place = self.shown.partition_point(|(since, _)| *since <= live.since);
        if place < CONNECTIONS_SHOWN {
            self.shown.truncate(CONNECTIONS_SHOWN - 1);
            self.shown.insert(place, (live.since, live.describe()));
        }
    }
}
