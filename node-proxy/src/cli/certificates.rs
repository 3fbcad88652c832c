//! The options of `canopy run` that say where certificates come from.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::mode::node;

/// Where workloads' certificates come from.
#[derive(Debug, Args)]
pub(super) struct Certificates {
    /// Where certificates come from: the daemon's own authority, or PEM files.
    #[arg(long, value_enum, default_value_t = Authority::Embedded, env = "CANOPY_CA")]
    ca: Authority,
    /// The own authority's directory: its root is made there once, and kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/canopy/ca", env = "CANOPY_CA_DIR")]
    ca_dir: PathBuf,
    /// How long a certificate of the own authority is valid; a new one comes at half of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, env = "CANOPY_CERTIFICATE_TTL",
          value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    certificate_ttl: u64,
    /// With `--ca files`: the directory of NAMESPACE/SERVICE_ACCOUNT/{tls.crt,tls.key,ca.crt}; watched.
    #[arg(long, value_name = "DIR", default_value = "/etc/canopy/certificates", env = "CANOPY_CERTIFICATES")]
    certificates: PathBuf,
    /// A revocation list (PEM or DER), or a directory of *.crl and *.pem; watched.
    #[arg(long, value_name = "PATH", env = "CANOPY_CRL")]
    pub(super) crl: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Authority {
    /// The daemon's own authority.
    Embedded,
    /// PEM files.
    Files,
}

impl Certificates {
    /// As the daemon takes it.
    pub(super) fn choice(self) -> node::Certificates {
        match self.ca {
            Authority::Embedded => node::Certificates::Embedded {
                directory: self.ca_dir,
                lifetime: Duration::from_secs(self.certificate_ttl),
            },
            Authority::Files => node::Certificates::Files(self.certificates),
        }
    }
}
