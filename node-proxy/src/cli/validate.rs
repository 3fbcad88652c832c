//! `canopy validate`: what the daemon would make of a directory, offline.
//!
//! The same reading and the same lowering as the daemon's. Nothing is contacted, nothing is changed.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use config::{
    capacity::Amounts,
    finding::Severity,
    identity::TrustDomain,
    name::{Namespace, RootNamespace},
    report::{Report, TextOptions, render_json, render_text},
    store::{Options, Store},
};

use super::Outcome;
use crate::control::directory;

/// Tell what the daemon would make of a directory of manifests: accepted, rejected and why, not obeyed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy validate examples/two-tenants
  canopy validate DIR --strict          also fail on warnings
  canopy validate DIR --node node-a     as the daemon of node-a would, of files that several nodes share
  canopy validate DIR --machine cpu=4,memory=8Gi --reserve cpu=500m,memory=512Mi
                                        also tell what tenants are promised beyond that
  canopy validate DIR --json | jq '.findings[] | select(.severity == \"rejected\")'

Reads files that end in .yaml, .yml or .json, not those of subdirectories. Exit code 0: nothing was rejected; 1: something was.")]
pub(super) struct Validate {
    /// The directory of manifests.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// List each field that other parts of Kubernetes act on, instead of counting them.
    #[arg(long)]
    all: bool,
    /// The trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// The namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// The node whose daemon is meant: pods whose spec.nodeName is another are not on its machine. Without it, all are, as for `canopy run`.
    #[arg(long, value_name = "NAME", env = "CANOPY_NODE")]
    node: Option<String>,
    /// What the machine has, to be told where tenants are promised more: cpu=CORES,memory=BYTES.
    #[arg(long, value_name = "AMOUNTS")]
    machine: Option<Amounts>,
    /// What of it is kept for the system.
    #[arg(long, value_name = "AMOUNTS", requires = "machine")]
    reserve: Option<Amounts>,
}

impl Validate {
    pub(super) fn run(self) -> Outcome {
        let trust_domain = TrustDomain::try_from(self.trust_domain)?;
        let root_namespace = RootNamespace(Namespace::try_from(self.root_namespace)?);
        let files = directory::read(&self.directory)?;
        let node = super::node(self.node)?;
        let options = Options { trust_domain, root_namespace, node, ..Options::default() };
        let outcome = Store::new(options).apply(&files);
        let (machine, reserve) = (self.machine.unwrap_or_default(), self.reserve.unwrap_or_default());
        let report = Report::new(&outcome).on(&outcome, machine, reserve);
        let text = if self.json {
            render_json(&report)? + "\n"
        } else {
            render_text(&report, TextOptions { all: self.all })
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        let warned = report.is_empty() || report.summary.count(Severity::Warning) > 0;
        let warned = warned || !report.overcommit.is_empty();
        let too_lax = self.strict && warned;
        Ok(ExitCode::from(if too_lax { 1 } else { report.exit_code() }))
    }
}
