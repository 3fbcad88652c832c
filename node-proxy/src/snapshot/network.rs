//! Which NetworkPolicies are about which pod of this machine. Shared by all tenants.

use std::{collections::HashMap, sync::Arc};

use config::{
    model::{NamespaceFacts, NetworkPolicy},
    name::{Namespace, PodName},
};

/// What is needed to evaluate NetworkPolicies for pods of this machine.
#[derive(Debug, Default)]
pub struct Network {
    /// By pod. One that is not here is not known well enough to say anything.
    pub pods: HashMap<PodName, Arc<PodNetwork>>,
    /// Labels of namespaces; empty where there is no policy at all.
    pub namespaces: HashMap<Namespace, Arc<NamespaceFacts>>,
}

/// The policies that are about a pod.
#[derive(Debug, Default)]
pub struct PodNetwork {
    /// Those that limit what may reach it; without one, everything may.
    pub ingress: Vec<Arc<NetworkPolicy>>,
    /// Those that limit what it may reach; without one, it may reach everything.
    pub egress: Vec<Arc<NetworkPolicy>>,
}
