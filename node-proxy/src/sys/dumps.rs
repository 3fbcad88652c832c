//! Whether the process's memory may be written to a core file, or looked at by others of its user.
//!
//! It holds the keys of all workloads of the node, and what their connections carry: neither belongs on a disk.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on there is no core file of it, and only who has `CAP_SYS_PTRACE` can look. Programs that it starts are as they were.
pub fn forbid() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn what_is_forbidden_is_not_done() {
        forbid().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
