//! One workload's tree, as the supervisor holds it: its namespace, its listeners, its enrolment.
//!
//! The order is listeners, cell, steering; and backwards when it goes: nothing is ever steered to where nobody listens. The
//! supervisor keeps a descriptor of each listener, so that connections wait and are not refused while a cell restarts.

use std::{io, path::PathBuf, sync::Arc};

use config::model::Workload;
use ebpf_redirect::{Enrolled, Enrolment, Exclusions, Redirect, RedirectError};

use super::message::Plant;
use crate::sys::{
    listen::{ListenError, PodListeners},
    netns::Netns,
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
    listeners: PodListeners,
    netns: Netns,
}

/// Why a workload has no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlantError {
    /// The file is not there, or cannot be opened.
    #[error(
        "its network namespace {path} cannot be opened: correct the annotation canopy.mesh/netns, or make the namespace (`ip netns add`)"
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
    #[error("its network namespace {path} is gone")]
    Gone {
        /// The file.
        path: PathBuf,
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
    /// Opens the workload's namespace and binds its listeners in it.
    pub(super) fn prepare(
        workload: &Arc<Workload>,
        redirect: &dyn Redirect,
        home: &Netns,
        id: u64,
    ) -> Result<Self, PlantError> {
        let path = workload.netns.clone().unwrap_or_default();
        let netns = Netns::open(&path).map_err(|source| PlantError::Open { path: path.clone(), source })?;
        if !netns.is_namespace() {
            return Err(PlantError::NotANetns { path });
        }
        let ipv6 = workload.addresses.iter().any(std::net::IpAddr::is_ipv6);
        let listeners = PodListeners::bind(&netns, home, &redirect.listen_plan(), ipv6)?;
        Ok(Self { workload: Arc::clone(workload), id, enrolled: None, listeners, netns })
    }

    /// Starts steering; the cell must have the listeners by now.
    pub(super) fn enrol(&mut self, redirect: &dyn Redirect) -> Result<(), PlantError> {
        let pod = self.workload.pod.to_string();
        let exclusions = Exclusions {
            outbound_ports: self.workload.exclusions.outbound_ports.clone(),
            outbound_cidrs: self.workload.exclusions.outbound_cidrs.clone(),
            inbound_ports: self.workload.exclusions.inbound_ports.clone(),
        };
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

    /// Stops steering; what was steered goes on.
    pub(super) fn release(&mut self) {
        drop(self.enrolled.take());
    }

    /// What a cell has to know to serve it.
    pub(super) fn plant(&self) -> Result<Plant, PlantError> {
        let clones = || Ok((self.netns.try_clone()?, self.listeners.try_clone()?));
        let (netns, listeners) = clones().map_err(PlantError::HandOver)?;
        Ok(Plant { workload: Arc::clone(&self.workload), netns, tree: self.id, listeners })
    }

    /// Whether its namespace is still where the workload says.
    pub(super) fn is_in_place(&self) -> Result<(), PlantError> {
        let path = self.workload.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
        if self.netns.is_at(path) { Ok(()) } else { Err(PlantError::Gone { path: path.to_owned() }) }
    }
}

impl PlantError {
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
