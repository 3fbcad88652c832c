//! A node, its pods and the manifests that tell the daemon of them, always in step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;
use testkit::{
    Daemon, KitError, Node, Options, Pod,
    manifests::{Manifests, Port, Service},
};

/// A node and its manifests. What is made on it is to be dropped before it: declare it later.
#[derive(Debug)]
pub struct Stage {
    /// What the daemon reads.
    pub manifests: Manifests,
    /// Where everything runs.
    pub node: Node,
}

/// The two cluster addresses of a Service.
#[derive(Debug, Clone, Copy)]
pub struct Vip(IpAddr, IpAddr);

impl Vip {
    /// A port at the IPv4 address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.0, port)
    }

    /// A port at the IPv6 address.
    #[must_use]
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.1, port)
    }
}

impl Stage {
    /// A node without pods.
    ///
    /// # Errors
    /// Namespaces cannot be made.
    pub fn new() -> Result<Self, KitError> {
        Ok(Self { manifests: Manifests::new()?, node: Node::new()? })
    }

    /// A pod, and its manifest.
    ///
    /// # Errors
    /// Namespaces cannot be made.
    pub fn pod(&self, namespace: &str, name: &str, ports: &[Port]) -> Result<Pod, KitError> {
        let pod = self.node.pod(namespace, name)?;
        self.manifests.namespace(namespace)?;
        self.manifests.pod(&pod, ports)?;
        Ok(pod)
    }

    /// The manifest of a Service at 10.96.0.`host` and fd96::`host`.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn service(
        &self,
        (namespace, name): (&str, &str),
        host: u8,
        ports: &[Port],
        pods: &[&Pod],
    ) -> Result<Vip, KitError> {
        let v4 = IpAddr::V4(Ipv4Addr::new(10, 96, 0, host));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, u16::from(host)));
        self.manifests.service(&Service { namespace, name, vips: &[v4, v6], ports }, pods)?;
        Ok(Vip(v4, v6))
    }

    /// Writes `NAME.yaml`: an HTTPRoute in `shop` whose parent is the Service `shop/web`, with these rules.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn route(&self, name: &str, rules: &str) -> Result<(), KitError> {
        self.manifests.write(&format!("{name}.yaml"), &route(name, rules))
    }

    /// As [`Stage::route`], and waits as [`Stage::put`] does.
    ///
    /// # Errors
    /// As theirs.
    pub fn put_route(&self, daemon: &Daemon, name: &str, rules: &str) -> Result<(), KitError> {
        self.put(daemon, &format!("{name}.yaml"), &route(name, rules))
    }

    /// Writes a file and waits until the daemon and all its cells have taken it up; without text, what was in the file goes.
    ///
    /// # Errors
    /// The manifest cannot be written, or is not taken up in time.
    pub fn put(&self, daemon: &Daemon, file: &str, text: &str) -> Result<(), KitError> {
        in_force(daemon, |before| {
            // Text that says nothing makes no version: an object besides does.
            let mark = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: mark-{before}}}\n");
            let text = text.trim_end().trim_end_matches("---");
            self.manifests.write(file, &if text.is_empty() { mark } else { format!("{text}\n---\n{mark}") })
        })
    }

    /// The daemon, when it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn daemon(&self) -> Result<Daemon, KitError> {
        Daemon::start(&self.node, self.manifests.path())
    }

    /// As [`Stage::daemon`], with further arguments.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn daemon_with(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = Options { arguments, ..Options::default() };
        Daemon::start_with(&self.node, self.manifests.path(), &options)
    }
}

fn route(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: shop}}\nspec:\n\
         \x20 parentRefs: [{{group: \"\", kind: Service, name: web}}]\n  rules:\n{rules}\n"
    )
}

/// Has something change what the daemon is told, by something that makes a version, and waits until it and all its cells have taken
/// that up. What changes it is given the version before.
///
/// # Errors
/// It cannot be changed, or is not taken up in time.
pub fn in_force(daemon: &Daemon, change: impl FnOnce(f64) -> Result<(), KitError>) -> Result<(), KitError> {
    let version = || daemon.metric("canopy_configuration_version", &[]).unwrap_or_default();
    let mut before = 0.0;
    crate::eventually("it says what is in force", || {
        before = version();
        before > 0.0
    })?;
    change(before)?;
    crate::eventually("the edit is in force", || version() > before)?;
    crate::eventually("every cell has taken it up", || is_taken_up(daemon, before))
}

/// Whether the forest has a later configuration than this, and all its cells: each takes up one thing after the other, so
/// which answers has taken up what it was told before.
fn is_taken_up(daemon: &Daemon, before: f64) -> bool {
    let Ok(told) = daemon.canopy(&["tree", "--json"]) else { return false };
    let forest: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    let answers = |cell: &Value| cell["state"].as_str().is_some_and(|state| !state.contains("not answer"));
    let is_later = forest["configuration_version"].as_f64().is_some_and(|version| version > before);
    is_later && forest["cells"].as_array().is_some_and(|cells| cells.iter().all(answers))
}

/// A port by its name and number.
#[must_use]
pub const fn port(name: &'static str, number: u16) -> Port {
    Port { name, number, app_protocol: None }
}

/// Port 80, called `http`.
pub const HTTP: Port = port("http", 80);
