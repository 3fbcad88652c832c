//! How often the pods of each tenant may connect: what the connect hooks go by. It must never hold up a connection that a tenant may
//! make: a pod of which nothing is said connects as often as it likes.

use std::io;

use ebpf_redirect_abi::Rate;

use super::{instance::Instance, state::State};
use crate::{RedirectError, sys::bpf::Table};

/// Whose each pod is, and how often each tenant may connect.
#[derive(Debug)]
pub(crate) struct Rates {
    tenants: Table<u64, u32>,
    rates: Table<u32, Rate>,
}

impl Rates {
    /// Opens both tables, and clears what a dead process left: its numbers say nothing here.
    pub(crate) fn open(instance: &Instance) -> Result<Self, RedirectError> {
        let failed = |error: io::Error| RedirectError::syscall("open the maps", "the rates", error);
        let tenants = Table::open(&instance.map("TENANTS")).map_err(failed)?;
        let rates = Table::open(&instance.map("RATES")).map_err(failed)?;
        let this = Self { tenants, rates };
        this.clear().map_err(failed)?;
        Ok(this)
    }

    fn clear(&self) -> io::Result<()> {
        self.tenants.keys()?.iter().try_for_each(|key| self.tenants.remove(key))?;
        self.rates.keys()?.iter().try_for_each(|key| self.rates.remove(key))
    }

    /// Says whose a pod is, and how often that tenant may connect. What it has used up stays used up.
    pub(crate) fn set(&self, netns: u64, tenant: u32, per_second: Option<u64>) -> Result<(), RedirectError> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::E2BIG) => RedirectError::TableFull { table: "rates", limit: 4096 },
            _ => RedirectError::syscall("write", "the tables of rates", error),
        };
        let before = self.tenants.get(&netns).map_err(failed)?;
        let Some(per_second) = per_second else {
            self.rates.remove(&tenant).map_err(failed)?;
            return self.forget(netns).map_err(failed);
        };
        let known = self.rates.get(&tenant).map_err(failed)?.unwrap_or_default();
        let next = Rate { due: known.due, refused: known.refused, ..Rate::of(per_second) };
        if known.interval != next.interval {
            self.rates.set(&tenant, &next).map_err(failed)?;
        }
        if before != Some(tenant) {
            self.forget(netns).map_err(failed)?;
            self.tenants.set(&netns, &tenant).map_err(failed)?;
        }
        Ok(())
    }

    /// How often connects of a pod's tenant were refused.
    pub(crate) fn refused(&self, netns: u64) -> Result<u64, RedirectError> {
        let failed = |error: io::Error| RedirectError::syscall("read", "the tables of rates", error);
        let Some(tenant) = self.tenants.get(&netns).map_err(failed)? else { return Ok(0) };
        Ok(self.rates.get(&tenant).map_err(failed)?.map_or(0, |rate| rate.refused))
    }

    /// Forgets a pod, and with the last of a tenant's what is known of the tenant.
    fn forget(&self, netns: u64) -> io::Result<()> {
        let Some(tenant) = self.tenants.get(&netns)? else { return Ok(()) };
        self.tenants.remove(&netns)?;
        for other in self.tenants.keys()? {
            if self.tenants.get(&other)? == Some(tenant) {
                return Ok(());
            }
        }
        self.rates.remove(&tenant)
    }
}

/// Forgets a pod that is not steered any more.
pub(crate) fn forget(state: &State, netns: u64) {
    if let Err(error) = state.rates.forget(netns) {
        tracing::warn!(netns, %error, "how often a pod's tenant may connect could not be forgotten");
    }
}
