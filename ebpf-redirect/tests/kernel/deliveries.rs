//! The proxy's own connections: they pass by, and a server in the pod sees the client on whose behalf they are made.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
};

use ebpf_redirect::Redirect as _;
use socket2::{Domain, Socket, Type};

use super::support::{Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, listener, redirect};

/// A connection of the proxy, made inside the pod.
fn deliver(
    redirect: &ebpf_redirect::kernel::KernelRedirect,
    pod: &Pod,
    to: SocketAddr,
    client: Option<SocketAddr>,
) -> TcpStream {
    pod.netns.inside(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        redirect.exempt(socket.as_fd(), client).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    })
}

#[test]
fn a_delivery_reaches_the_application_which_sees_the_client() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (ip, client) in [(pod.v4, addr("192.0.2.9", 4321)), (pod.v6, addr("2001:db8:9::9", 4321))] {
        let at = SocketAddr::new(ip, 8080);
        let app = pod.serve(at);
        let delivery = deliver(&redirect, &pod, at, Some(client));
        let (accepted, peer) = accept(&app);
        assert_eq!(peer, client, "accept");
        assert_eq!(accepted.peer_addr().unwrap(), client, "getpeername");
        assert_eq!(accepted.local_addr().unwrap(), at, "getsockname");
        assert_eq!(delivery.peer_addr().unwrap(), at, "the proxy's own end");
        assert_connected(&delivery, &accepted);
    }
}

#[test]
fn a_dual_stack_application_sees_an_ipv4_client() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let app = pod.serve("[::]:8080".parse().unwrap());
    let client = addr("192.0.2.9", 4321);
    let delivery = deliver(&redirect, &pod, SocketAddr::new(pod.v4, 8080), Some(client));
    let (accepted, peer) = accept(&app);
    assert_eq!((peer.ip().to_canonical(), peer.port()), (client.ip(), client.port()));
    assert_connected(&delivery, &accepted);
}

#[test]
fn a_client_of_another_family_falls_back_to_the_pods_address() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let at = SocketAddr::new(pod.v4, 8080);
    let app = pod.serve(at);
    let delivery = deliver(&redirect, &pod, at, Some(addr("2001:db8:9::9", 4321)));
    let (accepted, peer) = accept(&app);
    assert_eq!(peer, delivery.local_addr().unwrap());
    assert_connected(&delivery, &accepted);
}

#[test]
fn a_delivery_without_a_client_is_seen_as_the_pods_own() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let at = SocketAddr::new(pod.v4, 8080);
    let app = pod.serve(at);
    let delivery = deliver(&redirect, &pod, at, None);
    let (accepted, peer) = accept(&app);
    assert_eq!(peer, delivery.local_addr().unwrap());
    assert_connected(&delivery, &accepted);
}

#[test]
fn an_exempt_socket_leaves_the_pod_unsteered() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (ip, hook) in [(WORLD_V4, "connect4"), (WORLD_V6, "connect6")] {
        let to = addr(ip, 8080);
        let server = pod.world.inside(|| listener(to));
        let through = deliver(&redirect, &pod, to, None);
        let (accepted, peer) = accept(&server);
        assert_eq!(peer.ip(), pod.own(to));
        assert_connected(&through, &accepted);
        assert_eq!(counted(&redirect, hook, "passed_exempt"), 1);
    }
}
