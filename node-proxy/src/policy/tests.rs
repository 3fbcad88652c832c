//! The table of decisions, for new connections and for those whose configuration changes under them.

use std::collections::HashMap;

use config::model::AppProtocol;

use super::*;
use crate::snapshot::{Cluster, RouteTable, ServiceEntry};

fn service() -> Destination {
    let name = config::name::ServiceName::new("shop".try_into().unwrap(), "cart".try_into().unwrap());
    let cluster = Arc::new(Cluster {
        service: name.clone(),
        port: 80,
        protocol: AppProtocol::Tcp,
        endpoints: Vec::new().into(),
    });
    let routes = Arc::new(RouteTable { port: 80, default: Some(Arc::clone(&cluster)), entries: Vec::new() });
    let entry = ServiceEntry {
        service: name,
        port: 80,
        protocol: AppProtocol::Tcp,
        cluster,
        routes: Arc::clone(&routes),
    };
    Destination::Service { entry: Arc::new(entry), routes }
}

fn workload() -> Destination {
    let name = config::name::PodName::new("shop".try_into().unwrap(), "cart-0".try_into().unwrap());
    let identity = config::identity::Identity {
        trust_domain: config::identity::TrustDomain::default(),
        namespace: name.namespace.clone(),
        service_account: "cart".try_into().unwrap(),
    };
    let workload = config::model::Workload::new(
        name.clone(),
        config::name::TenantId::Namespace(name.namespace.clone()),
        identity,
    );
    let entry = crate::snapshot::WorkloadEntry { workload: Arc::new(workload), protocols: HashMap::new() };
    Destination::Workload { entry: Arc::new(entry), protocol: AppProtocol::Undeclared }
}

#[test]
fn only_outbound_connections_out_of_the_mesh_are_denied_and_only_where_egress_is_limited() {
    let outside = || Destination::Outside;
    let table = [
        ("any, out to a service", Egress::Any, Side::Outbound, service(), Ok(())),
        ("any, out to a pod", Egress::Any, Side::Outbound, workload(), Ok(())),
        ("any, out of the mesh", Egress::Any, Side::Outbound, outside(), Ok(())),
        ("mesh, out to a service", Egress::Mesh, Side::Outbound, service(), Ok(())),
        ("mesh, out to a pod", Egress::Mesh, Side::Outbound, workload(), Ok(())),
        ("mesh, out of the mesh", Egress::Mesh, Side::Outbound, outside(), Err(Denied::EgressForbidden)),
        ("mesh, in to a pod", Egress::Mesh, Side::Inbound, workload(), Ok(())),
        ("mesh, in to an unknown address", Egress::Mesh, Side::Inbound, outside(), Ok(())),
    ];
    for (name, egress, side, destination, expected) in table {
        assert_eq!(judge(egress, side, &destination), expected, "{name}");
    }
}

#[test]
fn denial_says_why_in_the_words_of_the_log() {
    assert_eq!(Denied::EgressForbidden.reason(), Reason::EgressForbidden);
}

fn facts(destination: Destination) -> Permitted {
    let Destination::Workload { entry, .. } = workload() else { panic!() };
    let netns = Rc::new(crate::sys::netns::Netns::current().unwrap());
    let address = "10.0.0.1:1".parse().unwrap();
    Permitted {
        side: Side::Outbound,
        tree: Rc::new(Tree { workload: Arc::clone(&entry.workload), netns, id: 1 }),
        origin: Origin { destination: address, client: address },
        destination,
        caller: Arc::new(Caller { identity: None, pod: None }),
    }
}

#[test]
fn a_permit_is_issued_and_renewed_by_the_same_rules() {
    assert!(matches!(Permit::issue(Egress::Mesh, facts(Destination::Outside)), Err(Denied::EgressForbidden)));
    let permit = Permit::issue(Egress::Any, facts(Destination::Outside)).unwrap();
    assert!(permit.renew(Egress::Any, Destination::Outside).is_ok());
    assert!(matches!(permit.renew(Egress::Mesh, Destination::Outside), Err(Denied::EgressForbidden)));
    let renewed = permit.renew(Egress::Mesh, service()).unwrap();
    assert!(renewed.destination.service().is_some(), "it speaks of what the destination is now");
    assert!(Rc::ptr_eq(&renewed.tree, &permit.tree));
}
