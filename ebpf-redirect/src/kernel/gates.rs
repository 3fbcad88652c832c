//! Which gates the connections of each pod pass: what the connect hooks go by. A pod of which nothing is said passes none.

use std::io;

use ebpf_redirect_abi::{GATES, Gated};

use super::{instance::Instance, state::State};
use crate::{
    Gate, RedirectError,
    gate::Gates,
    sys::{
        bpf::{Table, open_pin},
        mapping::Mapping,
    },
};

/// The gates, and which are each pod's.
#[derive(Debug)]
pub(crate) struct Gateways {
    gated: Table<u64, Gated>,
    gates: Gates,
}

impl Gateways {
    /// Opens both tables. Whatever a dead process has shut is shut for nobody now.
    pub(crate) fn open(instance: &Instance) -> Result<Self, RedirectError> {
        let failed = |error: io::Error| RedirectError::syscall("open the maps", "the gates", error);
        let gated = Table::open(&instance.map("GATED")).map_err(failed)?;
        for key in gated.keys().map_err(failed)? {
            gated.remove(&key).map_err(failed)?;
        }
        let map = open_pin(&instance.map("GATES")).map_err(failed)?;
        let mapping = Mapping::new(std::os::fd::AsFd::as_fd(&map), Gates::words(GATES)).map_err(failed)?;
        Ok(Self { gated, gates: Gates::of_map(mapping, GATES) })
    }

    /// A gate that nobody has.
    pub(crate) fn take(&self) -> Option<Gate> {
        self.gates.take()
    }

    /// Says which gates a pod's connections pass.
    pub(crate) fn set(&self, netns: u64, gates: Option<&(Gate, Gate)>) -> Result<(), RedirectError> {
        let written = match gates {
            Some((tenant, pod)) => {
                self.gated.set(&netns, &Gated { tenant: tenant.place(), pod: pod.place() })
            }
            None => self.gated.remove(&netns),
        };
        written.map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => RedirectError::TableFull { table: "gates", limit: 4096 },
            _ => RedirectError::syscall("write", "the table of gates", error),
        })
    }
}

/// Forgets a pod that is not steered any more, or whose gates nobody moves.
pub(crate) fn forget(state: &State, netns: u64) {
    if let Err(error) = state.gateways.set(netns, None) {
        tracing::warn!(netns, %error, "which gates a pod's connections pass could not be forgotten");
    }
}
