//! The table of decisions, for new connections and for those whose configuration changes under them.

use std::collections::HashMap;

use config::model::{AppProtocol, Audience, Egress, ServiceEntry as External};

use super::*;
use crate::snapshot::{Cluster, RouteTable, ServiceEntry, policies::Opening};

fn service() -> Destination {
    let name = config::name::ServiceName::new("shop".try_into().unwrap(), "cart".try_into().unwrap());
    let cluster = Arc::new(Cluster::new(name.clone(), 80, AppProtocol::Tcp, Vec::new().into()));
    let routes = Arc::new(RouteTable::open(&cluster));
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
    let workload =
        Workload::new(name.clone(), config::name::TenantId::Namespace(name.namespace.clone()), identity);
    let entry = crate::snapshot::WorkloadEntry {
        workload: Arc::new(workload),
        protocols: HashMap::new(),
        answers: Vec::new(),
    };
    Destination::Workload { entry: Arc::new(entry), protocol: AppProtocol::Undeclared }
}

fn snapshot(egress: Egress) -> Snapshot {
    let Destination::Workload { entry, .. } = workload() else { panic!() };
    let tenant = entry.workload.tenant.clone();
    let open = (entry.workload.pod.clone(), Arc::default());
    let policies = Arc::new([open].into_iter().collect());
    Snapshot { egress, policies, ..Snapshot::empty(tenant) }
}

fn judged(snapshot: &Snapshot, side: Side, destination: &Destination) -> Result<(), Denied> {
    let Destination::Workload { entry, .. } = workload() else { panic!() };
    let address = "203.0.113.7:443".parse().unwrap();
    let question = Question {
        side,
        workload: &entry.workload,
        origin: Origin { destination: address, client: "10.0.0.1:1".parse().unwrap() },
        destination,
        caller: &Caller { identity: None, pod: None },
    };
    reconsider(snapshot, &question)
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
        assert_eq!(judged(&snapshot(egress), side, &destination), expected, "{name}");
    }
}

#[test]
fn limited_egress_opens_for_what_a_service_entry_names_by_address_and_port_for_its_audience() {
    let entry = |addresses: &str, port, namespaces: Option<&str>| External {
        name: config::name::EntryName::new("shop".try_into().unwrap(), "pay".try_into().unwrap()),
        addresses: vec![addresses.parse().unwrap()],
        ports: vec![port],
        endpoints: Vec::new(),
        hosts: Vec::new(),
        audience: Audience {
            every_tenant: false,
            namespaces: namespaces.map(|name| vec![name.try_into().unwrap()]),
        },
    };
    for (name, entry, open) in [
        ("the address", entry("203.0.113.7/32", 443, None), true),
        ("its network", entry("203.0.113.0/24", 443, None), true),
        ("another network", entry("203.0.112.0/24", 443, None), false),
        ("another port", entry("203.0.113.7/32", 80, None), false),
        ("for the caller's namespace", entry("203.0.113.7/32", 443, Some("shop")), true),
        ("for another namespace", entry("203.0.113.7/32", 443, Some("bank")), false),
    ] {
        let opening = Opening { entry: Arc::new(entry), found: Vec::new() };
        let external = Arc::new(crate::snapshot::policies::External(vec![opening]));
        let snapshot = Snapshot { external, ..snapshot(Egress::Mesh) };
        let expected = if open { Ok(()) } else { Err(Denied::EgressForbidden) };
        assert_eq!(judged(&snapshot, Side::Outbound, &Destination::Outside), expected, "{name}");
    }
}

#[test]
fn a_workload_of_which_no_policies_are_known_lets_nobody_in() {
    let unknown = Snapshot { policies: Arc::default(), ..snapshot(Egress::Any) };
    let inbound = Permitted { side: Side::Inbound, ..facts(workload()) };
    let asked = Permit::issue(inbound, |question| judge(&unknown, question));
    assert!(matches!(asked, Err(Denied::PolicyUnknown)));
}

#[test]
fn whom_a_workload_let_in_may_stay_when_it_left_but_not_when_it_became_another_tenants() {
    let left = Snapshot { policies: Arc::default(), ..snapshot(Egress::Any) };
    assert_eq!(judged(&left, Side::Inbound, &workload()), Ok(()));
    let Destination::Workload { entry, .. } = workload() else { panic!() };
    let pods = [(entry.workload.pod.clone(), Arc::default())].into_iter().collect();
    let network = Arc::new(crate::snapshot::network::Network { pods, ..Default::default() });
    let directory = Arc::new(crate::snapshot::Directory { network, ..(*left.directory).clone() });
    let elsewhere = Snapshot { directory, ..left };
    assert_eq!(judged(&elsewhere, Side::Inbound, &workload()), Err(Denied::PolicyUnknown));
}

#[test]
fn denial_says_why_in_the_words_of_the_log() {
    let policy = PolicyName::new("shop".try_into().unwrap(), "p".try_into().unwrap());
    for (denied, reason, named) in [
        (Denied::EgressForbidden, Reason::EgressForbidden, false),
        (Denied::Waypoint, Reason::Waypoint, false),
        (Denied::DestinationUnknown, Reason::DestinationUnknown, false),
        (Denied::PolicyUnknown, Reason::PolicyUnknown, false),
        (Denied::NetworkPolicy, Reason::NetworkPolicy, false),
        (Denied::PlaintextRefused { policy: policy.clone() }, Reason::PlaintextRefused, true),
        (Denied::PolicyDenied { policy: policy.clone() }, Reason::PolicyDenied, true),
        (Denied::NoPolicyAllows { policy: policy.clone() }, Reason::NoPolicyAllows, true),
        (Denied::PolicyUnreadable { policy: policy.clone() }, Reason::PolicyUnreadable, true),
    ] {
        assert_eq!((denied.reason(), denied.policy()), (reason, named.then_some(&policy)), "{denied}");
    }
}

fn facts(destination: Destination) -> Permitted {
    let Destination::Workload { entry, .. } = workload() else { panic!() };
    let netns = Rc::new(crate::sys::netns::Netns::current().unwrap());
    let address = "10.0.0.1:1".parse().unwrap();
    Permitted {
        side: Side::Outbound,
        tree: Rc::new(Tree {
            workload: Arc::clone(&entry.workload),
            netns,
            id: 1,
            presence: crate::capture::Presence::default(),
        }),
        origin: Origin { destination: address, client: address },
        destination,
        caller: Arc::new(Caller { identity: None, pod: None }),
    }
}

#[test]
fn a_permit_is_issued_and_renewed_by_the_same_rules() {
    let (any, mesh) = (&snapshot(Egress::Any), &snapshot(Egress::Mesh));
    assert!(matches!(
        Permit::issue(facts(Destination::Outside), |question| judge(mesh, question)),
        Err(Denied::EgressForbidden)
    ));
    let permit = Permit::issue(facts(Destination::Outside), |question| judge(any, question)).unwrap();
    assert!(permit.renew(any, Destination::Outside).is_ok());
    assert!(matches!(permit.renew(mesh, Destination::Outside), Err(Denied::EgressForbidden)));
    let renewed = permit.renew(mesh, service()).unwrap();
    assert!(renewed.destination.service().is_some(), "it speaks of what the destination is now");
    assert!(Rc::ptr_eq(&renewed.tree, &permit.tree));
}

mod early;
mod inbound;
mod network;
mod targets;
mod unread;
