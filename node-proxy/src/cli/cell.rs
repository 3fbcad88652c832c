//! `canopy cell`: a tenant's cell in a process of its own. The daemon starts it; nobody else can.
//!
//! It must never touch anything that the daemon has not given it.

use std::{io, os::fd::AsFd, process::ExitCode};

use clap::Args;

use super::{Outcome, run};
use crate::{
    forest::process,
    sys::{
        dumps,
        process::{end_with_parent, ignore_stops},
    },
};

/// Be one tenant's cell. For the daemon's own use.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "\
The daemon runs `canopy cell` for each tenant whose spec.isolation is `process`, and speaks with it over its standard input. It ends
with the daemon. There is nothing to be said on its command line."
)]
pub(super) struct Cell {}

impl Cell {
    pub(super) fn run(self) -> Outcome {
        // Both before there is a key: nobody is to look into it, and it is not to be left alone.
        dumps::forbid()?;
        end_with_parent()?;
        // A service manager stops all processes of a service: the cell is to drain, as the daemon tells it.
        ignore_stops()?;
        let control = io::stdin().as_fd().try_clone_to_owned()?;
        let runtime = super::runtime()?;
        let filter = std::env::var("CANOPY_LOG").unwrap_or_else(|_| "info".to_owned());
        runtime.block_on(process::serve(control, || run::start_log(&filter, run::LogFormat::Text)))?;
        Ok(ExitCode::SUCCESS)
    }
}
