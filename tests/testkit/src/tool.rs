//! Runs the system's own tools (`ip`) to their end. Anything that stays alive is a [`crate::Process`] instead.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use crate::KitError;

/// Runs `ip` with these arguments; what it printed.
pub(crate) fn ip(arguments: &[&str]) -> Result<String, KitError> {
    run(Command::new("ip").args(arguments), "")
}

/// Runs several `ip` commands in one process, inside the namespace `netns`; stops at the first failure.
pub(crate) fn ip_batch(netns: &str, lines: &str) -> Result<(), KitError> {
    run(Command::new("ip").args(["-n", netns, "-batch", "-"]), lines).map(drop)
}

/// Runs a program to its end; what it printed. `remedy` is what to do where it is not installed.
pub(crate) fn finish(command: &mut Command, remedy: &str) -> Result<String, KitError> {
    finish_fed(command, "", remedy)
}

fn run(command: &mut Command, input: &str) -> Result<String, KitError> {
    finish_fed(command, input, "apt-get install iproute2")
}

/// As [`finish`], for a program that reads `input` first.
pub(crate) fn finish_fed(command: &mut Command, input: &str, remedy: &str) -> Result<String, KitError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| start_error(&program, remedy, source))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails at its first line closes its input early; its own message is the better one.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| KitError::Start { what: program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(KitError::Failed {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The error for a program that could not be started: absent, or present and refused.
pub(crate) fn start_error(program: &str, remedy: &str, source: io::Error) -> KitError {
    if source.kind() == io::ErrorKind::NotFound {
        return KitError::MissingProgram { program: program.to_owned(), remedy: remedy.to_owned() };
    }
    KitError::Start { what: program.to_owned(), source }
}
