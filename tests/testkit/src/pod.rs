//! A pod: a network namespace linked to its node's bridge, with one IPv4 and one IPv6 address, a default route
//! through the node, and processes inside.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
    thread::JoinHandle,
};

use crate::{Addresses, KitError, Netns, Process, tool};

/// A pod's namespace. Dropping it ends its processes and removes link and namespace.
#[derive(Debug)]
pub struct Pod {
    namespace: String,
    name: String,
    addresses: Addresses,
    netns: Arc<Netns>,
    link: Link,
}

/// The node's end of the pod's link. Removed explicitly: the kernel frees a namespace's links only when the
/// last reference to it is gone, and the daemon may hold one.
#[derive(Debug)]
struct Link {
    node: String,
    device: String,
}

impl Pod {
    pub(crate) fn attach(
        node: &Netns,
        namespace: &str,
        name: &str,
        addresses: Addresses,
    ) -> Result<Self, KitError> {
        let netns = Arc::new(Netns::create(&format!("{}-{name}", node.name()))?);
        let device = format!("pod{}", addresses.v4.octets()[3]);
        tool::ip_batch(
            node.name(),
            &format!(
                "link add {device} type veth peer name eth0 netns {}\n\
                 link set {device} master br0\n\
                 link set {device} up\n",
                netns.name()
            ),
        )?;
        let link = Link { node: node.name().to_owned(), device };
        tool::ip_batch(netns.name(), &interface(addresses))?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Self { namespace, name, addresses, netns, link })
    }

    /// The Kubernetes namespace it belongs to.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name in that namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.addresses.v6
    }

    /// A port at its IPv4 address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.v4()), port)
    }

    /// A port at its IPv6 address.
    #[must_use]
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v6()), port)
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, kept for as long as the sidecar in it.
    #[must_use]
    pub fn shared_netns(&self) -> Arc<Netns> {
        Arc::clone(&self.netns)
    }

    /// The file of that namespace, for the annotation `canopy.mesh/netns`.
    #[must_use]
    pub fn netns_path(&self) -> &Path {
        self.netns.path()
    }

    /// The name of the node's end of its link.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link.device
    }

    /// Has it go dark: nothing reaches it any more, and nothing that it sends arrives. Nobody is told.
    ///
    /// # Errors
    /// The link is gone already.
    pub fn unplug(&self) -> Result<(), KitError> {
        tool::ip_batch(&self.link.node, &format!("link set {} down\n", self.link.device))
    }

    /// Runs `act` inside, on a thread of its own; a panic in it goes on here.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, KitError> {
        self.netns.run(act)
    }

    /// Runs `act` inside, on a thread that outlives this call.
    ///
    /// # Errors
    /// The namespace's file cannot be duplicated.
    pub fn spawn<T, F>(&self, act: F) -> Result<JoinHandle<Result<T, KitError>>, KitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.netns.spawn(act)
    }

    /// Starts a program inside. It lives until the guard is dropped.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self, command: Command) -> Result<Process, KitError> {
        Process::start(&self.netns, command)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // With the node already gone, so is the link.
        let _ = tool::ip(&["-n", &self.node, "link", "delete", &self.device]);
    }
}

fn interface(addresses: Addresses) -> String {
    let gateway = addresses.gateway();
    format!(
        "link set eth0 up\n\
         address add {}/24 dev eth0\n\
         address add {}/64 dev eth0 nodad\n\
         route add default via {}\n\
         route add default via {}\n",
        addresses.v4, addresses.v6, gateway.v4, gateway.v6
    )
}
