//! `canopy completions`: a script that makes a shell complete canopy's verbs and options.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use clap_complete::Shell;

use super::Outcome;

/// Print a script that makes a shell complete canopy's verbs and options.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(canopy completions bash)
  canopy completions zsh > \"${fpath[1]}/_canopy\"
  canopy completions fish > ~/.config/fish/completions/canopy.fish")]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut clap::Command) -> Outcome {
        // Not straight to standard output: the generator panics where that was closed by its reader.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "canopy", &mut script);
        let mut out = io::stdout().lock();
        out.write_all(&script)?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}
