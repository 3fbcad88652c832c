//! The shipped examples lower, and say what their README says they say.

use std::{collections::BTreeMap, fs, path::Path};

use config::{
    model::{AppProtocol, BackendTarget, Mesh},
    store::{FileText, Options, Outcome, Store},
};

fn read_directory(directory: &str) -> Outcome {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(directory);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&directory).expect("the examples are there") {
        let path = entry.expect("the examples are there").path();
        let name = path.file_name().expect("the examples are there").to_owned();
        files.insert(name.into(), FileText::from(fs::read(&path).expect("the examples are there")));
    }
    Store::new(Options::default()).apply(&files)
}

#[test]
fn two_tenants_lower_without_a_finding() {
    let outcome = read_directory("two-tenants");
    assert_eq!(outcome.findings, [], "{:#?}", outcome.findings);
}

#[test]
fn two_tenants_have_six_workloads_with_namespaces_addresses_and_endpoints() {
    let mesh = read_directory("two-tenants").mesh;
    let Mesh { tenants, workloads, services, routes, .. } = &*mesh;
    assert_eq!((tenants.len(), workloads.len(), services.len(), routes.len()), (2, 6, 6, 1));
    for workload in workloads.values() {
        assert!(workload.netns.is_some() && workload.addresses.len() == 2, "{workload:?}");
    }
    let protocols: Vec<_> = services.values().map(|service| service.ports[0].protocol).collect();
    use AppProtocol::{Http1, Http2, Tcp};
    assert_eq!(protocols, [Http1, Http2, Tcp, Http1, Http1, Http1]);
    let endpoints: Vec<_> = services.values().map(|service| service.ports[0].endpoints.len()).collect();
    assert_eq!(endpoints, [2, 2, 2, 4, 2, 2]);
    let split = &routes.values().next().unwrap().rules[1];
    let weights: Vec<_> = split.backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [90, 10]);
    for backend in &split.backends {
        assert!(matches!(backend.target, BackendTarget::Service { port: 80, .. }), "{backend:?}");
    }
}

#[test]
fn policies_lower_without_a_finding_and_are_all_in_force() {
    let outcome = read_directory("policies");
    assert_eq!(outcome.findings, [], "{:#?}", outcome.findings);
    let Mesh { authorization, peer_authentication, network_policies, service_entries, .. } = &*outcome.mesh;
    let counts =
        (authorization.len(), peer_authentication.len(), network_policies.len(), service_entries.len());
    assert_eq!(counts, (2, 1, 1, 2));
}

#[test]
fn pods_with_sidecars_lower_without_a_finding_and_are_in_the_mesh_though_nobody_says_where_they_are() {
    let outcome = read_directory("sidecar");
    assert_eq!(outcome.findings, [], "{:#?}", outcome.findings);
    assert_eq!(outcome.mesh.workloads.len(), 2);
    assert!(outcome.mesh.workloads.values().all(|workload| workload.meshed && workload.netns.is_none()));
}

/// A cell in a process of its own cannot be told otherwise (decision 0015).
#[test]
fn a_mesh_that_went_through_bytes_is_the_mesh_it_was() {
    for directory in ["two-tenants", "policies", "sidecar"] {
        let mesh = read_directory(directory).mesh;
        let bytes = postcard::to_stdvec(&*mesh).unwrap();
        let there: Mesh = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(there, *mesh, "{directory}");
    }
}
