//! `canopy release`: lets the pods go that a stopped daemon left refused.
//!
//! It must never touch what a living daemon steers.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use super::Outcome;
use crate::{mode::steering::let_go, tenancy};

/// Let go of the pods that a stopped daemon left refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy release                        before an uninstall, after the daemon was stopped
  canopy release --instance blue        of a daemon that was started with --instance blue

A daemon that stops, or is killed, leaves its pods' connections refused until the next start takes them over: a restart opens
nothing. This takes down what is left of steering and fences, whichever way it steered and whichever version it was: from then on
the pods speak as if there had never been a proxy, in the clear, and NO POLICY OF THE MESH IS ENFORCED on them. A daemon that
runs is left alone (exit code 1). Where nothing is left, it says so, and that is no failure. `canopy check` names what is left
under any name.")]
pub(super) struct Release {
    /// Name of the stopped daemon's instance.
    #[arg(long, value_name = "NAME", default_value = "default", env = "CANOPY_INSTANCE")]
    instance: String,
}

impl Release {
    pub(super) fn run(self) -> Outcome {
        let released = let_go(&self.instance)?;
        tenancy::cpu::clear(&self.instance);
        let mut out = io::stdout().lock();
        if released.is_empty() {
            writeln!(out, "instance {} has left nothing to let go", self.instance)?;
        }
        for what in released {
            let pods = if what.pods == 1 { "1 pod".to_owned() } else { format!("{} pods", what.pods) };
            writeln!(
                out,
                "let go of {pods} that instance {} had left: {}",
                what.instance,
                what.at.display()
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
