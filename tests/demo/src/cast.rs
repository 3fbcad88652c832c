//! The pods of examples/two-tenants and the programs in them: nginx, Redis, a gRPC server. Addresses and names
//! are those of the manifests.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use testkit::{Addresses, Node, Pod, Process, Server};

use crate::error::DemoError;

/// The name of the node's namespace, and the beginning of its pods'.
pub(crate) const NODE: &str = "canopy-demo";
/// The same of the node beside it.
pub(crate) const OTHER_NODE: &str = "canopy-demo-node-b";
/// `http://archive.bank`, on the other node.
pub(crate) const ARCHIVE: SocketAddr = vip(30, 80);
/// `http://cart.shop`.
pub(crate) const CART: SocketAddr = vip(10, 80);
/// `ledger.bank`, gRPC.
pub(crate) const LEDGER: SocketAddr = vip(20, 9090);
/// `vault.bank`, the Redis protocol.
pub(crate) const VAULT: SocketAddr = vip(21, 6379);

/// The pods, their servers running. Servers end before pods, pods before the node.
#[derive(Debug)]
pub(crate) struct Cast {
    _ledger_server: Process,
    _servers: Vec<Server>,
    pub(crate) frontend: Pod,
    pub(crate) ledger: Pod,
    /// On the other node.
    pub(crate) archive: Pod,
    others: Vec<Pod>,
    pub(crate) node: Node,
    pub(crate) other_node: Node,
}

impl Cast {
    pub(crate) fn assemble() -> Result<Self, DemoError> {
        let node = Node::named(NODE)?;
        let other_node = node.beside_named(OTHER_NODE)?;
        let pod = |namespace, name, host| node.pod_at(namespace, name, Addresses::of_host(host));
        let frontend = pod("shop", "frontend", 11)?;
        let (cart_v1, cart_v2) = (pod("shop", "cart-v1", 12)?, pod("shop", "cart-v2", 13)?);
        let (ledger, vault) = (pod("bank", "ledger", 21)?, pod("bank", "vault", 22)?);
        let archive = other_node.pod_at("bank", "archive", Addresses::of_host_beside(31))?;
        let servers = vec![
            Server::nginx(&cart_v1, 8080)?,
            Server::nginx(&cart_v2, 8080)?,
            Server::redis(&vault, 6379)?,
            Server::nginx(&archive, 8080)?,
        ];
        let ledger_server = serve_grpc(&ledger, 9090)?;
        let others = vec![cart_v1, cart_v2, vault];
        Ok(Self {
            _ledger_server: ledger_server,
            _servers: servers,
            frontend,
            ledger,
            archive,
            others,
            node,
            other_node,
        })
    }

    /// All pods of the first node, in the order of the manifests.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Pod, &'static str)> {
        let [cart_v1, cart_v2, vault] = &self.others[..] else { unreachable!("assembled with three others") };
        [
            (&self.frontend, "the caller"),
            (cart_v1, "nginx, HTTP/1.1"),
            (cart_v2, "nginx, HTTP/1.1"),
            (&self.ledger, "a gRPC server"),
            (vault, "Redis, a raw TCP protocol"),
        ]
        .into_iter()
    }

    /// One more pod of the second version of the cart.
    pub(crate) fn recruit(&self) -> Result<(Pod, Server), DemoError> {
        let pod = self.node.pod_at("shop", RECRUIT, Addresses::of_host(14))?;
        let server = Server::nginx(&pod, 8080)?;
        Ok((pod, server))
    }
}

/// The gRPC server is this program in another role: a process, as a pod's server is.
fn serve_grpc(pod: &Pod, port: u16) -> Result<Process, DemoError> {
    let own = std::env::current_exe().map_err(DemoError::io("cannot find this program"))?;
    let mut command = Command::new(own);
    // All addresses of both families.
    command.arg("serve-grpc").arg(format!("[::]:{port}")).arg(pod.name());
    let mut process = pod.start(command)?;
    process.wait_listening(pod.netns(), pod.at(port))?;
    Ok(process)
}

const fn vip(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, host)), port)
}

/// The name of the pod that comes and goes.
pub(crate) const RECRUIT: &str = "cart-v2-b";
