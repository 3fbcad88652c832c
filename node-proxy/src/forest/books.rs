//! What is kept of all cells together: what they hold, and what they get of the CPU.
//!
//! Each is a thread's that waits for nobody; here they are told which cells there are. Nothing is decided here.

use std::io;

use super::{
    Settings,
    accounting::{Accounting, Auditor},
    keeper::Keeper,
};
use crate::tenancy::{Ledger, cpu::Enforcement};

/// The books. Dropping them ends their threads.
#[derive(Debug)]
pub(super) struct Books {
    accounting: Accounting,
    cpu: Enforcement,
}

impl Books {
    /// Opens them, with no cells. The auditor tells what accounting finds.
    pub(super) fn open(settings: &Settings, auditor: &Auditor) -> io::Result<Self> {
        let cpu = if settings.budgets { Enforcement::start(&settings.instance)? } else { Enforcement::off() };
        Ok(Self { accounting: Accounting::start(auditor)?, cpu })
    }

    /// Says which cells there are.
    pub(super) fn enter<'a>(&self, keepers: impl Iterator<Item = &'a Keeper>) {
        let (mut accounts, mut cells) = (Vec::new(), Vec::new());
        for keeper in keepers {
            accounts.extend(keeper.accounts());
            cells.extend(keeper.cpu_account());
        }
        self.accounting.account_for(accounts);
        self.cpu.govern(cells);
    }

    /// A tenant has left the node.
    pub(super) fn departed(&self, ledger: &Ledger) {
        self.accounting.departed(ledger);
    }
}
