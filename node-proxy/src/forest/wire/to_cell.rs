//! What the daemon tells a cell in a process of its own.
//!
//! The same as between threads (`forest/message.rs`), as bytes; what is a descriptor goes beside them. It must never carry a key, nor
//! anything that another tenant has said of itself.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use config::{
    model::Workload,
    name::{PodName, TenantId},
};
use serde::{Deserialize, Serialize};

use super::WireError;
use crate::{cell::Limits, hbone::Site, identity::authority::remote::Terms, snapshot::Source};

/// A frame to a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// The first: begin. With the page for the ledger, the socket for handoffs, that for its log if it has one, and what
    /// steering gave out, in this order.
    Begin(Box<Begin>),
    /// Serve a workload. With its namespace, one end of a pair that is to be held as long as anything of it lives, and its
    /// listeners, in this order.
    Plant {
        /// The workload.
        workload: Box<Workload>,
        /// Its tree.
        tree: u64,
        /// Of each listener: whether its connections come in, and where it is bound.
        listeners: Vec<(bool, SocketAddr)>,
        /// What its row has counted so far, for the process's own to go on with.
        counts: Vec<u64>,
    },
    /// Serve a workload no more.
    Uproot {
        /// The pod.
        pod: PodName,
        /// Its tree.
        tree: u64,
        /// How long its connections may go on.
        grace: Duration,
    },
    /// Reach other tenants' pods by this from now on.
    Board {
        /// The board's version.
        version: u64,
        /// How each pod of this node is reached.
        lines: Vec<LineTold>,
        /// Whose namespaces are not there.
        absent: BTreeSet<PodName>,
    },
    /// About certificates; with the descriptors that belong to it.
    Certificates(Vec<u8>),
    /// Decide by this from now on.
    Swap(Box<Source>),
    /// What there is at an address that was asked about.
    Found {
        /// The address.
        address: IpAddr,
        /// Something of the mesh, or nothing; nothing at all where nobody can say.
        is_known: Option<bool>,
    },
    /// Hold so many connections at most from now on, each way.
    Share(u64),
    /// Say what is there.
    Describe {
        /// To be said again with the answer.
        number: u64,
    },
    /// Listen no more for a workload that is not steered any more.
    Unlisten {
        /// Its tree.
        tree: u64,
        /// How long its connections may go on.
        grace: Duration,
    },
    /// Ask what is there to finish.
    Finish,
    /// Accept nothing more, and end when the connections have.
    Drain {
        /// How long they may go on.
        grace: Duration,
    },
}

/// How a pod of this node is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineTold {
    /// The pod, as others see it.
    pub workload: Workload,
    /// Its tree.
    pub tree: u64,
    /// The cell that serves it now: lines with one number lead to one cell, and no other cell ever has the number.
    pub cell: u64,
}

/// What a cell begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its bounds.
    pub limits: Limits,
    /// The cluster.
    pub site: Site,
    /// What its predecessors have counted.
    pub counts: Vec<u64>,
    /// What it decides by.
    pub source: Source,
    /// How it marks and asks about its own sockets, as steering gave it out.
    pub steering: Vec<u8>,
    /// Whether what it carries is logged.
    pub logs: bool,
    /// Whether it may ask what there is at an address.
    pub finds: bool,
    /// How certificates are to be had; not at all where there are none.
    pub terms: Option<Terms>,
}

/// The descriptors that come with a [`Told::Plant`].
#[derive(Debug)]
pub struct Ends {
    /// The pod's network namespace.
    pub netns: OwnedFd,
    /// To be held as long as anything of the tree lives.
    pub presence: OwnedFd,
    /// Its listeners, in the frame's order.
    pub listeners: Vec<OwnedFd>,
}

impl Ends {
    /// Takes them for what they are, for so many listeners.
    pub fn of(descriptors: Vec<OwnedFd>, listeners: usize) -> Result<Self, WireError> {
        let (got, wanted) = (descriptors.len(), listeners + 2);
        let mut all = descriptors.into_iter();
        match (all.next(), all.next()) {
            (Some(netns), Some(presence)) if got == wanted => {
                Ok(Self { netns, presence, listeners: all.collect() })
            }
            _ => Err(WireError::Descriptors { got, wanted }),
        }
    }
}
