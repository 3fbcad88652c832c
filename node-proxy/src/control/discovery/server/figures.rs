//! What the server counts: by type, of which there are a few.
//!
//! Read by whoever scrapes. It must never take a lock that serving takes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use config::{discovery::Kind, model::Mesh};

/// Counts of a server.
#[derive(Debug, Default)]
pub struct Figures {
    kinds: [OfKind; Kind::ALL.len()],
    streams: AtomicU64,
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct OfKind {
    resources: AtomicU64,
    responses: AtomicU64,
    bytes: AtomicU64,
    nacks: AtomicU64,
}

/// What was counted of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Resources that are served.
    pub resources: u64,
    /// Responses sent.
    pub responses: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Responses that were not taken.
    pub nacks: u64,
}

impl Figures {
    /// What was counted of a type.
    pub fn of(&self, kind: Kind) -> Held {
        let of = &self.kinds[kind as usize];
        Held {
            resources: of.resources.load(Relaxed),
            responses: of.responses.load(Relaxed),
            bytes: of.bytes.load(Relaxed),
            nacks: of.nacks.load(Relaxed),
        }
    }

    /// Streams that are open.
    pub fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// The version of the mesh that is served; 0 before there is one.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    pub(super) fn open(&self, streams: usize) {
        self.streams.store(wide(streams), Relaxed);
    }

    pub(super) fn sent(&self, kind: Kind, bytes: usize) {
        let of = &self.kinds[kind as usize];
        of.responses.fetch_add(1, Relaxed);
        of.bytes.fetch_add(wide(bytes), Relaxed);
    }

    pub(super) fn nack(&self, kind: Kind) {
        self.kinds[kind as usize].nacks.fetch_add(1, Relaxed);
    }

    pub(super) fn stocked(&self, mesh: &Mesh) {
        for kind in Kind::ALL {
            let resources = match kind {
                Kind::Tenant => mesh.tenants.len(),
                Kind::Namespace => mesh.namespaces.len(),
                Kind::Address => mesh.workloads.len() + mesh.services.len(),
                Kind::Authorization => mesh.authorization.len(),
                Kind::PeerAuthentication => mesh.peer_authentication.len(),
                Kind::NetworkPolicy => mesh.network_policies.len(),
                Kind::ServiceEntry => mesh.service_entries.len(),
                Kind::Route => mesh.routes.len(),
            };
            self.kinds[kind as usize].resources.store(wide(resources), Relaxed);
        }
        self.version.store(mesh.version, Relaxed);
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
