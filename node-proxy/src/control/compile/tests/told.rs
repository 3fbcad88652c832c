//! What a cell compiles for itself, from its tenant's part that was bytes, decides as what the daemon compiles from the whole.

use std::{fs, path::Path};

use config::{
    model::{Here, Isolation, Reach, Topology},
    name::NodeName,
    store::{FileText, Options, Store},
};

use super::*;
use crate::{
    policy::network::{self, Asked},
    snapshot::Source,
};

/// The mesh of examples, all of whose tenants are to have processes.
fn examples(directories: &[&str]) -> Mesh {
    let mut files = BTreeMap::new();
    for directory in directories {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = FileText::from(fs::read(&path).unwrap());
            files.insert(path, text);
        }
    }
    let mut mesh = Mesh::clone(&Store::new(Options::default()).apply(&files).mesh);
    for tenant in mesh.tenants.values_mut() {
        Arc::make_mut(tenant).isolation = Isolation::Process;
    }
    assert!(mesh.tenants.len() > 1 && mesh.services.len() > 1, "{directories:?}");
    mesh
}

fn through_bytes(source: &Source) -> Source {
    postcard::from_bytes(&postcard::to_stdvec(source).unwrap()).unwrap()
}

/// All that a tenant's connections ask of a snapshot.
fn assert_same_decisions(mesh: &Mesh, here: &Snapshot, there: &Snapshot) {
    assert_eq!((here.version, &here.tenant, here.egress), (there.version, &there.tenant, there.egress));
    assert_eq!((here.isolation, here.budget), (there.isolation, there.budget));
    let own: Vec<_> = mesh.workloads.values().filter(|workload| workload.tenant == here.tenant).collect();
    assert!(!own.is_empty(), "{}", here.tenant);
    let destinations = here.directory.services.keys().copied();
    let endpoints = here.directory.endpoints.iter().copied();
    let nobody = SocketAddr::from(([203, 0, 113, 9], 443));
    let destinations: Vec<SocketAddr> = destinations.chain(endpoints).chain([nobody]).collect();
    for workload in &own {
        let pod = &workload.pod;
        assert!(here.policies.of(pod).is_some(), "{pod} is of this machine");
        assert_eq!(here.policies.of(pod), there.policies.of(pod), "{pod}");
        for to in &destinations {
            let one = here.resolve(&pod.namespace, *to);
            let other = there.resolve(&pod.namespace, *to);
            assert_eq!(route(&one), route(&other), "{pod} to {to}");
            let entry = |snapshot: &Snapshot| {
                snapshot.external.entry(&pod.namespace, to.ip(), to.port()).map(|entry| entry.name.clone())
            };
            assert_eq!(entry(here), entry(there), "{pod} to {to}");
        }
        for other in mesh.workloads.values() {
            let at = SocketAddr::new(other.addresses[0], 80);
            let back = SocketAddr::new(workload.addresses[0], 80);
            for (asked, from, to, at) in
                [(Asked::Source, *workload, other, at), (Asked::Destination, other, *workload, back)]
            {
                let asked = |snapshot: &Snapshot| network::between(snapshot, asked, from, to, at);
                assert_eq!(asked(here), asked(there), "{} to {}", from.pod, to.pod);
            }
        }
    }
}

/// What a resolved destination says, but for the addresses of objects.
fn route(destination: &Destination) -> String {
    match destination {
        Destination::Service { entry, routes } => format!("{entry:?} {routes:?}"),
        Destination::Workload { entry, protocol } => {
            format!("{} {:?} {:?} {protocol:?}", entry.workload.pod, entry.workload.identity, entry.answers)
        }
        Destination::Outside => "outside".to_owned(),
    }
}

#[test]
fn a_cell_that_compiles_for_itself_decides_as_the_daemon_would() {
    let with_policies = examples(&["two-tenants", "policies"]);
    assert!(!with_policies.authorization.is_empty() && !with_policies.network_policies.is_empty());
    for mesh in [examples(&["two-tenants"]), with_policies] {
        let addresses: Arc<[IpAddr]> = [IpAddr::from([192, 0, 2, 1])].into();
        let compiled = Compiler::for_node(Arc::clone(&addresses)).compile(&mesh);
        for (tenant, here) in &compiled {
            if !mesh.workloads.values().any(|workload| workload.tenant == *tenant) {
                continue;
            }
            let source = through_bytes(here.source.as_ref().expect("a process is told"));
            let there = Told::new(tenant.clone(), &source.node_addresses).compile(source);
            assert_same_decisions(&mesh, here, &there);
            assert_eq!(here.directory.node_addresses, there.directory.node_addresses);
            assert!(there.source.is_none(), "it tells nobody");
        }
    }
}

