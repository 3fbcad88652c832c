//! The ledgers of all tenants beside what the kernel says of the process: whether everything has been put down to somebody.
//!
//! Every part is measured by itself. None is ever what is left of a whole, or it would hide what nobody counted.

/// What was measured at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Balance {
    /// CPU time since the daemon started, in seconds.
    pub cpu: Parts,
    /// Bytes allocated and not freed, thread caches among them.
    pub allocated: Parts,
    /// Bytes of memory in use.
    pub resident: Parts,
}

/// Parts of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    /// What the tenants' cells have, and of CPU time have had.
    pub tenants: f64,
    /// What the daemon's own threads have.
    pub system: f64,
    /// What both share or leave behind: CPU time of the daemon's own threads that have ended, pages of files, stacks.
    pub common: f64,
    /// What the kernel says of the process; of allocated bytes, the allocator.
    pub whole: f64,
}

impl Parts {
    /// How much of the whole is missing in the parts, or too much in them (below zero).
    pub fn difference(&self) -> f64 {
        self.whole - self.tenants - self.system - self.common
    }
}

/// The parts by name.
pub fn named(parts: &Parts) -> [(&'static str, f64); 3] {
    [("tenants", parts.tenants), ("system", parts.system), ("common", parts.common)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_no_part_has() {
        let parts = Parts { tenants: 70.0, system: 20.0, common: 5.0, whole: 100.0 };
        assert_eq!(parts.difference(), 5.0);
        assert_eq!(named(&parts).iter().map(|(_, part)| part).sum::<f64>(), 95.0);
    }
}
