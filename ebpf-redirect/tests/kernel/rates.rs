//! How often a tenant's pods may connect: beyond that the call itself fails, and nobody else's does.

use std::io::ErrorKind;

use super::support::{Pod, WORLD_V4, WORLD_V6, addr, counted, redirect};

/// So few that no machine brings another while the test connects.
const RATE: u64 = 3;

/// How many of so many connections fail, each with the hook's own error.
fn refused(pod: &Pod, to: &str, attempts: usize) -> usize {
    let failed = |_: &usize| match pod.connect(addr(to, 80)) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            true
        }
    };
    (0..attempts).filter(failed).count()
}

#[test]
fn a_pod_beyond_its_tenants_rate_gets_eperm_and_is_counted_and_another_tenants_pod_is_not_held_up() {
    let redirect = redirect();
    let (pod, other) = (Pod::new(), Pod::new());
    let (proxy, others) = (pod.listen(&redirect), other.listen(&redirect));
    let (mut guard, mut other_guard) = (pod.enrol(&redirect, &proxy), other.enrol(&redirect, &others));
    assert!(guard.set_connect_rate(1, Some(RATE)).unwrap());
    assert!(other_guard.set_connect_rate(2, Some(1000)).unwrap());
    let attempts = 50;
    let failed = refused(&pod, WORLD_V4, attempts);
    assert!((attempts - 20..attempts).contains(&failed), "{failed} of {attempts}");
    assert_eq!(counted(&redirect, "connect4", "refused_rate"), failed as u64);
    assert_eq!(
        (guard.connects_refused().unwrap(), other_guard.connects_refused().unwrap()),
        (failed as u64, 0)
    );
    assert!(refused(&pod, WORLD_V6, 10) > 0, "both families share it");
    assert_eq!(refused(&other, WORLD_V4, attempts), 0);
    guard.set_connect_rate(1, None).unwrap();
    assert_eq!(refused(&pod, WORLD_V4, attempts), 0, "without a rate");
}

#[test]
fn pods_of_one_tenant_share_its_rate_and_what_is_left_alone_costs_none_of_it() {
    let redirect = redirect();
    let (first, second) = (Pod::new(), Pod::new());
    let (one, two) = (first.listen(&redirect), second.listen(&redirect));
    let mut guards = [first.enrol(&redirect, &one), second.enrol(&redirect, &two)];
    for guard in &mut guards {
        guard.set_connect_rate(7, Some(RATE)).unwrap();
    }
    let _own = first.serve("127.0.0.1:8080".parse().unwrap());
    for _ in 0..50 {
        first.connect("127.0.0.1:8080".parse().unwrap()).unwrap();
    }
    assert_eq!(refused(&second, WORLD_V4, RATE as usize), 0, "a loopback connection is nobody's affair");
    assert!(refused(&first, WORLD_V4, 10) > 0, "the other has used it up");
    // With the last of its pods goes what was known of the tenant.
    drop(guards);
    let mut guard = first.enrol(&redirect, &one);
    guard.set_connect_rate(7, Some(RATE)).unwrap();
    assert_eq!(refused(&first, WORLD_V4, RATE as usize), 0);
}
