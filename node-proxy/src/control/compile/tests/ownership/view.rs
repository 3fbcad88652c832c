//! All that connections of a namespace's pods meet by their snapshot, part by part and as texts that can be compared.

use std::net::SocketAddr;

use config::{
    model::{Mesh, Workload},
    name::{Namespace, TenantId},
};

use super::{
    Arc, BTreeMap, Destination, Snapshot, View, at, namespace,
    said::{
        Part, What,
        scene::{self, NAMESPACES},
    },
};
use crate::{
    policy::{
        egress::admit_outside,
        network::{Asked, between},
    },
    snapshot::Cluster,
};

/// What all namespaces of the scene meet.
pub(super) fn view(mesh: &Mesh, snapshots: &BTreeMap<TenantId, Arc<Snapshot>>) -> View {
    let mut view = View::new();
    for of in NAMESPACES {
        let snapshot = &snapshots[&mesh.membership[&namespace(of)]];
        let mut put = |what, says| view.insert(Part { of, what }, says);
        put(What::Pods, pods(mesh, snapshot, of));
        put(What::Outside, outside(snapshot, &namespace(of)));
        for other in NAMESPACES {
            put(What::Calls(other), calls(mesh, snapshot, of, other));
        }
    }
    view
}

/// Who its pods are, what is said of their ports, and who may come to them.
fn pods(mesh: &Mesh, snapshot: &Snapshot, of: &str) -> Vec<String> {
    let mut says = vec![format!("{} {:?} {:?}", snapshot.tenant, snapshot.isolation, snapshot.budget)];
    for workload in of_namespace(mesh, of) {
        let pod = &workload.pod;
        says.push(format!("{workload:?} {:?}", snapshot.policies.of(pod)));
        let network = snapshot.directory.network.pods.get(pod).map(|network| &network.ingress);
        says.push(format!("{network:?}"));
        for address in &workload.addresses {
            let Some(entry) = snapshot.directory.workloads.get(address) else { continue };
            let protocols: BTreeMap<_, _> = entry.protocols.iter().collect();
            says.push(format!("{address} is {:?}: {protocols:?} {:?}", entry.workload, entry.answers));
            for caller in NAMESPACES.iter().filter_map(|of| named(mesh, of, "web")) {
                let to = SocketAddr::new(*address, 8080);
                let comes = between(snapshot, Asked::Destination, caller, workload, to);
                says.push(format!("{} comes to {pod}: {comes:?}", caller.pod));
            }
        }
    }
    says
}

/// Where its calls to a namespace's Services and pods lead.
fn calls(mesh: &Mesh, snapshot: &Snapshot, of: &str, to: &str) -> Vec<String> {
    let vips = ["web", "more"].map(|name| format!("{}:80", scene::vip(name, to)));
    let pods = ["web", "far", "more"].map(|name| format!("{}:8080", scene::pod(name, to)));
    let mut says = Vec::new();
    for address in vips.iter().chain(&pods).map(|address| at(address)) {
        says.push(destination(snapshot, &namespace(of), address));
        if let (Some(from), Some(entry)) =
            (named(mesh, of, "web"), snapshot.directory.workloads.get(&address.ip()))
        {
            let goes = between(snapshot, Asked::Source, from, &entry.workload, address);
            says.push(format!("goes to {address}: {goes:?}"));
        }
    }
    says
}

/// What it reaches outside the mesh.
fn outside(snapshot: &Snapshot, of: &Namespace) -> Vec<String> {
    let addresses = [at(&format!("{}:443", scene::OUTSIDE)), at(&format!("{}:80", scene::SOMEWHERE))];
    let says = addresses.map(|address| {
        format!("{} {:?}", destination(snapshot, of, address), admit_outside(snapshot, of, address))
    });
    says.into()
}

fn destination(snapshot: &Snapshot, of: &Namespace, address: SocketAddr) -> String {
    let destination = snapshot.resolve(of, address);
    let says = match &destination {
        Destination::Service { entry, routes } => {
            format!("{} {} {routes:?} {}", entry.service, entry.port, endpoints(snapshot, &entry.cluster))
        }
        Destination::Workload { entry, .. } => reached(&entry.workload),
        Destination::Outside => "outside".to_owned(),
    };
    format!("{address} {:?}: {says}", destination.protocol())
}

fn endpoints(snapshot: &Snapshot, cluster: &Cluster) -> String {
    let endpoint = |endpoint: &Arc<config::model::Endpoint>| {
        let entry = snapshot.directory.workloads.get(&endpoint.address.ip());
        format!("{endpoint:?} {:?}", entry.map(|entry| reached(&entry.workload)))
    };
    cluster.endpoints.iter().map(endpoint).collect()
}

/// What of a pod decides about how it is reached, and as whom it answers.
fn reached(workload: &Workload) -> String {
    let Workload { pod, tenant, identity, meshed, netns, .. } = workload;
    format!("{pod} of {tenant} as {identity}, meshed {meshed}, at {netns:?}")
}

fn of_namespace<'a>(mesh: &'a Mesh, of: &'a str) -> impl Iterator<Item = &'a Arc<Workload>> {
    mesh.workloads.values().filter(move |workload| workload.pod.namespace.as_str() == of)
}

fn named<'a>(mesh: &'a Mesh, of: &'a str, name: &str) -> Option<&'a Arc<Workload>> {
    of_namespace(mesh, of).find(|workload| workload.pod.name.as_str() == name)
}
