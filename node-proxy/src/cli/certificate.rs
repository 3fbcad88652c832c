//! `canopy certificate`: a certificate of the embedded authority, for what is not a workload of this node.
//!
//! Works on the authority's directory; the daemon is not asked. Whoever may read the root's key may have any certificate.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use config::identity::Identity;
use rustls::time_provider::DefaultTimeProvider;

use super::Outcome;
use crate::identity::authority::embedded::{Options, export::export};

/// Write a certificate of the embedded authority, its key, and the roots to trust, as PEM files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy certificate --identity spiffe://cluster.local/ns/ingress/sa/gateway --out /etc/gateway/tls
  openssl x509 -in /etc/gateway/tls/tls.crt -noout -text

Writes DIR/tls.crt (the certificate and its intermediate), DIR/tls.key (mode 0600) and DIR/ca.crt (every root that is trusted),
replacing what is there. The files are what `canopy run --ca files` reads. The root is made if there is none yet.")]
pub(super) struct Certificate {
    /// Whose: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
    #[arg(long, value_name = "SPIFFE_ID")]
    identity: Identity,
    /// Where the files are written; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The authority's directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/canopy/ca", env = "CANOPY_CA_DIR")]
    ca_dir: PathBuf,
    /// How long it is valid.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400,
          value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    ttl: u64,
}

impl Certificate {
    pub(super) fn run(self) -> Outcome {
        let options = Options {
            directory: self.ca_dir,
            trust_domain: self.identity.trust_domain.clone(),
            lifetime: Duration::from_secs(self.ttl),
            clock: Arc::new(DefaultTimeProvider),
        };
        export(&options, &self.identity, &self.out)?;
        writeln!(
            io::stdout().lock(),
            "{}: tls.crt, tls.key and ca.crt of {}",
            self.out.display(),
            self.identity
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
