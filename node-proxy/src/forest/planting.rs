//! One workload's tree, as the supervisor holds it: its namespace, its listeners, its enrolment.
//!
//! The order is listeners, cell, steering; and backwards when it goes: nothing is ever steered to where nobody listens. The
//! supervisor keeps a descriptor of each listener, so that connections wait and are not refused while a cell restarts.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::{model::Workload, name::PodName};
use ebpf_redirect::{Enrolled, Enrolment, Exclusions, Gate, Parting, Redirect, RedirectError, WayBack};

use super::{Settings, keeper::new_gate, message::Plant, rows::Rows};
use crate::{
    capture::Presence,
    policy::early,
    snapshot::policies::InboundPolicy,
    sys::{
        addresses,
        listen::{ListenError, PodListeners},
        netns::Netns,
    },
    tenancy::{Door, Row},
};

/// A tree whose listeners are bound.
#[derive(Debug)]
pub(super) struct Planting {
    /// The workload.
    pub(super) workload: Arc<Workload>,
    /// Unique for the life of the daemon.
    pub(super) id: u64,
    // Declared in the order of dropping: steering stops first.
    enrolled: Option<Box<dyn Enrolled>>,
    /// The policy whose denials the kernel has taken over.
    denied_by: Option<Arc<InboundPolicy>>,
    /// Whose it is, by number, and how often that tenant may connect, as the kernel was told.
    limited: Option<(u32, Option<u64>)>,
    /// Which gates its connections pass, as the kernel was told.
    gates: Option<(Gate, Gate)>,
    listeners: PodListeners,
    netns: Netns,
    presence: Presence,
    /// What its connections have used, by lane.
    rows: Rows,
}

