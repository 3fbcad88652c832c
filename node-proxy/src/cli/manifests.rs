//! The options that `canopy run` and `canopy control` have in common: where manifests are.

use std::{env, path::PathBuf};

use clap::Args;

use crate::{control::kubernetes::Access, mode::Manifests as Choice};

/// A directory, or a cluster.
#[derive(Debug, Args)]
pub(super) struct Manifests {
    /// The directory of Kubernetes manifests (.yaml, .yml, .json).
    #[arg(long, value_name = "DIR", env = "CANOPY_CONFIG", required_unless_present = "kubernetes")]
    config: Option<PathBuf>,
    /// Read the objects of a cluster instead, as the service account of this pod, or by a kubeconfig.
    #[arg(long, env = "CANOPY_KUBERNETES", conflicts_with = "config")]
    kubernetes: bool,
    /// The kubeconfig, with --kubernetes; several, separated by colons, are merged.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig, with --kubernetes; without this, its current one.
    #[arg(long, value_name = "NAME", env = "CANOPY_KUBERNETES_CONTEXT")]
    context: Option<String>,
}

impl Manifests {
    pub(super) fn choice(self) -> Result<Choice, String> {
        match self.config.filter(|_| !self.kubernetes) {
            Some(_) if self.context.is_some() => {
                Err("--context: there is no cluster without --kubernetes: leave it out, or give that"
                    .to_owned())
            }
            Some(directory) => Ok(Choice::Directory(directory)),
            None => {
                let given = self.kubeconfig.iter().flat_map(env::split_paths);
                let kubeconfig = given.filter(|path| !path.as_os_str().is_empty()).collect();
                Ok(Choice::Kubernetes(Access { kubeconfig, context: self.context }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        manifests: Manifests,
    }

    fn choice(arguments: &[&str]) -> Result<Choice, String> {
        let line = Line::try_parse_from([&["canopy"], arguments].concat());
        line.map_err(|error| error.to_string())?.manifests.choice()
    }

    #[test]
    fn manifests_are_in_a_directory_or_in_a_cluster_and_never_in_both() {
        let directory = choice(&["--config=/etc/canopy"]).unwrap();
        assert!(matches!(directory, Choice::Directory(path) if path == std::path::Path::new("/etc/canopy")));
        let cluster = choice(&["--kubernetes", "--kubeconfig=/a:/b", "--context=east"]).unwrap();
        let Choice::Kubernetes(access) = cluster else { panic!("{cluster:?}") };
        assert_eq!(access.kubeconfig, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(access.context.as_deref(), Some("east"));
        assert!(choice(&[]).unwrap_err().contains("--config <DIR>"));
        assert!(choice(&["--config=/x", "--kubernetes"]).unwrap_err().contains("cannot be used with"));
        assert!(choice(&["--config=/x", "--context=y"]).unwrap_err().contains("--kubernetes"));
    }
}
