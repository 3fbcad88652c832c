//! What istiod sends, and what it means: it says nothing of the model's own.

use std::{collections::BTreeSet, net::IpAddr};

use super::*;
use crate::{
    discovery::messages::{
        AppProtocol, GatewayAddress, LoadBalancing, Locality, NamespacedHostname, NetworkMode,
        TunnelProtocol, WeightedWaypoint, WorkloadStatus,
        gateway_address::Destination,
        load_balancing::{HealthPolicy, Mode, Scope},
    },
    model::{AppProtocol as Spoken, Reach},
};

fn one_service(ports: &[(u32, u32, AppProtocol)], workloads: Vec<messages::Workload>) -> Made {
    let mut set = vec![of_service(service("shop/cart", "10.96.0.9", ports))];
    set.extend(workloads.into_iter().map(of_workload));
    made(vec![(Kind::Address, set)])
}

fn endpoints(made: &Made, port: usize) -> Vec<(String, bool, Option<String>)> {
    let service = own_service(made, "shop/cart");
    let one = |endpoint: &crate::model::Endpoint| {
        let pod = endpoint.workload.as_ref().map(ToString::to_string);
        (endpoint.address.to_string(), endpoint.ready, pod)
    };
    service.ports[port].endpoints.iter().map(one).collect()
}

