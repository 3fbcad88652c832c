//! Counters and single decisions.

use std::time::Duration;

use ebpf_redirect::kernel::{Decision, Filter, Trace};

use super::support::{PATIENCE, Pod, WORLD_V4, accept, addr, counted, redirect};

/// The next decision that is wanted; fails the test if none comes.
fn await_decision(trace: &Trace, wanted: impl Fn(&Decision) -> bool) -> Decision {
    loop {
        let decision = trace.next(PATIENCE).expect("no such decision came");
        if wanted(&decision) {
            return decision;
        }
    }
}

#[test]
fn counters_move_with_what_happens() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let names = [
        ("connect4", "steered"),
        ("sock_ops", "carried"),
        ("sock_ops", "arrived"),
        ("sk_lookup", "steered"),
        ("getpeername4", "restored"),
    ];
    let before = names.map(|(hook, event)| counted(&redirect, hook, event));
    for _ in 0..10 {
        let _client = pod.connect(addr(WORLD_V4, 80)).unwrap();
        accept(&proxy.outbound_v4);
    }
    let after = names.map(|(hook, event)| counted(&redirect, hook, event));
    assert_eq!(before, [0; 5]);
    assert_eq!(after, [10; 5]);
    assert_eq!(counted(&redirect, "sock_ops", "lost"), 0);
}

#[test]
fn a_steered_connection_is_traced_from_connect_to_arrival() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let trace = redirect.trace(Filter::default()).unwrap();
    let to = addr(WORLD_V4, 8080);
    let client = pod.connect(to).unwrap();
    accept(&proxy.outbound_v4);
    for (hook, event) in
        [("connect4", "steered"), ("sock_ops", "carried"), ("sk_lookup", "steered"), ("sock_ops", "arrived")]
    {
        let decision = await_decision(&trace, |decision| decision.hook == hook);
        assert_eq!(decision.event, event, "{decision}");
        assert_eq!(decision.pod.as_deref(), Some(pod.name.as_str()));
        if hook != "sk_lookup" {
            assert_eq!(decision.destination, to, "{decision}");
        }
        if hook != "connect4" {
            assert_eq!(decision.source.port(), client.local_addr().unwrap().port(), "{decision}");
        }
    }
    let passed = pod.connect(addr("127.0.0.1", 9)).unwrap_err();
    assert_eq!(passed.kind(), std::io::ErrorKind::ConnectionRefused);
    let decision = await_decision(&trace, |decision| decision.hook == "connect4");
    assert_eq!(decision.event, "passed_loopback");
}

#[test]
fn a_watcher_of_one_pod_sees_that_pod_only() {
    let redirect = redirect();
    let pods = [Pod::new(), Pod::new()];
    let proxies = pods.each_ref().map(|pod| pod.listen(&redirect));
    let _guards = [0, 1].map(|i: usize| pods[i].enrol(&redirect, &proxies[i]));
    let all = redirect.trace(Filter::default()).unwrap();
    let one = redirect.trace(Filter { pod: Some(pods[1].name.clone()) }).unwrap();
    for (pod, proxy) in pods.iter().zip(&proxies) {
        let _client = pod.connect(addr(WORLD_V4, 80)).unwrap();
        accept(&proxy.outbound_v4);
    }
    let name = pods[1].name.as_str();
    await_decision(&all, |decision| decision.pod.as_deref() == Some(pods[0].name.as_str()));
    await_decision(&all, |decision| decision.pod.as_deref() == Some(name));
    let mut seen = 0;
    // All that have to come, however late; then none for a while.
    while let Some(decision) = one.next(if seen < 4 { PATIENCE } else { Duration::from_millis(300) }) {
        assert_eq!(decision.pod.as_deref(), Some(name));
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
    assert_eq!(one.lost(), 0);
}

#[test]
fn watching_again_after_all_have_left_shows_only_what_is_new() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    drop(redirect.trace(Filter::default()).unwrap());
    std::thread::sleep(Duration::from_secs(2));
    let _client = pod.connect(addr(WORLD_V4, 1111)).unwrap();
    let trace = redirect.trace(Filter::default()).unwrap();
    let _client = pod.connect(addr(WORLD_V4, 2222)).unwrap();
    let first = await_decision(&trace, |decision| decision.hook == "connect4");
    assert_eq!(first.destination.port(), 2222);
}
