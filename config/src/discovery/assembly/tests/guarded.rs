//! What a resource says is somebody's is never taken for outside, where it is not reached by what is taken of it.

use super::*;
use crate::discovery::messages::AppProtocol;

fn guarded(made: &Made) -> Vec<String> {
    made.mesh.guarded.iter().map(ToString::to_string).collect()
}

fn network(address: &str, length: u32) -> NetworkAddress {
    NetworkAddress { network: String::new(), address: bytes(address), length: Some(length) }
}

#[test]
fn all_addresses_of_what_is_refused_are_until_it_is_mended_or_goes() {
    let mut assembly = assembly();
    let legacy = messages::Workload {
        tunnel_protocol: messages::TunnelProtocol::LegacyIstioMtls as i32,
        ..workload("shop/cart-0", "10.1.0.5")
    };
    let broken = service("shop/cart", "10.96.0.9", &[(70_000, 0, AppProtocol::Tcp)]);
    let garbage = Resource {
        aliases: vec!["/10.1.0.7".to_owned(), "elsewhere/10.1.0.8".to_owned(), "shop/x".to_owned()],
        ..resource(&uid("shop/x"), vec![0xff; 9])
    };
    assert_eq!(
        assembly.take(Kind::Address, vec![of_workload(legacy), of_service(broken), garbage], &[]).len(),
        3
    );
    let made = assembly.make();
    assert_eq!(guarded(&made), ["10.1.0.5", "10.1.0.7", "10.96.0.9"]);
    assert_eq!(made.mesh.version, 1, "it is another mesh by that");

    assembly.take(Kind::Address, vec![of_workload(workload("shop/cart-0", "10.1.0.5"))], &[uid("shop/x")]);
    let made = assembly.make();
    assert_eq!(guarded(&made), ["10.96.0.9"]);
    assert!(made.mesh.workloads.len() == 1);
}

#[test]
fn what_is_left_over_of_what_is_taken_is_and_nothing_that_is_reached() {
    let mut assembly = assembly();
    let mut two = workload("shop/cart-0", "10.1.0.5");
    two.addresses.push(bytes("10.1.0.6"));
    let host = messages::Workload {
        network_mode: messages::NetworkMode::HostNetwork as i32,
        ..workload("shop/agent", "10.0.0.1")
    };
    let mut wide = service("shop/out", "10.96.0.9", &[(80, 0, AppProtocol::Tcp)]);
    wide.addresses.extend([network("203.0.113.9", 24), network("0.0.0.0", 0)]);
    assert_eq!(
        assembly.take(Kind::Address, vec![of_workload(two), of_workload(host), of_service(wide)], &[]),
        []
    );
    assert_eq!(guarded(&assembly.make()), ["10.1.0.6"]);
}

#[test]
fn the_address_of_a_pod_that_another_of_its_name_is_taken_for_is_guarded_until_the_other_goes() {
    let mut assembly = assembly();
    let far =
        messages::Workload { uid: "west//Pod/shop/cart-0".to_owned(), ..workload("shop/cart-0", "10.2.0.5") };
    let set = vec![of_workload(workload("shop/cart-0", "10.1.0.5")), of_workload(far.clone())];
    assert_eq!(assembly.take(Kind::Address, set, &[]), []);
    assert_eq!(guarded(&assembly.make()), ["10.2.0.5"]);
    let moved = messages::Workload { addresses: vec![bytes("10.2.0.6")], ..far.clone() };
    assembly.take(Kind::Address, vec![of_workload(moved)], &[]);
    assert_eq!(guarded(&assembly.make()), ["10.2.0.6"]);
    assembly.take(Kind::Address, vec![of_workload(far)], &[uid("shop/cart-0")]);
    let made = assembly.make();
    assert_eq!(guarded(&made), Vec::<String>::new());
    assert_eq!(
        own_workload(&made, "shop/cart-0").addresses,
        ["10.2.0.5".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[test]
fn what_names_a_waypoint_in_a_version_that_cannot_be_taken_is_not_reached_by_the_version_before() {
    let mut assembly = assembly();
    let good = service("shop/cart", "10.96.0.9", &[(80, 0, AppProtocol::Tcp)]);
    assembly.take(Kind::Address, vec![of_service(good.clone())], &[]);
    assert_eq!(assembly.make().mesh.services.len(), 1);
    let broken = service("shop/cart", "10.96.0.9", &[(70_000, 0, AppProtocol::Tcp)]);
    assert_eq!(assembly.take(Kind::Address, vec![of_service(broken.clone())], &[]).len(), 1);
    assert_eq!(assembly.make().mesh.services.len(), 1, "the last good version");
    let behind = messages::Service { waypoint: Some(messages::GatewayAddress::default()), ..broken };
    assert_eq!(assembly.take(Kind::Address, vec![of_service(behind)], &[]).len(), 1);
    let made = assembly.make();
    assert_eq!(made.mesh.services.len(), 0);
    assert_eq!(guarded(&made), ["10.96.0.9"]);
    assembly.take(Kind::Address, vec![of_service(good)], &[]);
    assert_eq!(assembly.make().mesh.services.len(), 1);
}
