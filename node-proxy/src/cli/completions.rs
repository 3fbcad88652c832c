//! `canopy completions`: a script that makes a shell complete canopy's verbs and options.

use std::{io, process::ExitCode};

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
        clap_complete::generate(self.shell, command, "canopy", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
