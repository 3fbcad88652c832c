//! Who a node says it is, in the words of Istio's workload discovery.
//!
//! A control plane may decide by it what a node is told; what is said must be true, and is no proof of anything.

use std::{collections::HashMap, net::IpAddr};

use config::name::{ClusterDomain, PodName};

use crate::control::discovery::protocol::{Node, Struct, Value};

/// What is true of a node.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The name of the node; empty where it has none.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The pod that the daemon is.
    pub pod: PodName,
    /// The cluster, as the control plane calls it.
    pub cluster: String,
    /// What the names of Services end in.
    pub domain: ClusterDomain,
    /// The network whose addresses can be dialled from here; empty where it has no name.
    pub network: String,
}

impl Introduction {
    /// As it is said on the wire.
    pub fn to_node(&self) -> Node {
        let Self { node, pod, cluster, domain, network, .. } = self;
        let of_no_family = IpAddr::from([127, 0, 0, 1]);
        let first = self.addresses.first().unwrap_or(&of_no_family);
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let fields = [
            ("NODE_NAME", node.clone()),
            ("NAME", pod.name.to_string()),
            ("NAMESPACE", pod.namespace.to_string()),
            ("INSTANCE_IPS", addresses.join(",")),
            ("CLUSTER_ID", cluster.clone()),
            ("NETWORK", network.clone()),
        ];
        let text = |(name, text): (&str, String)| (name.to_owned(), Value { text: Some(text) });
        let is_said = |(_, text): &(&str, String)| !text.is_empty();
        Node {
            id: format!("ztunnel~{first}~{}.{}~{}.svc.{domain}", pod.name, pod.namespace, pod.namespace),
            metadata: Some(Struct {
                fields: fields.into_iter().filter(is_said).map(text).collect::<HashMap<_, _>>(),
            }),
            user_agent_name: "canopy".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_its_address_its_pod_and_its_domain_as_istiod_reads_them() {
        let introduction = Introduction {
            node: "node-1".to_owned(),
            addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            pod: PodName::new("mesh".try_into().unwrap(), "canopy-x".try_into().unwrap()),
            cluster: "east".to_owned(),
            domain: "cluster.local".try_into().unwrap(),
            network: "lan".to_owned(),
        };
        let node = introduction.to_node();
        assert_eq!(node.id, "ztunnel~10.0.0.7~canopy-x.mesh~mesh.svc.cluster.local");
        let fields = node.metadata.unwrap().fields;
        let said = |name: &str| fields[name].text.clone().unwrap();
        assert_eq!([said("NODE_NAME"), said("NAME"), said("NAMESPACE")], ["node-1", "canopy-x", "mesh"]);
        assert_eq!([said("INSTANCE_IPS"), said("CLUSTER_ID")], ["10.0.0.7,fd00::7", "east"]);
        assert_eq!(said("NETWORK"), "lan");
    }
}
