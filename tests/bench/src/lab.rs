//! What is measured on: a node with pods, the servers in them, and the kernel's figures about processes.
//!
//! Namespaces and processes are testkit's; everything here is gone when its guard is dropped.

use std::{fs, rc::Rc};

use testkit::{Node, Pod};

use crate::error::BenchError;

pub(crate) mod backends;
pub(crate) mod fetch;
pub(crate) mod procfs;
pub(crate) mod sockets;

/// The CPU of load and backends.
pub(crate) const LOAD_CPU: usize = 0;
/// The CPU of the proxies.
pub(crate) const PROXY_CPU: usize = 1;

/// One node, or two with a wire between them.
#[derive(Debug)]
pub(crate) struct Nodes {
    here: Rc<Node>,
    there: Option<Rc<Node>>,
}

impl Nodes {
    pub(crate) fn one() -> Result<Self, BenchError> {
        Ok(Self { here: Rc::new(Node::new()?), there: None })
    }

    pub(crate) fn two() -> Result<Self, BenchError> {
        let nodes = Self::one()?;
        Ok(Self { there: Some(Rc::new(nodes.here.beside()?)), ..nodes })
    }

    /// The clients' node.
    pub(crate) fn here(&self) -> &Rc<Node> {
        &self.here
    }

    /// The other one.
    pub(crate) fn there(&self) -> Result<&Rc<Node>, BenchError> {
        self.there.as_ref().ok_or(BenchError::Usage("this subject needs two nodes".into()))
    }
}

/// A pod whose ports do not run out in a run with many short connections: every subject has the same.
pub(crate) fn pod(node: &Node, namespace: &str, name: &str) -> Result<Pod, BenchError> {
    let pod = node.pod(namespace, name)?;
    pod.run(|| {
        for (path, value) in SYSCTLS {
            fs::write(path, value).map_err(|e| BenchError::io(format!("write {path}"), e))?;
        }
        // Not there where the kernel has no connection tracking; then nothing can overflow.
        let _ = fs::write(CONNTRACK_TIME_WAIT.0, CONNTRACK_TIME_WAIT.1);
        Ok::<(), BenchError>(())
    })??;
    Ok(pod)
}

/// Of the pod's network namespace only.
const SYSCTLS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/tcp_tw_reuse", "1"),
    ("/proc/sys/net/ipv4/ip_local_port_range", "10240 65535"),
    // Not the machine's choice: where that is BBR, without `fq`, each flow is paced by timers, which measures timers.
    ("/proc/sys/net/ipv4/tcp_congestion_control", "reno"),
];

/// Ended connections leave the tracking table soon, so that iptables is not measured with its table full.
const CONNTRACK_TIME_WAIT: (&str, &str) = ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5");
