//! The CNI plugin: what the container runtime runs for every pod's sandbox, before any container of it starts.
//!
//! Chained behind the plugins that make a pod's network, it asks the daemon's [gate](crate::control::gate) to enrol the pod and waits. It
//! changes no network itself and passes on the result that it was given. While no daemon is there, it asks the API server whose the pod is;
//! a pod that is nobody's must never wait for a daemon.

use std::{io::Write, path::Path, process::ExitCode};

use self::{
    answer::{Code, Failure},
    call::{Call, Command},
    network::Network,
};

pub mod answer;
mod api;
pub mod call;
mod decide;
pub mod install;
pub mod network;
mod run;

#[cfg(test)]
mod tests;

/// What the plugin's file is called, and so what a network's configuration calls it (`type`).
pub const NAME: &str = "canopy-cni";

/// Bytes of a network's configuration at most; a longer one is not read whole, and so not understood.
pub const LONGEST_NETWORK: u64 = 4 * 1024 * 1024;

/// Does what the environment and standard input say, and answers on `out` as the specification has it.
///
/// The exit code is 0 on success (CNI specification 1.1, section 2, "Errors"). On failure the error is on standard output, and
/// what containerd and CRI-O do with it is the same whatever its code: they delete the sandbox, and the kubelet shows the message in
/// an event of the pod (`FailedCreatePodSandBox`) and tries again, at growing distances.
pub async fn plugin(
    variable: impl Fn(&str) -> Option<String>,
    input: &[u8],
    (out, log): (&mut impl Write, &mut impl Write),
) -> ExitCode {
    match answer(variable, input).await {
        Ok(Done { text, note }) => {
            // "stderr can be used for unstructured output such as logs."
            let _ = note.map_or(Ok(()), |note| writeln!(log, "canopy: {note}"));
            // With nobody to read it, the exit code says it.
            let _ = if text.is_empty() { Ok(()) } else { writeln!(out, "{text}") };
            ExitCode::SUCCESS
        }
        Err((version, failure)) => fail(&failure, version.as_deref(), out),
    }
}

/// Answers that standard input cannot be read.
pub fn unread(error: &std::io::Error, out: &mut impl Write) -> ExitCode {
    fail(&Failure::new(Code::Io, "the network's configuration cannot be read", error), None, out)
}

fn fail(failure: &Failure, version: Option<&str>, out: &mut impl Write) -> ExitCode {
    let _ = writeln!(out, "{}", failure.to_json(version));
    ExitCode::FAILURE
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Done {
    /// What is to be answered.
    text: String,
    /// What is to be remarked, if anything is.
    note: Option<String>,
}

/// What to say; or why not, and the version in which to say it.
async fn answer(
    variable: impl Fn(&str) -> Option<String>,
    bytes: &[u8],
) -> Result<Done, (Option<String>, Failure)> {
    let call = Call::read(variable).map_err(|failure| (None, failure))?;
    if call.command == Command::Version {
        let text = network::versions(bytes).map_err(|failure| (None, failure))?;
        return Ok(Done { text, note: None });
    }
    let network = Network::read(bytes).map_err(|failure| (network::version(bytes), failure))?;
    let version = network.version.clone();
    run::run(&call, &network).await.map_err(|failure| (Some(version), failure))
}

/// Whether this program was called as the runtime calls its plugins: by the plugin's name, with no arguments.
pub fn is_called(arguments: &[std::ffi::OsString]) -> bool {
    match arguments {
        [program] => Path::new(program).file_name().is_some_and(|name| name == NAME),
        _ => false,
    }
}
