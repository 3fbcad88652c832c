//! The forest: all trees of the node, grouped by tenant into cells, kept by a supervisor.
//!
//! A cell is a thread, or a process of its own (`process`). What crosses its boundary is the closed, versioned set of messages in
//! `message`, what it is started with (`lane`), the bytes of handoffs, and the counts of its ledger, which others read: descriptors,
//! and values that are immutable or made to be shared, never a connection's state. Between threads nothing is encoded; between
//! processes all of it is (`wire`). The supervisor must never touch a cell's data path.

use std::{collections::BTreeMap, fmt, rc::Rc, sync::Arc, time::Duration};

use config::{model::Mesh, name::TenantId, store::Rejected};
use ebpf_redirect::Redirect;

use crate::{
    cell::{Find, Limits},
    hbone::Site,
    identity::credentials::Sources,
    snapshot::Snapshot,
    telemetry::access::Writer,
    upstream::connect::Connect,
};

pub use self::{enrolments::Enrolments, growth::Lanes, handle::ForestHandle, phase::Phase};

// What others see of it.
pub mod costs;
pub mod describe;
mod enrolments;
mod handle;
mod phase;

// The supervisor and what it keeps.
mod supervisor;

mod planting;

mod handover;

mod keeper;

mod growth;

mod rows;

mod health;

mod accounting;

mod books;
mod bounds;
mod watch;

mod seats;

mod switchboard;

// The boundary, and the cell behind it.
mod message;

mod lane;

// The same boundary between two processes.
pub mod process;
pub mod wire;

#[cfg(test)]
mod tests;

/// What a forest is made with.
#[derive(Clone)]
pub struct Settings {
    /// Name of this daemon's instance.
    pub instance: String,
    /// How connections come to the trees.
    pub redirect: Arc<dyn Redirect>,
    /// Bounds and time-outs of every cell.
    pub limits: Limits,
    /// The cluster that the node is in.
    pub site: Arc<Site>,
    /// The process's limit of descriptors, which bounds the connections of each cell; 0 where it is not known.
    pub descriptors: u64,
    /// Where the cells' log lines go.
    pub access_log: Arc<Writer>,
    /// How upstream connections are made; called on each cell's own thread.
    pub connect: fn() -> Rc<dyn Connect>,
    /// Where the cells' certificates come from.
    pub identity: Sources,
    /// Who says what a destination is that a cell's snapshot does not have, if anybody knows more.
    pub find: Option<Arc<dyn Find>>,
    /// How long connections of a pod that was removed may go on.
    pub grace: Duration,
    /// How pods are left when the forest ends.
    pub on_stop: OnStop,
    /// Whether tenants are held to their shares and caps of CPU. All other numbers of a budget are in its tenant's snapshot.
    pub budgets: bool,
    /// Lanes that a tenant may have.
    pub lanes: Lanes,
}

/// How pods are left when the forest ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnStop {
    /// Refused until the next start takes them over: nothing that a policy forbids begins meanwhile.
    #[default]
    Close,
    /// As if there had been no proxy; but what begins with a pod that a policy protects is refused all the same.
    Open,
}

/// What a forest is to become.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The whole mesh: which pods are on this node.
    pub mesh: Arc<Mesh>,
    /// Each tenant's part of it, compiled.
    pub snapshots: BTreeMap<TenantId, Arc<Snapshot>>,
    /// Pods of this node that are not in the mesh, since they are rejected.
    pub rejected: Rejected,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("instance", &self.instance)
            .field("redirect", &self.redirect)
            .finish_non_exhaustive()
    }
}