/// Why a workload has no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlantError {
    /// The file is not there, or cannot be opened.
    #[error(
        "its network namespace {path} cannot be opened: a pod that ends takes it along. Where pods are files, correct the annotation canopy.mesh/netns, or make the namespace (`ip netns add`)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a network namespace: name a file such as /run/netns/NAME or /proc/PID/ns/net")]
    NotANetns {
        /// The file.
        path: PathBuf,
    },
    /// The namespace was deleted, or replaced.
    #[error(
        "its network namespace {path} is gone: it is planted again when the namespace is back; else remove the Pod's manifest"
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The namespace is another pod's, by all appearance.
    #[error(
        "its address {address} (status.podIPs) is on no interface in its network namespace {path}: give it the address, or, where pods are files, correct the annotation canopy.mesh/netns"
    )]
    NotItsAddress {
        /// The address.
        address: IpAddr,
        /// The namespace's file.
        path: PathBuf,
    },
    /// The namespace does not say.
    #[error("the addresses in its network namespace cannot be read (Canopy needs CAP_SYS_ADMIN for that)")]
    Addresses(#[source] io::Error),
    /// The namespace is taken.
    #[error(
        "its network namespace {path} is that of {by}: two pods cannot share one; where pods are files, correct the annotation canopy.mesh/netns of one of them"
    )]
    Shared {
        /// The file.
        path: PathBuf,
        /// Who has it.
        by: PodName,
    },
    /// No listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No steering.
    #[error(transparent)]
    Enrol(#[from] RedirectError),
    /// No cell to serve it.
    #[error("the cell of its tenant could not be started")]
    Cell(#[source] io::Error),
    /// No descriptor left, and the like.
    #[error("its listeners cannot be handed to the cell")]
    HandOver(#[source] io::Error),
}

impl Planting {
    /// Opens the workload's namespace, makes sure that it is the workload's, and binds its listeners in it.
    pub(super) fn prepare<'a>(
        workload: &Arc<Workload>,
        settings: &Settings,
        home: &Netns,
        others: impl Iterator<Item = &'a Self>,
        id: u64,
    ) -> Result<Self, PlantError> {
        let path = workload.netns.clone().unwrap_or_default();
        let netns = Netns::open(&path).map_err(|source| PlantError::Open { path: path.clone(), source })?;
        if !netns.is_namespace() {
            return Err(PlantError::NotANetns { path });
        }
        refuse_shared(&netns, home, others.map(|tree| (&tree.workload.pod, &tree.netns)), &path)?;
        refuse_strangers(&netns, home, &workload.addresses, &path)?;
        let ipv6 = workload.addresses.iter().any(IpAddr::is_ipv6);
        let (plan, patience) = (settings.redirect.listen_plan(), settings.limits.unacknowledged);
        let listeners = PodListeners::bind(&netns, home, &plan, ipv6, patience)?;
        let rows = Rows::new(workload);
        rows.first().door.hang(new_gate(settings));
        Ok(Self {
            workload: Arc::clone(workload),
            id,
            enrolled: None,
            denied_by: None,
            limited: None,
            gates: None,
            listeners,
            netns,
            presence: Presence::default(),
            rows,
        })
    }

    /// Starts steering; the cell must have the listeners by now.
    pub(super) fn enrol(&mut self, redirect: &dyn Redirect) -> Result<(), PlantError> {
        let pod = self.workload.pod.to_string();
        let exclusions = exclusions(&self.workload);
        let enrolment = Enrolment {
            pod: &pod,
            netns: std::os::fd::AsFd::as_fd(&self.netns),
            addresses: &self.workload.addresses,
            listeners: self.listeners.borrow(),
            exclusions: &exclusions,
        };
        self.enrolled = Some(redirect.enrol(&enrolment)?);
        Ok(())
    }

    /// Whether a workload as it is now is served by this tree: the same pod, at the same place, on behalf of the same.
    /// Whatever else is known of it may change at any time, by its owner's hand, too, and must leave it steered and fenced.
    pub(super) fn serves(&self, now: &Workload) -> bool {
        let own = &*self.workload;
        own.pod == now.pod
            && own.uid == now.uid
            && own.tenant == now.tenant
            && own.identity == now.identity
            && own.addresses == now.addresses
            && self.is_where(now)
    }

    /// Whether a workload names this very namespace, by whatever path.
    pub(super) fn is_where(&self, now: &Workload) -> bool {
        self.workload.netns == now.netns || now.netns.as_deref().is_some_and(|path| self.netns.is_at(path))
    }

    /// Takes up what has changed of a workload that it goes on serving.
    pub(super) fn take_up(&mut self, workload: &Arc<Workload>) {
        if self.workload.exclusions != workload.exclusions
            && let Some(enrolled) = &mut self.enrolled
            && let Err(error) = enrolled.set_exclusions(&exclusions(workload), &self.listeners.borrow())
        {
            tracing::warn!(pod = %workload.pod, %error, "what is to be left alone of its connections has not changed");
        }
        self.workload = Arc::clone(workload);
    }

    /// Has the kernel refuse what this policy refuses for no other reason than where it comes from and goes to. Where it
    /// cannot, policy still does. The first time also where there is nothing to refuse: a process before this one may have left
    /// denials.
    ///
    /// Says what it took, in values compared; 0 if there was nothing to do.
    pub(super) fn deny_early(&mut self, policy: &Arc<InboundPolicy>, spared: &[IpAddr]) -> usize {
        let is_known = self.denied_by.as_ref().is_some_and(|known| Arc::ptr_eq(known, policy));
        let Some(enrolled) = self.enrolled.as_mut().filter(|_| !is_known) else { return 0 };
        let pod = &self.workload.pod;
        let early = early::denials(policy.deny.iter().map(|policy| &**policy));
        if early.left_out > 0 {
            tracing::warn!(%pod, rules = early.left_out, "rules that deny are too large for the kernel, and enforced by policy alone");
        }
        let effort = early.effort + 1;
        let Err(error) = enrolled.set_denials(&early.denials, spared) else {
            self.denied_by = Some(Arc::clone(policy));
            return effort;
        };
        tracing::warn!(%pod, %error, "its denials are not enforced in the kernel, but by policy alone");
        // Denials that were taken back must not stay: fewer, or none, always fit.
        match enrolled.set_denials(&[], spared) {
            Ok(_) => self.denied_by = Some(Arc::clone(policy)),
            Err(error) => tracing::warn!(%pod, %error, "former denials stay in the kernel"),
        }
        effort
    }

    /// Has the kernel refuse what its tenant's pods connect beyond their rate. Where it cannot, the cell still does.
    pub(super) fn limit_early(&mut self, tenant: u32, per_second: Option<u64>) {
        let Some(enrolled) = self.enrolled.as_mut().filter(|_| self.limited != Some((tenant, per_second)))
        else {
            return;
        };
        if let Err(error) = enrolled.set_connect_rate(tenant, per_second) {
            tracing::warn!(pod = %self.workload.pod, %error, "its tenant's rate is not enforced in the kernel, but by the cell alone");
        }
        self.limited = Some((tenant, per_second));
    }

    /// Has the kernel refuse what it connects while this gate of its cell is shut, or its own. Where it cannot, the cell still does.
    pub(super) fn gate_early(&mut self, of_cell: Option<&Gate>) {
        let gates = of_cell.zip(self.rows.first().door.gate());
        let is_known = self.gates.as_ref().map(|(cell, own)| (cell, own)) == gates;
        let Some(enrolled) = self.enrolled.as_mut().filter(|_| !is_known) else { return };
        let gates = gates.map(|(cell, own)| (cell.clone(), own.clone()));
        if let Err(error) = enrolled.set_gates(gates.clone()) {
            tracing::warn!(pod = %self.workload.pod, %error, "how many connections it may have is not enforced in the kernel, but by the cell alone");
        }
        self.gates = gates;
    }

    /// How often its tenant's pods were refused so, where they may be.
    pub(super) fn refused_early(&self) -> Option<u64> {
        let enrolled =
            self.enrolled.as_ref().filter(|_| self.limited.is_some_and(|(_, rate)| rate.is_some()))?;
        enrolled.connects_refused().ok()
    }

    /// Stops steering. What was steered goes on, while what is returned is held: by whom else, the presence says.
    pub(super) fn release(&mut self) -> Option<(Box<dyn WayBack>, Presence)> {
        let way_back = self.enrolled.take()?.release()?;
        Some((way_back, self.presence.clone()))
    }

    /// Ends, and leaves its steering as it says; whether it still had any.
    pub(super) fn leave(&mut self, parting: Parting) -> bool {
        self.enrolled.take().map(|enrolled| enrolled.leave(parting)).is_some()
    }

    /// What a cell has to know to serve it.
    pub(super) fn plant(&self) -> Result<Plant, PlantError> {
        self.plant_with(self.rows.first())
    }

    /// The same for a further lane of its tenant: both accept from the same listeners, whichever comes first.
    pub(super) fn plant_in(&mut self, lane: u32) -> Result<Plant, PlantError> {
        let row = self.rows.begin(lane);
        self.plant_with(&row)
    }

    fn plant_with(&self, row: &Arc<Row>) -> Result<Plant, PlantError> {
        let clones = || Ok((self.netns.try_clone()?, self.listeners.try_clone()?));
        let (netns, listeners) = clones().map_err(PlantError::HandOver)?;
        let presence = self.presence.clone();
        let (workload, row) = (Arc::clone(&self.workload), Arc::clone(row));
        Ok(Plant { workload, netns, tree: self.id, listeners, presence, row })
    }

    /// As [`Planting::plant`], for the cell that follows another, which may still write what it wrote.
    pub(super) fn plant_again(&mut self, settings: &Settings) -> Result<Plant, PlantError> {
        self.rows.follow_first().door.hang(new_gate(settings));
        self.plant()
    }

    /// What its connections have used.
    pub(super) fn row(&self) -> &Arc<Row> {
        self.rows.shown()
    }

    /// Whether there is room for one more connection of its own.
    pub(super) fn door(&self) -> &Door {
        &self.rows.first().door
    }

    /// Its namespace.
    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Whether its namespace is still where the workload says.
    pub(super) fn is_in_place(&self) -> Result<(), PlantError> {
        let path = self.workload.netns.as_deref().unwrap_or_else(|| Path::new(""));
        if self.netns.is_at(path) { Ok(()) } else { Err(PlantError::Gone { path: path.to_owned() }) }
    }
}

/// As steering takes them.
fn exclusions(workload: &Workload) -> Exclusions {
    Exclusions {
        outbound_ports: workload.exclusions.outbound_ports.clone(),
        outbound_cidrs: workload.exclusions.outbound_cidrs.clone(),
        inbound_ports: workload.exclusions.inbound_ports.clone(),
    }
}

/// One pod per namespace, by whatever path it is named. That the daemon's own is none is for steering to say.
fn refuse_shared<'a>(
    netns: &Netns,
    home: &Netns,
    mut others: impl Iterator<Item = (&'a PodName, &'a Netns)>,
    path: &Path,
) -> Result<(), PlantError> {
    match others.find(|(_, other)| netns.is(other) && !netns.is(home)) {
        Some((by, _)) => Err(PlantError::Shared { path: path.to_owned(), by: by.clone() }),
        None => Ok(()),
    }
}

