//! The client of discovery: one delta stream with a control plane, on a thread of its own.
//!
//! What comes is handed to the control thread, one response at a time, and answered when it was taken in. A control plane that is
//! away must never take anything out of force.

use std::{io, path::PathBuf, sync::Arc, sync::mpsc, thread, time::SystemTime};

use config::discovery::{Kind, Rejection};
use tokio::sync::{oneshot, watch};

use self::connection::Connection;
use super::cache::Header;

pub use self::{
    demand::{Answer, Demand},
    endpoint::{Server, Tls},
    node::Introduction,
    standing::{Oversized, Standing, label},
    state::{Answered, Batch, Pending, State, Step},
};

mod connection;
mod demand;
mod endpoint;
mod node;
mod standing;
mod state;
mod unsaid;
mod wanted;

#[cfg(test)]
mod tests;

/// What a client is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The control plane.
    pub server: Server,
    /// How TLS is spoken with it.
    pub tls: Arc<Tls>,
    /// A file with the token to show; read again with every connection.
    pub token: Option<PathBuf>,
    /// Who this node is.
    pub introduction: Introduction,
    /// Whether Addresses are asked for one by one, and how many at most.
    pub on_demand: Option<usize>,
    /// The directory of the cache.
    pub cache: Option<PathBuf>,
    /// The trust domain of identities.
    pub trust_domain: String,
}

/// What the control thread is told.
#[derive(Debug)]
pub enum Event {
    /// Something that came: to be taken in, and answered if there is whom to answer.
    Batch(Batch, Option<oneshot::Sender<Taken>>),
    /// Something that the cache had: the same.
    Stored(Batch, oneshot::Sender<Taken>),
    /// All of the cache was given; whether a node may serve by it.
    Cached(bool),
    /// The node's own files have changed.
    Files,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Taken {
    /// What of it is not taken in.
    pub rejections: Vec<Rejection>,
    /// Whether now all is here that is had as a whole.
    pub is_complete: bool,
}

/// A client that runs. Ends when it is dropped.
#[derive(Debug)]
pub struct Client {
    standing: Arc<Standing>,
    demand: Option<Demand>,
    _running: watch::Sender<()>,
}

impl Client {
    /// Starts the thread. A control plane that is not there yet is waited for.
    pub fn start(options: Options, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let (running, mut ends) = watch::channel(());
        let standing = Arc::new(Standing::new(options.server.to_string(), SystemTime::now()));
        let demand = options.on_demand.map(|most| Demand::new(most, &options.introduction.network));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (told, asked) = (Arc::clone(&standing), demand.clone());
        thread::Builder::new().name("discovery".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let mut connection = Connection::new(options, events, told, asked);
            runtime.block_on(async {
                tokio::select! {
                    () = connection.run() => {}
                    _ = ends.changed() => {}
                }
            });
        })?;
        Ok(Self { standing, demand, _running: running })
    }

    /// How it stands with the control plane.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// By which Addresses are asked for, where they are one by one.
    pub fn demand(&self) -> Option<Demand> {
        self.demand.clone()
    }
}

impl Options {
    /// What its cache is of.
    pub(super) fn header(&self) -> Header {
        Header {
            server: self.server.to_string(),
            cluster: self.introduction.cluster.clone(),
            trust_domain: self.trust_domain.clone(),
            node: self.introduction.node.clone(),
            on_demand: self.on_demand.is_some(),
        }
    }

    /// The types that are had as a whole.
    pub(super) fn wildcards(&self) -> impl Iterator<Item = Kind> {
        let on_demand = self.on_demand.is_some();
        Kind::ALL.into_iter().filter(move |kind| !(on_demand && kind.is_on_demand()))
    }
}

/// Enough for gRPC and TLS.
const STACK_BYTES: usize = 1024 * 1024;
