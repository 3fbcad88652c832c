//! Addresses that several owners say they are reached by: whose they are never depends on who came first, and the others are told.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{condition::About, discovery::messages::AppProtocol};

const VIP: &str = "10.96.0.9";

fn kubernetes(name: &str, vip: &str) -> Resource {
    let plain = service(name, vip, &[(80, 0, AppProtocol::Tcp)]);
    of_service(messages::Service { canonical: true, ..plain })
}

/// What istiod makes of a ServiceEntry.
fn entry(name: &str, vip: &str) -> Resource {
    of_service(service(name, vip, &[(80, 0, AppProtocol::Tcp)]))
}

fn vips(made: &Made, name: &str) -> Vec<String> {
    own_service(made, name).vips.iter().map(ToString::to_string).collect()
}

/// Whether a Service is as its author wants it, is accepted, and is in conflict.
fn stands(made: &Made, name: &str) -> (bool, bool, bool) {
    let of = format!("Service {name}");
    let standing = made.standings.iter().find(|standing| standing.object.to_string() == of).unwrap();
    let status = |about| standing.of(about).unwrap().status;
    (standing.is_well(), status(About::Accepted), status(About::Conflicted))
}

#[test]
fn a_service_of_kubernetes_has_its_address_whoever_else_writes_it() {
    let mut assembly = assembly();
    // Its name comes first.
    assembly.take(Kind::Address, vec![entry("attacker/pay", VIP)], &[]);
    assert_eq!(vips(&assembly.make(), "attacker/pay"), [VIP], "nobody else has it");
    assembly.take(Kind::Address, vec![kubernetes("shop/cart", VIP)], &[]);
    let made = assembly.make();
    assert_eq!(vips(&made, "shop/cart"), [VIP]);
    assert_eq!(vips(&made, "attacker/pay"), [""; 0]);
    assert_eq!(stands(&made, "shop/cart"), (true, true, false));
    assert_eq!(stands(&made, "attacker/pay"), (false, false, true));
    assert_eq!(
        told(&made),
        [(Severity::Rejected, Reason::Conflict, format!("discovery/Address/{}", host("attacker/pay")))]
    );
    assert!(made.findings[0].message.contains(&format!("{VIP}, which belongs to Service shop/cart")));
    assert_eq!(made.mesh.guarded, BTreeSet::new(), "it is reached");

    assembly.take(Kind::Address, Vec::new(), &[host("shop/cart")]);
    let made = assembly.make();
    assert_eq!(vips(&made, "attacker/pay"), [VIP]);
    assert_eq!((told(&made), stands(&made, "attacker/pay")), (vec![], (true, true, false)));
}

#[test]
fn a_pod_has_its_address_and_no_service_of_another_owner() {
    let mut assembly = assembly();
    let set = vec![kubernetes("bank/ledger", "10.1.0.5"), kubernetes("shop/own", "10.1.0.5")];
    assembly.take(Kind::Address, set, &[]);
    assembly.take(Kind::Address, vec![of_workload(workload("shop/cart-0", "10.1.0.5"))], &[]);
    let made = assembly.make();
    assert_eq!(vips(&made, "bank/ledger"), [""; 0]);
    assert_eq!(vips(&made, "shop/own"), ["10.1.0.5"], "what one owner says twice is its own affair");
    assert!(made.findings[0].message.contains("Pod shop/cart-0"), "{}", made.findings[0].message);
    assembly.take(Kind::Address, vec![of_workload(workload("shop/cart-0", "10.1.0.6"))], &[]);
    assert_eq!(vips(&assembly.make(), "bank/ledger"), ["10.1.0.5"], "the first by name");

    // An endpoint that somebody wrote is no pod.
    let uid = "Kubernetes/networking.istio.io/WorkloadEntry/attacker/x".to_owned();
    let written = messages::Workload { uid, name: "x".to_owned(), ..workload("attacker/x", "10.1.0.5") };
    assert_eq!(assembly.take(Kind::Address, vec![of_workload(written)], &[]), []);
    assert_eq!(vips(&assembly.make(), "bank/ledger"), ["10.1.0.5"]);
}

