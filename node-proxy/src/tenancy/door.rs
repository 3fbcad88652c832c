//! Whether there is room for one more connection, of a tenant or of a workload, as the kernel is told so that it can refuse early.
//!
//! Written by the cell's own thread, the one that counts: where it has a gate, the gate moves with the count, and not at the next
//! beat. A cell in a process of its own has none, since the table is all tenants'; what it says is passed on at every beat. It must
//! never be all that refuses: the cell counts whatever the gate lets by.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use ebpf_redirect::Gate;

use super::ledger::add;

/// One door, open at first.
#[derive(Debug, Default)]
pub struct Door {
    gate: OnceLock<Gate>,
    /// Whether there are as many as may be (1).
    pub(super) full: AtomicU64,
    /// Connects that the gate has kept out. The supervisor writes it.
    refused: AtomicU64,
}

impl Door {
    /// That of the cell that follows another: what was kept out is kept, and nobody is inside.
    pub fn continued(earlier: &Self) -> Self {
        Self { refused: AtomicU64::new(earlier.refused.load(Relaxed)), ..Self::default() }
    }

    /// Has it move this gate, from before the first connection on. Only the first call has an effect.
    pub fn hang(&self, gate: Option<Gate>) {
        if let Some(gate) = gate {
            let _ = self.gate.set(gate);
        }
    }

    /// Its gate, where it has one.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.get()
    }

    /// Says whether there is no room.
    pub fn set_full(&self, full: bool) {
        if self.full.load(Relaxed) != u64::from(full) {
            self.full.store(u64::from(full), Relaxed);
            self.pass_on();
        }
    }

    /// Moves the gate as it was said, where somebody else has said it.
    pub fn pass_on(&self) {
        if let Some(gate) = self.gate.get() {
            gate.shut(self.full.load(Relaxed) != 0);
        }
    }

    /// Counts what the gate has kept out since this was asked last, and says how much that was.
    pub fn count(&self) -> u64 {
        let refused = self.gate.get().map_or(0, Gate::take_refused);
        if refused > 0 {
            add(&self.refused, refused);
        }
        refused
    }

    /// How much the gate has kept out.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use ebpf_redirect::{Redirect as _, fake::FakeRedirect};

    use super::*;

    #[test]
    fn a_gate_moves_with_its_door_and_a_successors_is_open() {
        let redirect = FakeRedirect::default();
        let door = Door::default();
        door.set_full(true);
        door.hang(redirect.gate());
        let gate = door.gate().unwrap().clone();
        assert!(!gate.is_shut(), "it is hung before there is anybody inside");
        door.pass_on();
        assert!(gate.is_shut());
        door.set_full(false);
        assert!(!gate.is_shut());
        door.set_full(true);
        let next = Door::continued(&door);
        next.hang(redirect.gate());
        assert!(gate.is_shut() && next.gate().is_some_and(|next| *next != gate && !next.is_shut()));
        door.set_full(false);
        door.set_full(true);
        assert!(!next.gate().unwrap().is_shut(), "whoever comes round late moves its own");
    }
}