#[test]
fn pods_behind_a_service_with_a_named_target_port_answer_each_on_its_own() {
    let made = one_service(
        &[(80, 0, AppProtocol::Http11), (81, 9000, AppProtocol::Unknown)],
        vec![
            behind(workload("shop/cart-0", "10.1.0.5"), "shop/cart", &[(80, 8080), (81, 9000)]),
            behind(workload("shop/cart-1", "10.1.0.6"), "shop/cart", &[(80, 8081), (81, 0)]),
            behind(workload("shop/other", "10.1.0.7"), "shop/other", &[(80, 8080)]),
        ],
    );
    let at = |address: &str, pod: &str| (address.to_owned(), true, Some(pod.to_owned()));
    assert_eq!(endpoints(&made, 0), [at("10.1.0.5:8080", "shop/cart-0"), at("10.1.0.6:8081", "shop/cart-1")]);
    assert_eq!(endpoints(&made, 1), [at("10.1.0.5:9000", "shop/cart-0"), at("10.1.0.6:9000", "shop/cart-1")]);
    let service = own_service(&made, "shop/cart");
    assert_eq!(service.members.named, BTreeSet::from([pod("shop/cart-0"), pod("shop/cart-1")]));
    assert!(service.members.known, "each says of itself what it is behind");
    assert_eq!(service.vips, ["10.96.0.9".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_port_speaks_what_the_service_says_and_of_two_words_neither() {
    for (said, spoken) in [
        (vec![AppProtocol::Unknown], Spoken::Undeclared),
        (vec![AppProtocol::Http11], Spoken::Http1),
        (vec![AppProtocol::Http2], Spoken::Http2),
        (vec![AppProtocol::Grpc], Spoken::Http2),
        (vec![AppProtocol::Tcp], Spoken::Tcp),
        (vec![AppProtocol::Tls], Spoken::Tcp),
        (vec![AppProtocol::Tcp, AppProtocol::Tcp], Spoken::Tcp),
        (vec![AppProtocol::Tcp, AppProtocol::Http11], Spoken::Undeclared),
    ] {
        let ports: Vec<_> = said.iter().map(|protocol| (53, 53, *protocol)).collect();
        let service = own_service(&one_service(&ports, Vec::new()), "shop/cart");
        assert_eq!(service.ports.len(), 1, "{said:?}");
        assert_eq!(service.ports[0].protocol, spoken, "{said:?}");
    }
}

#[test]
fn what_is_not_said_of_a_workload_is_istios_default() {
    let mut other = workload("shop/other", "10.1.0.6");
    other.trust_domain = "example.org".to_owned();
    other.service_account = "web".to_owned();
    other.tunnel_protocol = TunnelProtocol::None as i32;
    let made =
        made(vec![(Kind::Address, [workload("shop/cart-0", "10.1.0.5"), other].map(of_workload).into())]);
    let (plain, other) = (own_workload(&made, "shop/cart-0"), own_workload(&made, "shop/other"));
    assert_eq!(plain.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(other.identity.to_string(), "spiffe://example.org/ns/shop/sa/web");
    assert_eq!((plain.meshed, other.meshed), (true, false));
    assert_eq!(plain.node.unwrap().as_str(), "node-a");
    assert_eq!((plain.netns, plain.tenant), (None, TenantId::Namespace("shop".try_into().unwrap())));
    assert!(made.mesh.tenants.contains_key(&other.tenant) && made.mesh.namespaces.len() == 1);
}

#[test]
fn who_is_not_ready_in_its_nodes_network_or_in_another_is_reached_accordingly() {
    let change = |workload: &mut messages::Workload, how: &str| match how {
        "unhealthy" => workload.status = WorkloadStatus::Unhealthy as i32,
        "unheard of" => workload.status = 9,
        "host network" => workload.network_mode = NetworkMode::HostNetwork as i32,
        "another network" => workload.network = "far".to_owned(),
        "our network" => workload.network = "near".to_owned(),
        _ => {}
    };
    for (how, has_address, answers) in [
        ("as usual", true, Some(true)),
        ("unhealthy", true, Some(false)),
        ("unheard of", true, Some(false)),
        ("host network", false, Some(true)),
        ("another network", false, None),
        ("our network", true, Some(true)),
    ] {
        let mut assembly = assembly().on_network("near");
        let mut workload = behind(workload("shop/cart-0", "10.1.0.5"), "shop/cart", &[(80, 8080)]);
        change(&mut workload, how);
        let set = vec![
            of_service(service("shop/cart", "10.96.0.9", &[(80, 0, AppProtocol::Tcp)])),
            of_workload(workload),
        ];
        assert_eq!(assembly.take(Kind::Address, set, &[]), [], "{how}");
        let made = assembly.make();
        assert_eq!(!own_workload(&made, "shop/cart-0").addresses.is_empty(), has_address, "{how}");
        let ready = endpoints(&made, 0).first().map(|(_, ready, _)| *ready);
        assert_eq!(ready, answers, "{how}");
        assert_eq!(own_service(&made, "shop/cart").members.named.len(), 1, "{how}");
    }
}

#[test]
fn a_workload_that_cannot_be_what_it_says_is_refused() {
    let change = |workload: &mut messages::Workload, how: &str| match how {
        "sidecar's TLS" => workload.tunnel_protocol = TunnelProtocol::LegacyIstioMtls as i32,
        "unknown tunnel" => workload.tunnel_protocol = 9,
        "unknown network" => workload.network_mode = 9,
        "another's uid" => workload.uid = uid("bank/vault"),
        "another's namespace" => workload.namespace = "bank".to_owned(),
        "another's name" => workload.name = "vault".to_owned(),
        "loopback" => workload.addresses.push(bytes("127.0.0.1")),
        "mapped loopback" => workload.addresses.push(bytes("::ffff:127.0.0.1")),
        "no address" => workload.addresses.push(vec![1, 2, 3]),
        "no account" => workload.service_account = "a/b".to_owned(),
        "no trust domain" => workload.trust_domain = "A".to_owned(),
        _ => panic!("{how}"),
    };
    for (how, reason) in [
        ("sidecar's TLS", Reason::InvalidValue),
        ("unknown tunnel", Reason::InvalidValue),
        ("unknown network", Reason::InvalidValue),
        ("another's uid", Reason::InvalidValue),
        ("another's namespace", Reason::InvalidValue),
        ("another's name", Reason::InvalidValue),
        ("loopback", Reason::NotPermitted),
        ("mapped loopback", Reason::NotPermitted),
        ("no address", Reason::InvalidValue),
        ("no account", Reason::InvalidValue),
        ("no trust domain", Reason::InvalidValue),
    ] {
        let mut assembly = assembly();
        let mut changed = workload("shop/cart-0", "10.1.0.5");
        change(&mut changed, how);
        let bad = Resource { name: uid("shop/cart-0"), ..of_workload(changed) };
        let good = of_workload(workload("shop/cart-1", "10.1.0.6"));
        let rejections = assembly.take(Kind::Address, vec![bad, good], &[]);
        let said: Vec<_> = rejections.iter().map(|one| (one.name.clone(), one.reason)).collect();
        assert_eq!(said, [(uid("shop/cart-0"), reason)], "{how}");
        let made = assembly.make();
        assert_eq!(made.mesh.workloads.keys().collect::<Vec<_>>(), [&pod("shop/cart-1")], "{how}");
    }
}

fn gate(namespace: &str, host: &str) -> GatewayAddress {
    let hostname = NamespacedHostname { namespace: namespace.to_owned(), hostname: host.to_owned() };
    GatewayAddress { destination: Some(Destination::Hostname(hostname)), hbone_mtls_port: 15008 }
}

#[test]
fn a_waypoint_that_is_named_is_known_by_name_in_whatever_words() {
    let at = NetworkAddress { network: String::new(), address: bytes("10.9.9.9"), length: None };
    let by_address = GatewayAddress { destination: Some(Destination::Address(at)), hbone_mtls_port: 15008 };
    let mute = GatewayAddress { destination: None, hbone_mtls_port: 0 };
    for (gateway, name) in [
        (gate("shop", "gate.shop"), "shop/gate.shop"),
        (by_address, "/10.9.9.9"),
        (mute, "(a waypoint that cannot be read)"),
    ] {
        let through = |mut service: messages::Service, weighted: bool| {
            let destination = Some(gateway.clone());
            if weighted {
                service.weighted_waypoints = vec![WeightedWaypoint { destination, weight: 1 }];
            } else {
                service.waypoint = destination;
            }
            of_service(service)
        };
        let pod =
            messages::Workload { waypoint: Some(gateway.clone()), ..workload("shop/cart-0", "10.1.0.5") };
        let set = vec![
            of_workload(pod),
            through(service("shop/cart", "10.96.0.9", &[]), false),
            through(service("shop/weighted", "10.96.0.10", &[]), true),
            of_service(service("shop/plain", "10.96.0.11", &[])),
        ];
        let made = made(vec![(Kind::Address, set)]);
        assert_eq!(own_workload(&made, "shop/cart-0").waypoint.as_deref(), Some(name));
        assert_eq!(own_service(&made, "shop/cart").waypoint.as_deref(), Some(name));
        assert_eq!(own_service(&made, "shop/weighted").waypoint.as_deref(), Some(name));
        assert_eq!(own_service(&made, "shop/plain").waypoint, None);
    }
}

#[test]
fn pods_of_one_name_in_two_clusters_are_one_whichever_came_first_and_that_is_said() {
    let near = behind(workload("shop/cart-0", "10.1.0.5"), "shop/cart", &[(80, 8080)]);
    let far = messages::Workload {
        uid: "zz//Pod/shop/cart-0".to_owned(),
        ..behind(workload("shop/cart-0", "10.2.0.5"), "shop/cart", &[(80, 8080)])
    };
    let service = of_service(service("shop/cart", "10.96.0.9", &[(80, 0, AppProtocol::Tcp)]));
    for both in [[near.clone(), far.clone()], [far.clone(), near.clone()]] {
        let mut assembly = assembly();
        assembly.take(Kind::Address, vec![service.clone()], &[]);
        for one in both {
            assembly.take(Kind::Address, vec![of_workload(one)], &[]);
            assembly.make();
        }
        let both = assembly.make();
        assert_eq!(endpoints(&both, 0).len(), 1);
        assert_eq!(endpoints(&both, 0)[0].0, "10.1.0.5:8080");
        let conflict =
            (Severity::Rejected, Reason::Conflict, "discovery/Address/zz//Pod/shop/cart-0".to_owned());
        assert_eq!(told(&both), [conflict]);
        assembly.take(Kind::Address, Vec::new(), &[uid("shop/cart-0")]);
        let one = assembly.make();
        assert_eq!(endpoints(&one, 0)[0].0, "10.2.0.5:8080", "the other takes its place");
        assert_eq!(told(&one), []);
    }
}

#[test]
fn what_is_no_pod_is_no_pods_namesake() {
    let entry = messages::Workload {
        uid: "Kubernetes/networking.istio.io/WorkloadEntry/shop/cart-0".to_owned(),
        ..workload("shop/cart-0", "10.2.0.5")
    };
    let set = vec![of_workload(workload("shop/cart-0", "10.1.0.5")), of_workload(entry)];
    let made = made(vec![(Kind::Address, set)]);
    let names: Vec<String> = made.mesh.workloads.keys().map(ToString::to_string).collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0], "shop/cart-0");
    assert!(names[1].starts_with("shop/workloadentry-cart-0-"), "{names:?}");
}

/// A Service that says so of its connections, before one pod on `node-a` in zone `z`: how far they go; of the pod the node, whose
/// nodes and zones it is for, and whether it is ready; and what is said of that.
fn balanced(said: LoadBalancing) -> (Reach, [String; 3], bool, usize) {
    let mut cart = service("shop/cart", "10.96.0.9", &[(80, 8080, AppProtocol::Tcp)]);
    cart.load_balancing = Some(said);
    let mut pod = behind(workload("shop/cart-0", "10.1.0.5"), "shop/cart", &[(80, 8080)]);
    pod.status = WorkloadStatus::Unhealthy as i32;
    pod.locality = Some(Locality { region: "r".to_owned(), zone: "z".to_owned(), subzone: String::new() });
    let made = made(vec![(Kind::Address, vec![of_service(cart), of_workload(pod)])]);
    let service = own_service(&made, "shop/cart");
    let endpoint = &service.ports[0].endpoints[0];
    let topology = endpoint.topology.clone().unwrap_or_default();
    let place = [
        topology.node.map(String::from).unwrap_or_default(),
        topology.for_nodes.into_iter().map(String::from).collect(),
        topology.for_zones.into_iter().map(String::from).collect(),
    ];
    let told = made.findings.iter().filter(|finding| finding.reason == Reason::NotObeyed);
    (service.reach, place, endpoint.ready, told.count())
}

#[test]
fn what_istiod_says_of_balancing_is_heeded_as_far_as_it_means_the_same() {
    use Scope::{Cluster, Network, Node, Region, Subzone, Zone};
    let said = |mode: Mode, scopes: &[Scope]| LoadBalancing {
        routing_preference: scopes.iter().map(|scope| *scope as i32).collect(),
        mode: mode as i32,
        health_policy: 0,
    };
    let nowhere = ["", "", ""];
    for (said, reach, place, told) in [
        (said(Mode::Unspecified, &[]), Reach::Cluster, nowhere, 0),
        (said(Mode::Strict, &[Node]), Reach::Node, ["node-a", "", ""], 0),
        (said(Mode::Strict, &[Cluster]), Reach::Cluster, nowhere, 0),
        (said(Mode::Strict, &[Region, Zone]), Reach::Node, ["node-a", "", ""], 1),
        (said(Mode::Failover, &[Network, Region, Zone]), Reach::Cluster, ["", "", "z"], 0),
        (
            said(Mode::Failover, &[Network, Region, Zone, Subzone, Node]),
            Reach::Cluster,
            ["", "node-a", "z"],
            0,
        ),
        (said(Mode::Passthrough, &[]), Reach::Cluster, nowhere, 1),
    ] {
        let expected = (reach, place.map(str::to_owned), false, told);
        assert_eq!(balanced(said.clone()), expected, "{said:?}");
    }
    let all = LoadBalancing { health_policy: HealthPolicy::AllowAll as i32, ..LoadBalancing::default() };
    assert!(balanced(all).2, "publishNotReadyAddresses");
}
