//! The options of `canopy run` and `canopy check` that say where certificates come from.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use clap::Args;
use rustls::time_provider::DefaultTimeProvider;

use crate::{
    hbone::fields,
    identity::authority::istio::{self, Address},
    mode::node,
};

/// Where workloads' certificates come from.
#[derive(Debug, Args)]
pub(super) struct Certificates {
    /// Where certificates come from: the daemon's own authority (embedded), PEM files (files or files:DIR), the SPIRE agent of
    /// this node (spire:ADMIN_SOCKET), or Istio's certificate service (istio:HOST:PORT).
    #[arg(long, value_name = "SOURCE", default_value = "embedded", env = "CANOPY_CA")]
    ca: Authority,
    /// The own authority's directory: its root is made there once, and kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/canopy/ca", env = "CANOPY_CA_DIR")]
    ca_dir: PathBuf,
    /// How long a certificate is valid; a new one comes at half of it. 3600 with the own authority, 86400 asked of Istio's if it is not
    /// given; SPIRE and files decide themselves.
    #[arg(long, value_name = "SECONDS", env = "CANOPY_CERTIFICATE_TTL",
          value_parser = clap::value_parser!(u64).range(10..=31_536_000))]
    certificate_ttl: Option<u64>,
    /// With `--ca files`: the directory of NAMESPACE/SERVICE_ACCOUNT/{tls.crt,tls.key,ca.crt}; watched.
    #[arg(long, value_name = "DIR", default_value = "/etc/canopy/certificates", env = "CANOPY_CERTIFICATES")]
    certificates: PathBuf,
    /// With `--ca istio`: the service account token of the daemon's pod; read with every request.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/tokens/istio-token",
        env = "CANOPY_ISTIO_TOKEN"
    )]
    istio_token: PathBuf,
    /// With `--ca istio`: the roots that the service's own certificate leads to (PEM); read with every connection.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/istio/root-cert.pem",
        env = "CANOPY_ISTIO_ROOT"
    )]
    istio_root: PathBuf,
    /// What Istio calls this cluster, which the other ends of tunnels are told; with `--ca istio`, `Kubernetes` if it is not given.
    #[arg(long, value_name = "NAME", value_parser = cluster_name, env = "CANOPY_ISTIO_CLUSTER")]
    istio_cluster: Option<String>,
    /// With `--ca istio`: the DNS name in the service's certificate, if it is not HOST.
    #[arg(long, value_name = "NAME", env = "CANOPY_ISTIO_SERVER_NAME")]
    istio_server_name: Option<String>,
    /// A revocation list (PEM or DER), or a directory of *.crl and *.pem; watched.
    #[arg(long, value_name = "PATH", env = "CANOPY_CRL")]
    pub(super) crl: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Authority {
    /// The daemon's own authority.
    Embedded,
    /// PEM files, below this directory if it is named here.
    Files(Option<PathBuf>),
    /// The SPIRE agent with this admin socket.
    Spire(PathBuf),
    /// Istio's certificate service.
    Istio(Address),
}

impl FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("embedded", None) => Ok(Self::Embedded),
            ("files", None) => Ok(Self::Files(None)),
            ("files", Some(directory)) if !directory.is_empty() => Ok(Self::Files(Some(directory.into()))),
            // As SPIFFE writes it, too.
            ("spire", Some(socket)) => match socket.strip_prefix("unix://").unwrap_or(socket) {
                path if path.starts_with('/') => Ok(Self::Spire(path.into())),
                _ => {
                    Err("name the agent's admin socket by its full path: spire:/run/spire/private/admin.sock"
                        .into())
                }
            },
            ("istio", Some(address)) => address.parse().map(Self::Istio).map_err(|error| error.to_string()),
            ("spire", None) => {
                Err("name the agent's admin socket, too: spire:/run/spire/private/admin.sock".into())
            }
            ("istio", None) => {
                Err("name the certificate service, too: istio:istiod.istio-system.svc:15012".into())
            }
            _ => Err("one of: embedded, files, files:DIR, spire:ADMIN_SOCKET, istio:HOST:PORT".into()),
        }
    }
}

/// What is no name is never said to anybody, and would be an option without effect.
pub(super) fn cluster_name(name: &str) -> Result<String, String> {
    if fields::is_claim(name) {
        return Ok(name.to_owned());
    }
    Err("a cluster's name is letters, digits and any of -._:/@, at most 253 of them".to_owned())
}

