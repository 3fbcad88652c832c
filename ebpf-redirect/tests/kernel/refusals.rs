//! Bad input, and what is refused: each with its reason, and nobody else notices.

use std::{
    fs::File,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
};

use ebpf_redirect::{
    Enrolment, Exclusions, Listeners, Redirect as _, RedirectError, Side,
    kernel::{KernelRedirect, Options},
};

use super::support::{
    Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, named, redirect, unique,
};

/// The pod is steered as if nothing had happened.
fn assert_still_steered(pod: &Pod, proxy: &super::support::Proxy) {
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
}

#[test]
fn a_connection_that_dials_a_listener_itself_was_not_steered() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (listener, side) in [
        (&proxy.outbound_v4, Side::Outbound),
        (&proxy.outbound_v6, Side::Outbound),
        (&proxy.inbound_v4, Side::Inbound),
        (&proxy.inbound_v6, Side::Inbound),
    ] {
        let _client: TcpStream = pod.connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = accept(listener);
        let refused = redirect.origin(accepted.as_fd(), side, peer).unwrap_err();
        assert!(matches!(refused, RedirectError::NotSteered), "{refused}");
    }
}

#[test]
fn without_its_listener_a_pod_is_refused_both_ways() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    drop(proxy);
    let _app = [pod.v4, pod.v6].map(|ip| pod.serve(SocketAddr::new(ip, 8080)));
    for (out, own) in [(WORLD_V4, pod.v4), (WORLD_V6, pod.v6)] {
        assert_eq!(pod.connect(addr(out, 80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(pod.dial(addr(own, 8080)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(counted(&redirect, "sk_lookup", "refused_no_listener"), 4);
}

#[test]
fn a_namespace_that_is_none_is_named_and_others_stay_steered() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let other = Pod::new();
    let file = File::open("/proc/self/exe").unwrap();
    let error = redirect
        .enrol(&Enrolment {
            pod: "shop/cart",
            netns: file.as_fd(),
            addresses: &[],
            listeners: other.listen(&redirect).listeners(),
            exclusions: &Exclusions::default(),
        })
        .unwrap_err();
    assert!(matches!(&error, RedirectError::NotANetns { pod } if pod == "shop/cart"), "{error}");
    assert_still_steered(&pod, &proxy);
}

#[test]
fn the_hosts_own_namespace_is_refused() {
    let redirect = redirect();
    let pod = Pod::new();
    let file = File::open("/proc/self/ns/net").unwrap();
    let error = redirect
        .enrol(&Enrolment {
            pod: "kube-system/host",
            netns: file.as_fd(),
            addresses: &[],
            listeners: pod.listen(&redirect).listeners(),
            exclusions: &Exclusions::default(),
        })
        .unwrap_err();
    assert!(matches!(error, RedirectError::HostNetns { .. }), "{error}");
}

#[test]
fn a_namespace_is_enrolled_once() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let error = pod.try_enrol(&redirect, &proxy, &Exclusions::default()).unwrap_err();
    assert!(matches!(&error, RedirectError::AlreadyEnrolled { by, .. } if *by == pod.name), "{error}");
    assert_still_steered(&pod, &proxy);
}

#[test]
fn a_listener_of_another_namespace_or_one_that_does_not_listen_is_refused() {
    let redirect = redirect();
    let (pod, other) = (Pod::new(), Pod::new());
    let proxy = pod.listen(&redirect);
    let mut guard = pod.enrol(&redirect, &proxy);
    let foreign = other.listen(&redirect);
    let error = guard.replace_listeners(&foreign.listeners()).unwrap_err();
    assert!(matches!(error, RedirectError::Listener { listener: "outbound IPv4", .. }), "{error}");
    let deaf = pod
        .netns
        .inside(|| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap());
    let listeners = Listeners { inbound_v4: Some(deaf.as_fd()), ..proxy.listeners() };
    let error = guard.replace_listeners(&listeners).unwrap_err();
    assert!(matches!(error, RedirectError::Listener { listener: "inbound IPv4", .. }), "{error}");
    assert_still_steered(&pod, &proxy);
}

#[test]
fn an_instance_is_held_by_one_at_a_time_and_has_a_plain_name() {
    let name = unique();
    let _first = named(&name);
    let error = KernelRedirect::open(Options { instance: name.clone(), ..Options::default() }).unwrap_err();
    assert!(matches!(&error, RedirectError::InstanceInUse { name: used } if *used == name), "{error}");
    let error =
        KernelRedirect::open(Options { instance: "a/../b".into(), ..Options::default() }).unwrap_err();
    assert!(matches!(error, RedirectError::InstanceName { .. }), "{error}");
}

#[test]
fn a_missing_bpf_file_system_and_cgroup_root_are_named() {
    let options = Options { bpffs: "/nowhere/bpf".into(), instance: unique(), ..Options::default() };
    let error = KernelRedirect::open(options).unwrap_err();
    assert!(error.to_string().contains("/nowhere/bpf") && error.reason() == "redirect_no_bpffs", "{error}");
    let options =
        Options { cgroup: Some("/nowhere/cgroup".into()), instance: unique(), ..Options::default() };
    let error = KernelRedirect::open(options).unwrap_err();
    assert!(error.to_string().contains("/nowhere/cgroup"), "{error}");
}

#[test]
fn a_file_that_is_no_cgroup_is_refused_and_leaves_no_pin() {
    let instance = unique();
    let options = Options { cgroup: Some("/tmp".into()), instance: instance.clone(), ..Options::default() };
    let error = KernelRedirect::open(options).unwrap_err();
    assert!(matches!(error, RedirectError::Hook { .. }), "{error}");
    assert!(super::lifecycle::pins(&instance).is_empty());
}
