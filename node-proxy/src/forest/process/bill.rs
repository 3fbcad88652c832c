//! What a cell's process has used of the CPU, as the kernel says it: what the process says of that is not asked.
//!
//! It must never take anything back: a ledger that goes on after another's end adds to what that one had.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    sys::{clock::Spent, process::Process},
    tenancy::Ledger,
};

/// With what the tenant's earlier cells have used.
#[derive(Debug)]
pub(super) struct Bill {
    cpu: Duration,
    spent: Spent,
    /// Where it is put down alone: for who has to tell it from what was used before.
    alone: Arc<AtomicU64>,
    /// What its group said last of how long it was held back.
    throttled: Cell<Duration>,
}

impl Bill {
    /// Of a process that is about to begin, and whose tenant has used what the ledger says.
    pub(super) fn after(ledger: &Ledger, alone: Arc<AtomicU64>) -> Self {
        Self {
            cpu: Duration::from_nanos(ledger.cpu_nanos.load(Relaxed)),
            spent: ledger.costs.spent_so_far(),
            alone,
            throttled: Cell::default(),
        }
    }

    /// Puts down what the process has used until now. Of one that is gone there is no more to be had.
    pub(super) fn write(&self, process: &Process, ledger: &Ledger) {
        if let Ok(cpu) = process.cpu() {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            ledger.cpu_nanos.store(nanos(self.cpu + cpu), Relaxed);
            self.alone.store(nanos(cpu), Relaxed);
        }
        if let Ok(Spent { user, system }) = process.spent() {
            ledger.costs.spent(Spent { user: self.spent.user + user, system: self.spent.system + system });
        }
    }

    /// Puts down how long its group, which is new with the process, was held back until now.
    pub(super) fn held_back(&self, throttled: Duration, ledger: &Ledger) {
        let more = throttled.saturating_sub(self.throttled.replace(throttled));
        ledger.throttled_nanos.fetch_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_billed_by_its_clock_after_what_was_used_before_it_and_its_end_takes_nothing_back() {
        let ledger = Ledger::default();
        ledger.beat(3_000_000_000);
        ledger.costs.spent(Spent { user: Duration::from_secs(2), system: Duration::from_secs(1) });
        let alone = Arc::new(AtomicU64::default());
        let bill = Bill::after(&ledger, Arc::clone(&alone));
        let mut child =
            Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        let process = Process::of_child(child.id()).unwrap();
        while process.cpu().unwrap() < Duration::from_millis(100) {
            std::thread::sleep(Duration::from_millis(2));
        }
        bill.write(&process, &ledger);
        let read = || {
            let Spent { user, system } = ledger.costs.spent_so_far();
            (Duration::from_nanos(ledger.cpu_nanos.load(Relaxed)), user + system)
        };
        let (cpu, spent) = read();
        assert!(
            cpu >= Duration::from_millis(3_100) && spent >= Duration::from_millis(3_050),
            "{cpu:?} {spent:?}"
        );
        let alone = Duration::from_nanos(alone.load(Relaxed));
        assert_eq!(alone + Duration::from_secs(3), cpu, "and alone it is without that");
        process.kill();
        child.wait().unwrap();
        bill.write(&process, &ledger);
        assert_eq!(read(), (cpu, spent));
    }

    #[test]
    fn time_held_back_adds_to_that_of_the_tenants_earlier_cells_and_is_put_down_once() {
        let ledger = Ledger::default();
        ledger.throttled_nanos.store(10, Relaxed);
        let bill = Bill::after(&ledger, Arc::default());
        for nanos in [5, 5, 8] {
            bill.held_back(Duration::from_nanos(nanos), &ledger);
        }
        assert_eq!(ledger.throttled_nanos.load(Relaxed), 18);
    }
}
