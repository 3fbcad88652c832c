//! What is kept of all cells together: what they hold, and what they get of the CPU.
//!
//! Each is a thread's that waits for nobody; here they are told which cells there are. Nothing is decided here.

use std::{io, sync::Arc};

use super::{Settings, accounting::Accounting, keeper::Keeper};
use crate::tenancy::cpu::Enforcement;

/// The books. Dropping them ends their threads.
#[derive(Debug)]
pub(super) struct Books {
    accounting: Accounting,
    cpu: Enforcement,
}

impl Books {
    /// Opens them, with no cells.
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let cpu = if settings.budgets { Enforcement::start(&settings.instance)? } else { Enforcement::off() };
        Ok(Self { accounting: Accounting::start()?, cpu })
    }

    /// Says which cells there are.
    pub(super) fn enter<'a>(&self, keepers: impl Iterator<Item = &'a Keeper>) {
        let (mut accounts, mut cells) = (Vec::new(), Vec::new());
        for keeper in keepers {
            accounts.extend(keeper.arena().map(|arena| (Arc::clone(arena), Arc::clone(keeper.ledger()))));
            cells.extend(keeper.cpu_account());
        }
        self.accounting.account_for(accounts);
        self.cpu.govern(cells);
    }
}
