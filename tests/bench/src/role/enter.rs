//! `role:enter CPU COMMAND…`: becomes the command, on one CPU.
//!
//! Arguments are passed on untouched; no shell is involved. The process id stays the same.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use crate::error::BenchError;

/// Returns only if it could not.
pub(super) fn exec(arguments: &[OsString]) -> BenchError {
    match prepare(arguments) {
        Ok(mut command) => {
            let error = command.exec();
            BenchError::io(format!("start {}", command.get_program().display()), error)
        }
        Err(error) => error,
    }
}

fn prepare(arguments: &[OsString]) -> Result<Command, BenchError> {
    let [cpu, program, rest @ ..] = arguments else {
        return Err(BenchError::Usage("role:enter CPU COMMAND…".into()));
    };
    let cpu = cpu.to_str().and_then(|c| c.parse().ok()).ok_or(BenchError::Usage("CPU is a number".into()))?;
    super::pin(cpu)?;
    let mut command = Command::new(program);
    command.args(rest);
    Ok(command)
}
