//! Names of ServiceEntries: the node looks them up itself, since nothing that a client says of a name proves where it goes.
//!
//! Off the data path: by threads that live for one turn, few at a time and with small stacks, since the system's resolver
//! blocks. A name's server may be its tenant's own: it must never be able to hold up another tenant's names for longer than a
//! turn, nor to open addresses that mean the node itself.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use config::{
    model::{Mesh, ServiceEntry},
    name::{HostName, TenantId},
};
use tokio::time::Instant;

pub use self::schedule::{Answers, Key, Pace};
use self::schedule::{News, Schedule};
use crate::sys::clock;

mod schedule;
#[cfg(test)]
mod tests;

/// Who knows the addresses of names: the system, or a test.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The addresses of a host now. May block.
    fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver (`getaddrinfo`): its servers, asked for the name as it stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        // With a dot at its end no search list applies: else `pay.co` might be found as a headless Service `pay` of a namespace
        // `co`, whose addresses anybody writes.
        let found = (format!("{host}."), 0).to_socket_addrs()?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// The names that are wanted, and what is known of them.
#[derive(Debug)]
pub struct Names {
    resolve: Arc<dyn Resolve>,
    /// They mean the node, wherever they are found.
    node_addresses: Arc<[IpAddr]>,
    schedule: Schedule,
    /// Turns that are under way.
    away: usize,
    said: (SyncSender<Said>, Receiver<Said>),
}

/// What a turn's thread says.
#[derive(Debug)]
enum Said {
    Answer(Key, io::Result<Vec<IpAddr>>),
    Over(TenantId),
}

impl Names {
    /// Nothing is looked up until something is wanted.
    pub fn new(resolve: Arc<dyn Resolve>, pace: Pace, node_addresses: Arc<[IpAddr]>) -> Self {
        let schedule = Schedule::new(pace);
        Self { resolve, node_addresses, schedule, away: 0, said: sync_channel(WAITING) }
    }

    /// Looks up, from now on, what this mesh wants.
    pub fn want(&mut self, mesh: &Mesh) {
        self.schedule.want(&wanted(mesh), Instant::now());
    }

    /// Takes in what was found, and starts what is due. Says whether any name's addresses are others now.
    pub fn turn(&mut self) -> bool {
        let now = Instant::now();
        let mut changed = self.schedule.expire(now);
        while let Ok(said) = self.said.1.try_recv() {
            match said {
                Said::Answer(key, answer) => changed |= self.answered(&key, answer, now),
                Said::Over(tenant) => {
                    self.away -= 1;
                    self.schedule.is_back(&tenant);
                }
            }
        }
        while self.away < AWAY
            && let Some((tenant, hosts)) = self.schedule.take(now)
        {
            self.begin(tenant, hosts);
        }
        changed
    }

    /// The addresses of every name that has any.
    pub fn answers(&self) -> Answers {
        self.schedule.answers()
    }

    fn answered(&mut self, key: &Key, answer: io::Result<Vec<IpAddr>>, now: Instant) -> bool {
        let (tenant, host) = key;
        let answer = answer.map(|found| self.openable(&found));
        if let Err(error) = &answer {
            tracing::debug!(%tenant, %host, %error, "a host of a ServiceEntry was not found");
        }
        let news = self.schedule.answered(key, answer.as_deref().ok(), now);
        if news == Some(News::Failed) {
            tracing::warn!(%tenant, %host, "a host of a ServiceEntry cannot be looked up: it opens nothing new until it can");
        }
        news == Some(News::Changed)
    }

    /// Who answers for a name is not who wrote the entry: what means the node, or nobody, is no destination.
    fn openable(&self, found: &[IpAddr]) -> Vec<IpAddr> {
        let found = found.iter().map(IpAddr::to_canonical);
        found.filter(|address| is_peer(*address) && !self.node_addresses.contains(address)).collect()
    }

    fn begin(&mut self, tenant: TenantId, hosts: Vec<HostName>) {
        let over = Over { tenant: tenant.clone(), said: self.said.0.clone() };
        let resolve = Arc::clone(&self.resolve);
        let look_up = move || {
            let over = over;
            let begun = Instant::now();
            for host in hosts {
                let answer = resolve.resolve(&host);
                if over.said.send(Said::Answer((over.tenant.clone(), host), answer)).is_err()
                    || begun.elapsed() > LONGEST_TURN
                {
                    break;
                }
            }
            clock::ends();
        };
        self.away += 1;
        let builder = thread::Builder::new().name("names".to_owned()).stack_size(STACK_BYTES);
        // Where there is no thread, the closure is dropped, and with it what says that the turn is over.
        if let Err(error) = builder.spawn(look_up) {
            tracing::warn!(%error, %tenant, "no thread to look up hosts of ServiceEntries");
        }
    }
}

/// Says that a turn is over, however it ends.
struct Over {
    tenant: TenantId,
    said: SyncSender<Said>,
}

impl Drop for Over {
    fn drop(&mut self) {
        // The channel never fills: see `WAITING`. A receiver that is gone needs no word.
        drop(self.said.try_send(Said::Over(self.tenant.clone())));
    }
}

/// The hosts of entries that are for a tenant that is kept to the mesh; for others they mean nothing.
fn wanted(mesh: &Mesh) -> BTreeSet<Key> {
    let kept = |tenant: &TenantId| mesh.tenants.get(tenant).is_some_and(|tenant| tenant.egress.is_mesh());
    let anybody = mesh.tenants.keys().any(kept);
    let mut wanted = BTreeSet::new();
    for entry in mesh.service_entries.values() {
        let Some(owner) = mesh.membership.get(&entry.name.namespace) else { continue };
        if kept(owner) || entry.audience.every_tenant && anybody {
            wanted.extend(entry.hosts.iter().map(|host| (owner.clone(), host.clone())));
        }
    }
    wanted
}

/// The addresses that were found for an entry's hosts, in order.
pub fn found(answers: &Answers, owner: &TenantId, entry: &ServiceEntry) -> Vec<IpAddr> {
    let of = |host: &HostName| answers.get(&(owner.clone(), host.clone())).into_iter().flatten().copied();
    let found: BTreeSet<IpAddr> = entry.hosts.iter().flat_map(of).collect();
    found.into_iter().collect()
}

/// Whether an address can be another machine's.
fn is_peer(address: IpAddr) -> bool {
    let is_special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_special || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Turns under way at a time, each of another tenant.
const AWAY: usize = 4;
/// Nothing more is asked in a turn that has taken so long.
const LONGEST_TURN: Duration = Duration::from_secs(2);
/// All that the turns under way can say before they are listened to.
const WAITING: usize = AWAY * (schedule::TURN + 1);
/// The system's resolver keeps its buffers, of up to 64 KiB, on the stack.
const STACK_BYTES: usize = 256 * 1024;
