//! Two nodes with a daemon each, which read the same manifests and trust the same authority.

use std::path::Path;

use tempfile::TempDir;
use testkit::{
    Daemon, KitError, Node, Options, Pod,
    manifests::{Manifests, Port},
};

use crate::Stage;

/// The nodes. What is made on them is to be dropped before them: declare it later.
#[derive(Debug)]
pub struct Mesh {
    /// The first node, and what both daemons read.
    pub stage: Stage,
    /// The second node.
    pub second: Node,
    authority: TempDir,
}

impl Mesh {
    /// Two nodes without pods.
    ///
    /// # Errors
    /// Namespaces cannot be made.
    pub fn new() -> Result<Self, KitError> {
        let stage = Stage::new()?;
        let second = stage.node.beside()?;
        let authority = tempfile::tempdir()
            .map_err(|source| KitError::Start { what: "an authority".to_owned(), source })?;
        Ok(Self { stage, second, authority })
    }

    /// A pod of the first node.
    ///
    /// # Errors
    /// Namespaces cannot be made.
    pub fn here(&self, namespace: &str, name: &str, ports: &[Port]) -> Result<Pod, KitError> {
        self.pod(&self.stage.node, FIRST, (namespace, name), ports)
    }

    /// A pod of the second.
    ///
    /// # Errors
    /// Namespaces cannot be made.
    pub fn there(&self, namespace: &str, name: &str, ports: &[Port]) -> Result<Pod, KitError> {
        self.pod(&self.second, SECOND, (namespace, name), ports)
    }

    fn pod(
        &self,
        node: &Node,
        node_name: &str,
        (namespace, name): (&str, &str),
        ports: &[Port],
    ) -> Result<Pod, KitError> {
        let pod = node.pod(namespace, name)?;
        self.stage.manifests.namespace(namespace)?;
        self.stage.manifests.pod_on(node_name, &pod, ports)?;
        Ok(pod)
    }

    /// Both daemons, when they are ready.
    ///
    /// # Errors
    /// One is not ready in time.
    pub fn daemons(&self) -> Result<(Daemon, Daemon), KitError> {
        Ok((self.daemon_here(&[])?, self.daemon_there(&[])?))
    }

    /// The first node's daemon, with further arguments.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn daemon_here(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        self.daemon(&self.stage.node, FIRST, &self.stage.manifests, arguments)
    }

    /// The second node's.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn daemon_there(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        self.daemon(&self.second, SECOND, &self.stage.manifests, arguments)
    }

    /// The first node's, which is told something else.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn daemon_misled(&self, manifests: &Manifests, arguments: &[&str]) -> Result<Daemon, KitError> {
        self.daemon(&self.stage.node, FIRST, manifests, arguments)
    }

    /// Both daemons, when they are ready, which steer by this (`--redirect`).
    ///
    /// # Errors
    /// One is not ready in time.
    pub fn daemons_by(&self, redirect: &str) -> Result<(Daemon, Daemon), KitError> {
        let daemon = |node: &Node, name: &str| {
            let about = ["--node", name, "--ca-dir"].map(str::to_owned).into_iter();
            let arguments = about.chain([self.authority().display().to_string()]).collect();
            let options = Options { redirect: redirect.to_owned(), arguments, ..Options::default() };
            Daemon::start_with(node, self.stage.manifests.path(), &options)
        };
        Ok((daemon(&self.stage.node, FIRST)?, daemon(&self.second, SECOND)?))
    }

    /// The authority's directory.
    #[must_use]
    pub fn authority(&self) -> &Path {
        self.authority.path()
    }

    fn daemon(
        &self,
        node: &Node,
        name: &str,
        manifests: &Manifests,
        arguments: &[&str],
    ) -> Result<Daemon, KitError> {
        let mut all = vec!["--node".to_owned(), name.to_owned()];
        if !arguments.contains(&"--ca-dir") {
            all.extend(["--ca-dir".to_owned(), self.authority().display().to_string()]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Daemon::start_with(node, manifests.path(), &Options { arguments: all, ..Options::default() })
    }
}

const FIRST: &str = "first";
const SECOND: &str = "second";
