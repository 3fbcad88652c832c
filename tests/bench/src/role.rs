//! What this binary is when the bench starts it again: load generator, backend, or a step that stays on a CPU and becomes a program.
//!
//! It is started inside the network namespace it works in, and enters others only where its argument names them.

use std::{ffi::OsString, io::Write, num::NonZeroU64, process::Command};

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity, set_current_timer_slack},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::BenchError, load};

mod appear;
mod asker;
mod backend;
mod enter;
mod first;
mod hold;
mod knock;
mod pulse;
mod spin;
mod web;
mod witness;

pub(crate) use appear::{AppearSpec, Appeared};
pub(crate) use asker::MARK;
pub(crate) use backend::BackendSpec;
pub(crate) use first::FirstSpec;
pub(crate) use hold::{HOLDING, HoldSpec};
pub(crate) use knock::{KnockSpec, Knocked};
pub(crate) use pulse::{PulseSpec, Pulsed};
pub(crate) use web::{SERVING, WebSpec};
pub(crate) use witness::{WitnessSpec, Witnessed};

/// Runs the role that the first argument names, if it names one.
pub(crate) fn dispatch(arguments: &[OsString]) -> Option<Result<(), BenchError>> {
    let role = arguments.get(1)?.to_str()?.strip_prefix("role:")?;
    let rest = &arguments[2..];
    Some(begin().and_then(|()| match role {
        "enter" => Err(enter::exec(rest)),
        "load" => send_load(rest),
        "appear" => appear::appear(rest),
        "backend" => backend::serve(rest),
        "first" => first::wait_for_answer(rest),
        "hold" => hold::hold(rest),
        "knock" => knock::knock(rest),
        "pulse" => pulse::pulse(rest),
        "spin" => spin::spin(rest),
        "web" => web::serve(rest),
        "witness" => witness::witness(rest),
        _ => Err(BenchError::Usage(format!("no role {role}"))),
    }))
}

/// This binary in a role that takes one argument.
pub(crate) fn command(role: &str, spec: &impl Serialize) -> Result<Command, BenchError> {
    let mut command = own_binary(role)?;
    command.arg(serde_json::to_string(spec)?);
    Ok(command)
}

/// A program that stays on one CPU with all it starts; arguments are added by the caller.
pub(crate) fn pinned(cpu: usize, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, BenchError> {
    let mut command = own_binary("enter")?;
    command.arg(cpu.to_string()).arg(program);
    Ok(command)
}

/// A process that keeps a CPU busy with what nobody else wants of it. `chrt` is of util-linux, which every Debian has.
pub(crate) fn spinner(cpu: usize) -> Result<Command, BenchError> {
    let own = own_binary("spin")?;
    let mut command = Command::new("chrt");
    command.args(["--idle", "0"]).arg(own.get_program()).args(own.get_args()).arg(cpu.to_string());
    Ok(command)
}

fn own_binary(role: &str) -> Result<Command, BenchError> {
    let path = std::env::current_exe().map_err(|e| BenchError::io("find this program's file", e))?;
    let mut command = Command::new(path);
    command.arg(format!("role:{role}"));
    Ok(command)
}

fn begin() -> Result<(), BenchError> {
    let os = |e| BenchError::os("begin a role", e);
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(os)
}

/// Stays on one CPU; what is started from here inherits it.
pub(crate) fn pin(cpu: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|e| BenchError::os(format!("stay on CPU {cpu}"), e))
}

/// Goes before what is not favoured on the same CPU, as far as the scheduler lets it.
fn favour() -> Result<(), BenchError> {
    rustix::process::nice(MOST_FAVOURED).map_err(|e| BenchError::os("go before other load", e))?;
    Ok(())
}

/// The lowest niceness there is.
const MOST_FAVOURED: i32 = -20;

fn send_load(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: load::LoadSpec = parse(arguments)?;
    pin(spec.cpu)?;
    if spec.manner.favoured {
        favour()?;
    }
    // The default slack of 50 µs would be added to every intended send time.
    set_current_timer_slack(NonZeroU64::new(1)).map_err(|e| BenchError::os("set timer slack", e))?;
    let report = load::run(&spec).map_err(|e| BenchError::Load(e.to_string()))?;
    let text = serde_json::to_string(&report)?;
    writeln!(std::io::stdout(), "{text}").map_err(|e| BenchError::io("write the report", e))
}

/// How a process was started, so that another like it can be.
#[derive(Debug)]
pub(crate) struct Recipe {
    program: OsString,
    arguments: Vec<OsString>,
}

impl Recipe {
    pub(crate) fn of(command: &Command) -> Self {
        let arguments = command.get_args().map(ToOwned::to_owned).collect();
        Self { program: command.get_program().to_owned(), arguments }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// A role's one argument, as JSON.
fn parse<T: DeserializeOwned>(arguments: &[OsString]) -> Result<T, BenchError> {
    let text = arguments.first().and_then(|a| a.to_str()).unwrap_or_default();
    Ok(serde_json::from_str(text)?)
}
