//! `canopy root`: changes the root of the embedded authority while everything runs.
//!
//! Works on the authority's directory; the daemons that use it see each step within a second.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use config::identity::TrustDomain;
use rustls::pki_types::UnixTime;

use super::Outcome;
use crate::identity::authority::embedded::rotation::{self, Step};

/// Change the root of the embedded authority, step by step, while everything runs.
#[derive(Debug, Args)]
#[command(after_help = "\
The change, on each machine:
  1. canopy root prepare    makes next.pem; it is trusted from now on, and signs nothing yet
     Copy its certificate to the other machines' directories (any name that ends in .crt), and their next one here.
  2. canopy root switch     next.pem signs, and every certificate is renewed; the previous root stays trusted
     Wait until every certificate was renewed: `canopy tree` shows them.
  3. canopy root finish     the previous root is trusted no more

At no moment is a certificate in use that anybody refuses.")]
pub(super) struct Root {
    /// The step.
    #[arg(value_enum)]
    step: Choice,
    /// The authority's directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/canopy/ca", env = "CANOPY_CA_DIR")]
    ca_dir: PathBuf,
    /// The trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_TRUST_DOMAIN")]
    trust_domain: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Choice {
    /// Make the next root, and trust it.
    Prepare,
    /// Let the next root sign.
    Switch,
    /// Trust the previous root no more.
    Finish,
}

impl Root {
    pub(super) fn run(self) -> Outcome {
        let (step, done) = match self.step {
            Choice::Prepare => (Step::Prepare, "the next root is trusted, and signs nothing yet"),
            Choice::Switch => (Step::Switch, "the next root signs; the previous one is still trusted"),
            Choice::Finish => (Step::Finish, "the previous root is trusted no more"),
        };
        let trust_domain = TrustDomain::try_from(self.trust_domain)?;
        rotation::step(&self.ca_dir, &trust_domain, UnixTime::now(), step)?;
        writeln!(io::stdout().lock(), "{}: {done}", self.ca_dir.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