/// The annotation is the pod owner's to write, its addresses are not: a pod that names another's namespace would take
/// that one's connections under its own identity.
fn refuse_strangers(netns: &Netns, home: &Netns, own: &[IpAddr], path: &Path) -> Result<(), PlantError> {
    let there = netns.run(home, addresses::local).map_err(PlantError::Addresses)?;
    match own.iter().find(|address| !there.contains(address)) {
        Some(address) => Err(PlantError::NotItsAddress { address: *address, path: path.to_owned() }),
        None => Ok(()),
    }
}

impl PlantError {
    /// Whether it says that the pod is not there, as opposed to that it cannot be served.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::NotANetns { .. } | Self::Gone { .. })
    }

    /// The error and its causes on one line.
    pub(super) fn report(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use config::name::{Name, Namespace};

    use super::*;

    #[test]
    fn a_namespace_belongs_to_one_pod_whatever_it_is_called() {
        let home = Netns::current().unwrap();
        // Another namespace of the process, of another type: it takes no privilege to have.
        let open = |path: &str| Netns::open(Path::new(path)).unwrap();
        let (one, same) = (open("/proc/self/ns/uts"), open("/proc/thread-self/ns/uts"));
        let pod = PodName::new(Namespace::try_from("shop").unwrap(), Name::try_from("cart").unwrap());
        let refused = |netns, others| refuse_shared(netns, &home, others, Path::new("/x"));
        let error = refused(&same, [(&pod, &one)].into_iter()).unwrap_err().report();
        assert!(error.contains("/x is that of shop/cart"), "{error}");
        assert!(refused(&open("/proc/self/ns/ipc"), [(&pod, &one)].into_iter()).is_ok());
    }
}
