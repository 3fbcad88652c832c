//! `role:spin CPU`: keeps a CPU from halting, at the lowest priority there is, until it is ended.
//!
//! On a virtual machine, waking a halted CPU takes longer than what is measured at one connection. It gives way to
//! whatever else wants to run.

use std::{ffi::OsString, hint::spin_loop};

use crate::error::BenchError;

pub(super) fn spin(arguments: &[OsString]) -> Result<(), BenchError> {
    let cpu = arguments.first().and_then(|cpu| cpu.to_str()?.parse().ok());
    super::pin(cpu.ok_or(BenchError::Usage("role:spin CPU".into()))?)?;
    loop {
        spin_loop();
    }
}
