//! A node: a network namespace with a bridge that its pods hang on, as on a real node the host's; and a second
//! one beside it, on the other end of a wire.
//!
//! Each node is a namespace of its own, so that any number of them may use the same addresses and ports at
//! once, and so that removing it removes its links. It never changes the machine's own namespace.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{KitError, Netns, Pod, netns, scratch, tool, wire};

/// A node's namespace and bridge. Pods are made with [`Node::pod`]; they must be dropped before it, or at
/// least lose their network when it goes.
#[derive(Debug)]
pub struct Node {
    netns: Arc<Netns>,
    subnet: u8,
    next_host: AtomicU32,
}

/// The two addresses of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// In 10.77.0.0/24, on the node beside in 10.77.1.0/24.
    pub v4: Ipv4Addr,
    /// In fd77::/64, on the node beside in fd77:0:0:1::/64.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// 10.77.0.`host` and fd77::`host`, the latter written in decimal as if it were hexadecimal (host 21 is
    /// fd77::21), so that a reader sees at once that both are the same pod's.
    #[must_use]
    pub fn of_host(host: u8) -> Self {
        Self::of(0, host)
    }

    /// The same on the node beside: 10.77.1.`host` and fd77:0:0:1::`host`.
    #[must_use]
    pub fn of_host_beside(host: u8) -> Self {
        Self::of(1, host)
    }

    fn of(subnet: u8, host: u8) -> Self {
        let (hundreds, tens, ones) = (host / 100, host / 10 % 10, host % 10);
        let last = u16::from(hundreds) << 8 | u16::from(tens) << 4 | u16::from(ones);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, u16::from(subnet), 0, 0, 0, last);
        Self { v4: Ipv4Addr::new(10, 77, subnet, host), v6 }
    }

    /// Of the pod's node, on the bridge.
    pub(crate) fn gateway(self) -> Self {
        Self::of(self.v4.octets()[2], 1)
    }
}

impl Node {
    /// A node whose namespace has a name that no other node of this machine has, beginning with `kit-`.
    ///
    /// # Errors
    /// See [`Netns::create`].
    pub fn new() -> Result<Self, KitError> {
        scratch::sweep();
        Self::named(&scratch::name(NEXT_NODE.fetch_add(1, Ordering::Relaxed)))
    }

    /// A node with a name of the caller's choice, which is also the prefix of its pods' namespaces.
    ///
    /// # Errors
    /// See [`Netns::create`].
    pub fn named(name: &str) -> Result<Self, KitError> {
        Self::on_subnet(0, name)
    }

    /// A second node, as [`Node::new`], and a wire between the two: packets for each other's pods are routed across it,
    /// as between the machines of a cluster. A node has one neighbour at most.
    ///
    /// # Errors
    /// See [`Netns::create`].
    pub fn beside(&self) -> Result<Self, KitError> {
        self.beside_named(&scratch::name(NEXT_NODE.fetch_add(1, Ordering::Relaxed)))
    }

    /// The same with a name of the caller's choice.
    ///
    /// # Errors
    /// See [`Netns::create`].
    pub fn beside_named(&self, name: &str) -> Result<Self, KitError> {
        let other = Self::on_subnet(1, name)?;
        tool::ip_batch(
            self.netns.name(),
            &format!(
                "link add {WIRE} address {} type veth peer name {WIRE} address {} netns {name}\n",
                wire::text(wire::ENDS[0]),
                wire::text(wire::ENDS[1])
            ),
        )?;
        tool::ip_batch(self.netns.name(), &wire_end(0, 1))?;
        tool::ip_batch(name, &wire_end(1, 0))?;
        Ok(other)
    }

    /// Takes the wire to the other node away, without a word to anybody.
    ///
    /// # Errors
    /// There is no such wire.
    pub fn cut_wire(&self) -> Result<(), KitError> {
        tool::ip_batch(self.netns.name(), &format!("link set {WIRE} down\n"))
    }

    fn on_subnet(subnet: u8, name: &str) -> Result<Self, KitError> {
        let netns = Netns::create(name)?;
        tool::ip_batch(name, &bridge(Addresses::of(subnet, 1)))?;
        netns.run(forward_packets)??;
        Ok(Self { netns: Arc::new(netns), subnet, next_host: AtomicU32::new(FIRST_HOST) })
    }

    /// Removes what a killed process has left of the node that [`Node::named`] makes: its namespaces, its pods',
    /// and all processes in them. For callers that know, by a lock, that nobody else uses the name.
    ///
    /// # Errors
    /// A namespace cannot be removed.
    pub fn reclaim(name: &str) -> Result<(), KitError> {
        scratch::sweep();
        let pods = format!("{name}-");
        let left = netns::names().into_iter().filter(|its| its == name || its.starts_with(&pods));
        left.into_iter().try_for_each(|its| netns::remove_stale(&its))
    }

    /// A pod `namespace/name` with the next free addresses.
    ///
    /// # Errors
    /// The namespace or the link cannot be made.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Pod, KitError> {
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        self.pod_at(namespace, name, Addresses::of(self.subnet, u8::try_from(host).unwrap_or(u8::MAX)))
    }

    /// A pod with given addresses of this node, for manifests that name them.
    ///
    /// # Errors
    /// The namespace or the link cannot be made.
    pub fn pod_at(&self, namespace: &str, name: &str, addresses: Addresses) -> Result<Pod, KitError> {
        Pod::attach(&self.netns, namespace, name, addresses)
    }

    /// The node's own network namespace, where its daemon runs.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, kept for as long as the daemon in it.
    #[must_use]
    pub fn shared_netns(&self) -> Arc<Netns> {
        Arc::clone(&self.netns)
    }

    /// The file of that namespace.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.netns.path()
    }
}

/// A pod's packets for other pods cross the bridge; those for elsewhere are the node's to route.
fn forward_packets() -> Result<(), KitError> {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        std::fs::write(path, "1").map_err(|source| KitError::file(path, source))?;
    }
    Ok(())
}

/// `nodad`: an IPv6 address that is still being checked for duplicates cannot be bound for a second.
fn bridge(own: Addresses) -> String {
    format!(
        "link add br0 type bridge forward_delay 0 mcast_snooping 0\n\
         link set br0 up\n\
         address add {}/24 dev br0\n\
         address add {}/64 dev br0 nodad\n",
        own.v4, own.v6
    )
}

/// One end of the wire: its addresses, and the way to the pods behind the other.
fn wire_end(own: u8, other: u8) -> String {
    let (pods, last) = (Addresses::of(other, 0), |end: u8| end + 1);
    format!(
        "link set {WIRE} up\n\
         address add 10.78.0.{}/30 dev {WIRE}\n\
         address add fd78::{}/126 dev {WIRE} nodad\n\
         route add {}/24 via 10.78.0.{}\n\
         route add {}/64 via fd78::{}\n",
        last(own),
        last(own),
        pods.v4,
        last(other),
        pods.v6,
        last(other)
    )
}

/// The link between two nodes, in both.
const WIRE: &str = "wire0";
const FIRST_HOST: u32 = 10;
static NEXT_NODE: AtomicU32 = AtomicU32::new(0);
