//! What the requests of one client connection share, so that none of them looks it up again.
//!
//! It must never let a request pass on a permission that a newer configuration took away.

use std::{
    cell::{Cell as Slot, RefCell},
    net::IpAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

use config::model::Endpoint;
use ebpf_redirect::Side;

use super::{deadline::Deadline, tunnel::Tunnel};
use crate::{
    accept::Protocol,
    cell::{Cell, Live},
    policy::{Denied, Permit},
    snapshot::Destination,
    tenancy::Taken,
    upstream::{
        UpstreamError,
        choice::Choice,
        connect::{self, Peer},
        pool::{Bucket, Key},
    },
};

/// One client's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) cell: Rc<Cell>,
    /// Where its requests are counted, for `canopy tree`.
    pub(super) live: Rc<Live>,
    /// What the client speaks.
    pub(super) protocol: Protocol,
    /// Where requests go that are not routed: the very address the client connected to.
    pub(super) original: Arc<Endpoint>,
    /// Set by a request that became a tunnel; taken when hyper has let go of the connection.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    /// No further request is to be read: a permission was taken away.
    pub(super) closing: Slot<bool>,
    /// Requests that are under way.
    pub(super) requests: Slot<usize>,
    /// Copies of requests that are under way.
    pub(super) mirrors: Slot<usize>,
    /// When the response has to be complete that was begun last; taken by who polls that.
    pub(super) deadline: RefCell<Weak<Deadline>>,
    version: Slot<u64>,
    permit: RefCell<Permit>,
    known: RefCell<Vec<(Rc<Bucket>, Choice)>>,
    /// The cell's when those were found.
    epoch: Slot<u64>,
}

impl Session {
    pub(super) fn new(cell: Rc<Cell>, permit: Permit, live: Rc<Live>, protocol: Protocol) -> Rc<Self> {
        let original = Arc::new(original(&permit));
        Rc::new(Self {
            // Not the version of now: the permit may be of an older one, and the first request finds out.
            version: Slot::new(u64::MAX),
            cell,
            live,
            protocol,
            original,
            tunnel: RefCell::default(),
            closing: Slot::new(false),
            requests: Slot::new(0),
            mirrors: Slot::new(0),
            deadline: RefCell::default(),
            permit: RefCell::new(permit),
            known: RefCell::default(),
            epoch: Slot::new(0),
        })
    }

    /// The permission for the next request, decided again where the configuration has changed since the last.
    pub(super) fn permit(&self) -> Result<Permit, Denied> {
        self.live.request();
        let version = self.cell.version();
        if self.version.get() != version {
            let renewed = self.renew().inspect_err(|_| self.closing.set(true))?;
            self.permit.replace(renewed);
            self.version.set(version);
        }
        Ok(self.permit.borrow().clone())
    }

    /// The client's own address.
    pub(super) fn client(&self) -> IpAddr {
        self.permit.borrow().origin.client.ip()
    }

    /// The permission of the last request, for records.
    pub(super) fn last_permit(&self) -> Permit {
        self.permit.borrow().clone()
    }

    /// A place for a request of the node's own, where this is one.
    pub(super) fn probe(&self) -> Option<Taken> {
        self.cell.probe(self.live.side, &self.live.tree, self.live.origin)
    }

    /// Whether no further request is to be begun.
    pub(super) fn is_ending(&self) -> bool {
        self.closing.get() || self.live.is_finishing() || self.cell.is_draining()
    }

    fn renew(&self) -> Result<Permit, Denied> {
        let permit = self.permit.borrow();
        let snapshot = self.cell.snapshot();
        let destination = match permit.side {
            Side::Outbound => {
                snapshot.resolve(&permit.tree.workload.pod.namespace, permit.origin.destination)
            }
            // Inbound, the listener says whose connection it is; nothing to look up.
            Side::Inbound => permit.destination.clone(),
        };
        permit.renew(&snapshot, destination)
    }

    /// Where connections to an endpoint are kept. The last few asked for are remembered, until something changes by
    /// which they might be reached.
    pub(super) fn bucket(
        &self,
        permit: &Permit,
        peer: Peer<'_>,
        protocol: Protocol,
    ) -> Result<Rc<Bucket>, UpstreamError> {
        let epoch = self.cell.epoch();
        let mut known = self.known.borrow_mut();
        if self.epoch.replace(epoch) != epoch {
            known.clear();
        }
        let is_it = |(bucket, _): &&(Rc<Bucket>, Choice)| {
            let key = bucket.key();
            key.address == peer.address && key.protocol == protocol
        };
        if let Some((bucket, choice)) = known.iter().find(is_it) {
            peer.course.takes(*choice);
            return Ok(Rc::clone(bucket));
        }
        let choice = connect::choice(&self.cell, permit, peer)?;
        let bucket = self.cell.pool.bucket(Key {
            address: peer.address,
            client: permit.origin.client.ip(),
            tree: permit.tree.id,
            side: permit.side,
            protocol,
            delivery: choice.delivery,
        });
        if known.len() >= KNOWN {
            known.clear();
        }
        known.push((Rc::clone(&bucket), choice));
        Ok(bucket)
    }
}

/// Endpoints of one client's connection whose pools are remembered: as many as most Services have.
const KNOWN: usize = 8;

fn original(permit: &Permit) -> Endpoint {
    let workload = match &permit.destination {
        Destination::Workload { entry, .. } => Some(entry.workload.pod.clone()),
        Destination::Service { .. } | Destination::Outside => None,
    };
    Endpoint { workload, ..Endpoint::new(permit.origin.destination, permit.destination.protocol()) }
}
