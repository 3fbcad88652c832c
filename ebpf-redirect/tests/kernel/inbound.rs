//! Connections to a pod, from outside and from itself.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

use ebpf_redirect::{Exclusions, Redirect as _, Side};

use super::support::{Pod, accept, addr, assert_connected, counted, redirect, try_accept};

#[test]
fn every_port_of_a_pod_leads_to_its_proxy_with_both_true_addresses() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _app = ["0.0.0.0:8080", "[::]:8081"].map(|at| pod.serve(at.parse().unwrap()));
    let _guard = pod.enrol(&redirect, &proxy);
    for ip in [pod.v4, pod.v6] {
        for port in [8080, 8081, 9, 15001] {
            let to = SocketAddr::new(ip, port);
            let client = pod.dial(to).unwrap_or_else(|e| panic!("{to}: {e}"));
            let (accepted, peer) = accept(proxy.inbound(to));
            let origin = redirect.origin(accepted.as_fd(), Side::Inbound, peer).unwrap();
            assert_eq!(origin.destination, to);
            assert_eq!(origin.client, client.local_addr().unwrap());
            assert_connected(&client, &accepted);
        }
    }
    assert!(counted(&redirect, "sk_lookup", "steered") >= 8);
}

#[test]
fn an_excluded_inbound_port_stays_the_applications() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let exclusions = Exclusions { inbound_ports: vec![9090], ..Exclusions::default() };
    let _guard = pod.try_enrol(&redirect, &proxy, &exclusions).unwrap();
    for ip in [pod.v4, pod.v6] {
        let at = SocketAddr::new(ip, 9090);
        let app = pod.serve(at);
        let client = pod.dial(at).unwrap();
        assert_connected(&client, &accept(&app).0);
        assert!(try_accept(proxy.inbound(at), Duration::ZERO).is_none());
    }
    assert_eq!(counted(&redirect, "sk_lookup", "passed_excluded_port"), 2);
}

#[test]
fn a_second_address_of_the_pod_is_its_own_too() {
    let redirect = redirect();
    let mut pod = Pod::new();
    pod.netns.ip("addr add 10.77.0.22/24 dev eth0");
    let second = addr("10.77.0.22", 8080);
    let proxy = pod.listen(&redirect);
    pod.v6 = second.ip();
    let _guard = pod.enrol(&redirect, &proxy);
    let app = pod.serve(second);
    let client: TcpStream = pod.netns.inside(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(pod.v4, 0).into()).unwrap();
        socket.connect(&second.into()).unwrap();
        socket.into()
    });
    assert_connected(&client, &accept(&app).0);
}

#[test]
fn a_pod_that_is_not_enrolled_notices_nothing() {
    let redirect = redirect();
    let (enrolled, other) = (Pod::new(), Pod::new());
    let proxy = enrolled.listen(&redirect);
    let _guard = enrolled.enrol(&redirect, &proxy);
    let at = SocketAddr::new(other.v4, 8080);
    let app = other.serve(at);
    let client = other.dial(at).unwrap();
    let (accepted, peer) = accept(&app);
    assert_eq!(peer, client.local_addr().unwrap());
    assert_connected(&client, &accepted);
    let outside = addr(super::support::WORLD_V4, 8080);
    let server = other.world.inside(|| super::support::listener(outside));
    let client = other.connect(outside).unwrap();
    let (accepted, peer) = accept(&server);
    assert_eq!(peer.ip(), other.v4);
    assert_connected(&client, &accepted);
    // Other processes of the machine are counted there too, and of two adds at once one may be lost.
    let before = counted(&redirect, "connect4", "passed_not_enrolled");
    other.netns.inside(|| (0..1000).for_each(|_| drop(TcpStream::connect("127.0.0.1:9"))));
    let passed = counted(&redirect, "connect4", "passed_not_enrolled") - before;
    assert!(passed >= 900, "{passed}");
}

#[test]
fn pods_of_equal_addresses_are_told_apart() {
    let redirect = redirect();
    let pods = [Pod::new(), Pod::new()];
    let proxies = pods.each_ref().map(|pod| pod.listen(&redirect));
    let _guards = [0, 1].map(|i: usize| pods[i].enrol(&redirect, &proxies[i]));
    for (pod, proxy) in pods.iter().zip(&proxies) {
        let to = SocketAddr::new(pod.v4, 8080);
        let client = pod.dial(to).unwrap();
        assert_connected(&client, &accept(&proxy.inbound_v4).0);
        let out = pod.connect(addr(super::support::WORLD_V4, 80)).unwrap();
        assert_connected(&out, &accept(&proxy.outbound_v4).0);
    }
}