impl Certificates {
    /// What the mesh calls this cluster, where that is known: as its certificate service does, or as it is given.
    pub(super) fn cluster(&self) -> Option<String> {
        let by_istio = matches!(self.ca, Authority::Istio(_)).then_some(CLUSTER);
        self.istio_cluster.as_deref().or(by_istio).map(str::to_owned)
    }

    /// As the daemon takes it.
    pub(super) fn choice(self) -> node::Certificates {
        let cluster = self.cluster();
        let lifetime = |default| Duration::from_secs(self.certificate_ttl.unwrap_or(default));
        match self.ca {
            Authority::Embedded => {
                node::Certificates::Embedded { directory: self.ca_dir, lifetime: lifetime(EMBEDDED) }
            }
            Authority::Files(directory) => node::Certificates::Files(directory.unwrap_or(self.certificates)),
            Authority::Spire(socket) => node::Certificates::Spire(socket),
            Authority::Istio(address) => node::Certificates::Istio(istio::Options {
                address,
                server_name: self.istio_server_name,
                root: self.istio_root,
                token: self.istio_token,
                cluster: cluster.unwrap_or_default(),
                lifetime: lifetime(ISTIO),
                clock: Arc::new(DefaultTimeProvider),
            }),
        }
    }
}

/// What istiod calls its own cluster where nobody says otherwise.
const CLUSTER: &str = "Kubernetes";
/// An hour: an own authority is always near.
const EMBEDDED: u64 = 3600;
/// A day, as Istio's own proxies ask: workloads outlive an authority that is away for hours.
const ISTIO: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_named_with_what_it_needs() {
        let parse = |text: &str| text.parse::<Authority>();
        assert_eq!(parse("embedded"), Ok(Authority::Embedded));
        assert_eq!(parse("files"), Ok(Authority::Files(None)));
        assert_eq!(parse("files:/etc/pki"), Ok(Authority::Files(Some("/etc/pki".into()))));
        assert_eq!(parse("spire:/run/admin.sock"), Ok(Authority::Spire("/run/admin.sock".into())));
        assert_eq!(parse("spire:unix:///run/admin.sock"), Ok(Authority::Spire("/run/admin.sock".into())));
        let istiod = "istiod.istio-system.svc:15012";
        assert_eq!(parse(&format!("istio:{istiod}")), Ok(Authority::Istio(istiod.parse().unwrap())));
        assert!(parse("istio:[2001:db8::1]:15012").is_ok());
    }

    /// What `canopy run` makes of these arguments.
    fn parsed(arguments: &[&str]) -> Result<Certificates, clap::Error> {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            certificates: Certificates,
        }
        let line = [&["canopy"], arguments].concat();
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.certificates)
    }

    /// What it would know its cluster as, and tell Istio's certificate service.
    fn cluster(arguments: &[&str]) -> (Option<String>, Option<String>) {
        let certificates = parsed(arguments).unwrap();
        let known = certificates.cluster();
        match certificates.choice() {
            node::Certificates::Istio(options) => (known, Some(options.cluster)),
            _ => (known, None),
        }
    }

    #[test]
    fn the_cluster_is_known_where_it_is_given_or_where_istio_names_it() {
        let some = |name: &str| Some(name.to_owned());
        let istio = "--ca=istio:istiod:15012";
        assert_eq!(cluster(&[]), (None, None));
        assert_eq!(cluster(&["--ca=files", "--istio-cluster=east-1"]), (some("east-1"), None));
        assert_eq!(cluster(&[istio]), (some("Kubernetes"), some("Kubernetes")));
        assert_eq!(cluster(&[istio, "--istio-cluster=east-1"]), (some("east-1"), some("east-1")));
    }

    #[test]
    fn what_is_no_name_of_a_cluster_is_refused() {
        for bad in ["", "east 1", "east,k8s.pod.name=x", &"e".repeat(254)] {
            let refused = parsed(&["--istio-cluster", bad]).unwrap_err().to_string();
            assert!(refused.contains("a cluster's name is letters"), "{bad}: {refused}");
        }
    }

    #[test]
    fn source_that_lacks_something_says_what() {
        let error = |text: &str| text.parse::<Authority>().unwrap_err();
        assert!(error("spire").contains("admin socket"));
        assert!(error("spire:admin.sock").contains("full path"));
        assert!(error("istio").contains("istiod.istio-system.svc:15012"));
        assert!(error("istio:istiod").contains("HOST:PORT"));
        assert!(error("istio:istiod:0").contains("HOST:PORT"));
        assert!(error("istio:user@istiod:15012").contains("HOST:PORT"));
        assert!(error("files:").contains("files:DIR"));
        assert!(error("vault").contains("one of: embedded"));
    }
}