#[test]
fn a_tenant_of_class_thread_is_told_nothing_it_would_have_to_compile() {
    let compiled = Compiler::for_node(Arc::default()).compile(&mesh());
    assert!(compiled.values().all(|snapshot| snapshot.source.is_none()));
}

#[test]
fn what_did_not_change_between_two_tellings_is_the_same_object() {
    let mut mesh = examples(&["two-tenants"]);
    let mut compiler = Compiler::for_node(Arc::default());
    let first = compiler.compile(&mesh);
    let (tenant, before) = first.iter().next().unwrap();
    let mut told = Told::new(tenant.clone(), &Arc::default());
    let one = told.compile(through_bytes(before.source.as_ref().unwrap()));
    mesh.version += 1;
    let service = Arc::make_mut(mesh.services.values_mut().next().unwrap());
    service.ports[0].endpoints.pop();
    let second = compiler.compile(&mesh);
    let two = told.compile(through_bytes(second[tenant].source.as_ref().unwrap()));
    assert!(!Arc::ptr_eq(&one.directory, &two.directory));
    let workloads = two.directory.workloads.iter().filter(|(at, entry)| {
        one.directory.workloads.get(at).is_some_and(|before| Arc::ptr_eq(before, entry))
    });
    let (kept, all) = (workloads.count(), one.directory.workloads.len());
    assert!(kept > 0 && kept < all, "all but the pod that answers for it no more: {kept} of {all}");
    let same = two.directory.services.iter().filter(|(at, entry)| {
        one.directory.services.get(at).is_some_and(|before| Arc::ptr_eq(before, entry))
    });
    assert!(same.count() > 0, "nor have the other Services");
}

/// The endpoints that are gone to, by Service port.
fn gone_to(snapshot: &Snapshot) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let endpoints = |entry: &ServiceEntry| {
        let candidates = entry.cluster.candidates().iter().filter(|one| entry.cluster.takes(one));
        candidates.map(|one| one.address).collect()
    };
    snapshot.directory.services.iter().map(|(vip, entry)| (*vip, endpoints(entry))).collect()
}

#[test]
fn a_cell_that_compiles_for_itself_knows_on_which_node_it_is() {
    let mut mesh = examples(&["two-tenants"]);
    let node: Option<NodeName> = "node-a".try_into().ok();
    let service = mesh.services.values_mut().find(|service| !service.vips.is_empty()).unwrap();
    let service = Arc::make_mut(service);
    service.reach = Reach::Node;
    for endpoint in service.ports.iter_mut().flat_map(|port| port.endpoints.iter_mut().take(1)) {
        endpoint.topology = Some(Box::new(Topology { node: node.clone(), ..Topology::default() }));
    }
    let vip = SocketAddr::new(service.vips[0], service.ports[0].number);
    let here = Here { node, zone: None };
    let compiled = Compiler::for_node(Arc::default()).seen_from(here).compile(&mesh);
    for (tenant, here) in &compiled {
        let mut told = Told::new(tenant.clone(), &Arc::default());
        told.compile(Source::default());
        let there = told.compile(through_bytes(here.source.as_ref().unwrap()));
        assert_eq!(gone_to(here)[&vip].len(), 1, "{tenant}");
        assert!(gone_to(&there).contains_key(&vip), "{tenant}");
        for (vip, endpoints) in gone_to(&there) {
            assert_eq!(gone_to(here)[&vip], endpoints, "{tenant} {vip}");
        }
    }
}

#[test]
fn a_cell_that_compiles_for_itself_knows_its_nodes_addresses_where_the_node_has_no_name() {
    let addresses: Arc<[IpAddr]> = [IpAddr::from([192, 0, 2, 1])].into();
    let compiled = Compiler::for_node(Arc::clone(&addresses)).compile(&examples(&["two-tenants"]));
    for (tenant, here) in &compiled {
        let mut told = Told::new(tenant.clone(), &Arc::default());
        told.compile(Source::default());
        let there = told.compile(through_bytes(here.source.as_ref().unwrap()));
        assert_eq!(there.directory.node_addresses, addresses, "{tenant}: else it refuses its probes");
    }
}
