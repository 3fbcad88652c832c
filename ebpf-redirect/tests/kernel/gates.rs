//! While a gate is shut the call itself fails, and the proxy sees nothing of it: neither another tenant's pod, nor another of
//! the same, is held up by a gate that is not its own.

use std::io::ErrorKind;

use ebpf_redirect::Redirect as _;

use super::support::{Pod, WORLD_V4, WORLD_V6, addr, counted, redirect};

fn is_refused(pod: &Pod, to: &str) -> bool {
    match pod.connect(addr(to, 80)) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            true
        }
    }
}

#[test]
fn a_tenants_gate_is_all_its_pods_and_a_pods_own_is_no_others() {
    let redirect = redirect();
    let (first, second, other) = (Pod::new(), Pod::new(), Pod::new());
    let pods = [&first, &second, &other];
    let proxies = pods.map(|pod| pod.listen(&redirect));
    let mut guards: Vec<_> =
        pods.iter().zip(&proxies).map(|(pod, proxy)| pod.enrol(&redirect, proxy)).collect();
    let gate = || redirect.gate().unwrap();
    let (tenant, others) = (gate(), gate());
    let own = [gate(), gate(), gate()];
    let of = [&tenant, &tenant, &others];
    for ((guard, tenant), own) in guards.iter_mut().zip(of).zip(&own) {
        guard.set_gates(Some((tenant.clone(), own.clone()))).unwrap();
    }
    let refused = || pods.map(|pod| is_refused(pod, WORLD_V4));
    assert_eq!(refused(), [false; 3]);
    let steered = counted(&redirect, "connect4", "steered");

    tenant.shut(true);
    assert_eq!(refused(), [true, true, false]);
    assert!(is_refused(&first, WORLD_V6), "both families pass it");
    assert_eq!(counted(&redirect, "connect4", "refused_connections"), 2);
    assert_eq!(counted(&redirect, "connect4", "steered"), steered + 1, "nothing came to the proxy");
    assert_eq!((tenant.take_refused(), tenant.take_refused(), others.take_refused()), (3, 0, 0));

    tenant.shut(false);
    own[1].shut(true);
    assert_eq!(refused(), [false, true, false]);
    assert_eq!((counted(&redirect, "connect4", "refused_workload"), own[1].take_refused()), (1, 1));
    own[1].shut(false);
    assert_eq!(refused(), [false; 3], "the next succeeds at once");
}

#[test]
fn what_is_left_alone_passes_a_shut_gate_and_so_does_a_pod_that_is_told_of_none() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let mut guard = pod.enrol(&redirect, &proxy);
    let gates = (redirect.gate().unwrap(), redirect.gate().unwrap());
    guard.set_gates(Some(gates.clone())).unwrap();
    gates.0.shut(true);
    let _own = pod.serve("127.0.0.1:8080".parse().unwrap());
    pod.connect("127.0.0.1:8080".parse().unwrap()).unwrap();
    assert!(is_refused(&pod, WORLD_V4));
    guard.set_gates(None).unwrap();
    assert!(!is_refused(&pod, WORLD_V4));
    // A cell that wakes up late still has its gate, which is nobody's now.
    let next = (redirect.gate().unwrap(), redirect.gate().unwrap());
    guard.set_gates(Some(next)).unwrap();
    gates.0.shut(true);
    assert!(!is_refused(&pod, WORLD_V4));
}
