//! What is kept of all cells together: what they hold, and what they get of the CPU.
//!
//! Each is a thread's that waits for nobody; here they are told which cells there are. Nothing is decided here.

use std::{io, time::Duration};

use super::{
    Settings,
    accounting::{Accounting, Auditor},
    keeper::Keeper,
    process,
};
use crate::tenancy::cpu::Enforcement;

/// The books. Dropping them ends their threads.
#[derive(Debug)]
pub(super) struct Books {
    accounting: Accounting,
    cpu: Enforcement,
}

impl Books {
    /// Opens them, with no cells: what is left of a daemon's that was killed goes. The auditor tells what accounting finds.
    pub(super) fn open(settings: &Settings, auditor: &Auditor) -> io::Result<Self> {
        process::clear();
        let cpu = if settings.budgets { Enforcement::start(&settings.instance)? } else { Enforcement::off() };
        Ok(Self { accounting: Accounting::start(auditor)?, cpu })
    }

    /// Says which cells there are: all, and of each tenant the one that serves it.
    pub(super) fn enter<'a>(
        &self,
        all: impl Iterator<Item = &'a Keeper>,
        serving: impl Iterator<Item = &'a Keeper>,
    ) {
        self.accounting.account_for(all.flat_map(Keeper::accounts).collect());
        self.cpu.govern(serving.filter_map(Keeper::cpu_account).collect());
    }

    /// A tenant has left the node, or one of its cells that another has followed.
    pub(super) fn departed(&self, used: Duration) {
        self.accounting.departed(used);
    }
}
