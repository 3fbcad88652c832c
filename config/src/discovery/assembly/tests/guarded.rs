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
