//! Whether a cell is still its tenant's cell.
//!
//! A stuck thread cannot be ended from outside. It is replaced, and finds out here, at its next stage, that it
//! has been. It must never serve anybody after that.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The number of the cell that serves a tenant now; held by the supervisor.
#[derive(Debug, Clone, Default)]
pub struct Throne(Arc<AtomicU64>);

/// One cell's claim to serve its tenant. Cheap to ask: one load.
#[derive(Debug, Clone, Default)]
pub struct Tenure {
    throne: Throne,
    generation: u64,
}

impl Throne {
    /// Ends every earlier tenure and begins a new one.
    pub fn succeed(&self) -> Tenure {
        let generation = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        Tenure { throne: self.clone(), generation }
    }

    /// Ends the present tenure, with nobody to follow yet.
    pub fn vacate(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Tenure {
    /// Whether another cell serves the tenant now.
    pub fn is_over(&self) -> bool {
        self.throne.0.load(Ordering::Acquire) != self.generation
    }

    /// Which generation of the tenant's cell this is, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_is_over_when_another_begins() {
        let throne = Throne::default();
        let first = throne.succeed();
        assert!(!first.is_over());
        let second = throne.succeed();
        assert!(first.is_over() && !second.is_over());
        throne.vacate();
        assert!(second.is_over());
    }
}