#[test]
fn a_service_that_loses_one_of_two_addresses_is_reached_by_the_other_and_says_so() {
    let mut assembly = assembly();
    let mut two = service("attacker/pay", VIP, &[(80, 0, AppProtocol::Tcp)]);
    two.addresses.push(NetworkAddress {
        network: String::new(),
        address: bytes("10.96.0.10"),
        length: Some(32),
    });
    let behind = behind(workload("attacker/pod", "10.1.0.7"), "attacker/pay", &[(80, 8080)]);
    let set = vec![of_service(two), kubernetes("shop/cart", VIP), of_workload(behind)];
    assembly.take(Kind::Address, set, &[]);
    let made = assembly.make();
    assert_eq!(vips(&made, "attacker/pay"), ["10.96.0.10"]);
    assert_eq!(own_service(&made, "attacker/pay").ports[0].endpoints.len(), 1);
    assert_eq!(stands(&made, "attacker/pay"), (false, true, true));
}

#[test]
fn a_service_that_is_reached_by_networks_alone_is_refused_and_by_some_says_that_they_are_not_used() {
    let network = |address: &str, length| NetworkAddress {
        network: String::new(),
        address: bytes(address),
        length: Some(length),
    };
    let with = |addresses: Vec<NetworkAddress>| {
        let mut assembly = assembly();
        let said = messages::Service { addresses, ..service("shop/out", VIP, &[(80, 0, AppProtocol::Tcp)]) };
        assembly.take(Kind::Address, vec![of_service(said)], &[]);
        assembly.make()
    };
    for (addresses, reason, message) in [
        (vec![network("203.0.113.0", 24)], Reason::NotObeyed, "203.0.113.0/24 is a network, not an address"),
        (
            vec![network("2001:db8::", 64), network("0.0.0.0", 0)],
            Reason::NotObeyed,
            "and 1 more are networks",
        ),
        (vec![network("203.0.113.0", 33)], Reason::InvalidValue, "its prefix has at most 32 bits"),
    ] {
        let made = with(addresses);
        assert_eq!(made.mesh.services.len(), 0, "{message}");
        let refused = &made.findings[0];
        assert_eq!((refused.severity, refused.reason), (Severity::Rejected, reason), "{message}");
        assert!(refused.message.contains(message), "{}", refused.message);
        assert!(!made.standings[0].of(About::Accepted).unwrap().status);
    }
    let made = with(vec![network("203.0.113.0", 24), network(VIP, 32)]);
    assert_eq!(vips(&made, "shop/out"), [VIP]);
    assert_eq!(
        (made.findings[0].severity, made.findings[0].reason),
        (Severity::NotObeyed, Reason::NotObeyed)
    );
}

proptest! {
    #[test]
    fn whose_an_address_is_depends_on_no_order_and_on_nobody_who_has_left(
        order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
        leaving in proptest::sample::subsequence((0..5).collect::<Vec<usize>>(), 0..5),
        makes in any::<bool>(),
    ) {
        let all = [
            entry("aaa/pay", VIP),
            kubernetes("zoo/cart", VIP),
            kubernetes("shop/cart", VIP),
            of_workload(workload("zzz/pod", VIP)),
            entry("shop/also", VIP),
        ];
        let mut assembly = assembly();
        for index in &order {
            assembly.take(Kind::Address, vec![all[*index].clone()], &[]);
            if makes {
                assembly.make();
            }
        }
        for index in &leaving {
            assembly.take(Kind::Address, Vec::new(), &[all[*index].name.clone()]);
        }
        let stays = |index: usize| !leaving.contains(&index);
        let made = assembly.make();
        let has = |name: &str| {
            let service = made.mesh.services.get(&split(name, ServiceName::new));
            service.is_some_and(|service| service.vips == [VIP.parse::<IpAddr>().unwrap()])
        };
        // A pod, the Services of Kubernetes by name, the others by name.
        let owner = [(3, "zzz"), (2, "shop"), (1, "zoo"), (0, "aaa"), (4, "shop")].into_iter().find(|(index, _)| stays(*index));
        for (index, name) in [(0, "aaa/pay"), (1, "zoo/cart"), (2, "shop/cart"), (4, "shop/also")] {
            let is_owners = owner.is_some_and(|(_, owner)| name.starts_with(owner));
            prop_assert_eq!(has(name), stays(index) && is_owners, "{}", name);
        }
        let lost = made.findings.iter().filter(|finding| finding.reason == Reason::Conflict).count();
        let services = [0, 1, 2, 4].into_iter().filter(|index| stays(*index)).count();
        let kept = made.mesh.services.values().filter(|service| !service.vips.is_empty()).count();
        prop_assert_eq!(lost, services - kept);
    }
}
