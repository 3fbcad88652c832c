//! What applications do before, during and after `connect`, and what of it is steered.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, SocketAddrV6, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use ebpf_redirect::{Exclusions, Redirect as _, Side};
use socket2::{Domain, Socket, Type};

use super::support::{
    PATIENCE, Pod, Proxy, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, listener, redirect,
    try_accept,
};

/// Both families' destination outside.
fn outside() -> [SocketAddr; 2] {
    [addr(WORLD_V4, 8080), addr(WORLD_V6, 8080)]
}

fn socket(to: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap()
}

/// Connects with a socket that `prepare` has changed, and checks everything that both ends may know.
fn steered(what: &str, prepare: impl Fn(&Pod, &Socket, SocketAddr) + Sync) {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for to in outside() {
        let client: TcpStream = pod.netns.inside(|| {
            let socket = socket(to);
            prepare(&pod, &socket, to);
            socket.connect_timeout(&to.into(), PATIENCE).unwrap_or_else(|e| panic!("{what}, {to}: {e}"));
            socket.into()
        });
        let (accepted, peer) = accept(proxy.outbound(to));
        assert_eq!(peer, to, "{what}: accept4 tells where the client meant to go");
        let origin = redirect.origin(accepted.as_fd(), Side::Outbound, peer).unwrap();
        assert_eq!(origin.destination, to, "{what}");
        assert_eq!(
            origin.client,
            client.local_addr().unwrap(),
            "{what}: the client as its own kernel knows it"
        );
        assert_eq!(client.peer_addr().unwrap(), to, "{what}: getpeername");
        assert_eq!(client.local_addr().unwrap().ip(), pod.own(to), "{what}: getsockname");
        assert_connected(&client, &accepted);
    }
}

#[test]
fn an_ordinary_connect_is_steered_and_both_ends_see_true_addresses() {
    steered("plain", |_, _, _| {});
}

#[test]
fn a_socket_bound_to_the_pods_address_is_steered() {
    steered("bound source", |pod, socket, to| {
        socket.bind(&SocketAddr::new(pod.own(to), 0).into()).unwrap();
    });
}

#[test]
fn a_socket_bound_to_the_pods_interface_is_steered() {
    steered("bound device", |_, socket, _| socket.bind_device(Some(b"eth0")).unwrap());
}

#[test]
fn a_socket_bound_to_any_address_is_steered() {
    steered("bound any", |_, socket, to| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        socket.bind(&any.parse::<SocketAddr>().unwrap().into()).unwrap();
    });
}

#[test]
fn a_non_blocking_connect_is_steered() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for to in outside() {
        let client = pod.netns.inside(|| {
            let socket = socket(to);
            socket.set_nonblocking(true).unwrap();
            let begun = socket.connect(&to.into());
            assert!(begun.is_ok() || begun.unwrap_err().raw_os_error() == Some(libc::EINPROGRESS));
            socket
        });
        let (accepted, peer) = accept(proxy.outbound(to));
        assert_eq!(peer, to);
        client.set_nonblocking(false).unwrap();
        assert_connected(&client.into(), &accepted);
    }
}

#[test]
fn a_fast_open_connect_is_steered_with_its_first_bytes() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for to in outside() {
        let client = pod.netns.inside(|| {
            let socket = socket(to);
            assert_eq!(socket.send_to_with_flags(b"early", &to.into(), libc::MSG_FASTOPEN).unwrap(), 5);
            socket
        });
        let (mut accepted, peer) = accept(proxy.outbound(to));
        assert_eq!(peer, to);
        let mut early = [0; 5];
        accepted.read_exact(&mut early).unwrap();
        assert_eq!(&early, b"early");
        assert_connected(&client.into(), &accepted);
    }
}

#[test]
fn a_v4_mapped_connect_is_steered_to_the_ipv4_listener() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let to = addr(WORLD_V4, 8080);
    let mapped = addr(format!("::ffff:{WORLD_V4}"), 8080);
    let client = pod.connect(mapped).unwrap();
    let (accepted, peer) = accept(&proxy.outbound_v4);
    let origin = redirect.origin(accepted.as_fd(), Side::Outbound, peer).unwrap();
    assert_eq!((peer, origin.destination), (to, to));
    assert_eq!(client.peer_addr().unwrap(), mapped);
    assert_eq!(client.local_addr().unwrap().ip().to_canonical(), pod.v4);
    assert_eq!(origin.client, SocketAddr::new(pod.v4, client.local_addr().unwrap().port()));
    assert_connected(&client, &accepted);
}

#[test]
fn an_application_that_owns_the_outbound_port_keeps_it() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (to, own) in outside().into_iter().zip([addr("127.0.0.1", 15001), addr("::1", 15001)]) {
        let server = pod.serve(own);
        let steered = pod.connect(to).unwrap();
        assert_connected(&steered, &accept(proxy.outbound(to)).0);
        let local = pod.connect(own).unwrap();
        assert_connected(&local, &accept(&server).0);
    }
    assert_eq!(counted(&redirect, "sk_lookup", "passed_not_steered"), 2);
}

/// One row: which connection, and the event that has to be counted for it.
fn passes(event: &str, exclusions: &Exclusions, to: impl Fn(&Pod) -> Vec<(SocketAddr, SocketAddr)>) {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.try_enrol(&redirect, &proxy, exclusions).unwrap();
    for (dialled, served) in to(&pod) {
        let inside = served.ip().is_loopback() || served.ip() == pod.v4 || served.ip() == pod.v6;
        let server = if inside { pod.serve(served) } else { pod.world.inside(|| listener(served)) };
        let hook = if dialled.is_ipv4() { "connect4" } else { "connect6" };
        let before = counted(&redirect, hook, event);
        let client = pod.connect(dialled).unwrap_or_else(|e| panic!("{dialled}: {e}"));
        let (accepted, _) = accept(&server);
        assert_connected(&client, &accepted);
        assert_eq!(client.peer_addr().unwrap(), dialled, "getpeername");
        assert_eq!(counted(&redirect, hook, event), before + 1, "{event} for {dialled}");
        assert!(try_accept(proxy.outbound(dialled), Duration::ZERO).is_none());
    }
}

#[test]
fn loopback_passes() {
    passes("passed_loopback", &Exclusions::default(), |_| {
        let pairs = [("127.0.0.1", "127.0.0.1"), ("127.0.0.9", "127.0.0.9"), ("::1", "::1")];
        pairs.iter().map(|(to, at)| (addr(to, 8080), addr(at, 8080))).collect()
    });
}

#[test]
fn the_pods_own_addresses_pass() {
    passes("passed_own_address", &Exclusions::default(), |pod| {
        [pod.v4, pod.v6].map(|ip| (addr(ip, 8080), addr(ip, 8080))).to_vec()
    });
}

#[test]
fn an_excluded_port_passes() {
    let exclusions = Exclusions { outbound_ports: vec![5432, 9000], ..Exclusions::default() };
    passes("passed_excluded_port", &exclusions, |_| {
        [WORLD_V4, WORLD_V6].map(|ip| (addr(ip, 9000), addr(ip, 9000))).to_vec()
    });
}

#[test]
fn an_excluded_network_passes() {
    let networks = ["198.51.0.0/16", "2001:db8::/32"].map(|text| text.parse().unwrap());
    let exclusions = Exclusions { outbound_cidrs: networks.to_vec(), ..Exclusions::default() };
    passes("passed_excluded_cidr", &exclusions, |_| outside().map(|to| (to, to)).to_vec());
}

#[test]
fn what_is_not_excluded_is_steered_beside_what_is() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let exclusions = Exclusions {
        outbound_ports: vec![9000],
        outbound_cidrs: vec!["198.51.100.8/29".parse().unwrap(), "::/0".parse().unwrap()],
        inbound_ports: vec![8080],
    };
    let _guard = pod.try_enrol(&redirect, &proxy, &exclusions).unwrap();
    let to = addr(WORLD_V4, 8080);
    let client = pod.connect(to).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
}

#[test]
fn udp_is_untouched() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for to in outside() {
        let server = pod.world.inside(|| UdpSocket::bind(to).unwrap());
        let client = pod.netns.inside(|| {
            let client = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            client.connect(to).unwrap();
            client
        });
        client.send(b"there").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut read = [0; 8];
        let (length, from) = server.recv_from(&mut read).unwrap();
        assert_eq!((length, from.ip()), (5, pod.own(to)));
        assert_eq!(client.peer_addr().unwrap(), to);
        let hook = if to.is_ipv4() { "connect4" } else { "connect6" };
        assert_eq!(counted(&redirect, hook, "passed_not_tcp"), 1);
    }
}

/// Under `--fence off`, and where a pod cannot be fenced.
#[test]
fn a_link_local_connect_of_a_pod_without_a_fence_passes() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let server = "fe80::77:2".parse().unwrap();
    for (netns, own) in [(&pod.netns, "fe80::77:1"), (&pod.world, "fe80::77:2")] {
        netns.ip(&format!("addr add {own}/64 dev eth0 nodad"));
    }
    // The same interface has another number in each namespace.
    let at = || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let scope = rustix::net::netdevice::name_to_index(&socket, "eth0").unwrap();
        SocketAddr::V6(SocketAddrV6::new(server, 8080, 0, scope))
    };
    let listener = pod.world.inside(|| listener(at()));
    let client = pod.netns.inside(|| TcpStream::connect_timeout(&at(), PATIENCE).unwrap());
    assert_connected(&client, &accept(&listener).0);
    assert_eq!(counted(&redirect, "connect6", "passed_link_local"), 1);
    assert!(try_accept(&proxy.outbound_v6, Duration::ZERO).is_none());
}

#[test]
fn a_socket_that_is_dissolved_and_connected_to_loopback_forgets_where_it_was_steered() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (to, local) in outside().into_iter().zip([addr("127.0.0.1", 8080), addr("::1", 8080)]) {
        let server = pod.serve(local);
        let client: TcpStream = pod.netns.inside(|| {
            let socket = socket(to);
            socket.connect(&to.into()).unwrap();
            rustix::net::connect_unspec(&socket).unwrap();
            socket.connect(&local.into()).unwrap();
            socket.into()
        });
        assert_eq!(client.peer_addr().unwrap(), local);
        assert_connected(&client, &accept(&server).0);
    }
}

#[test]
fn many_connections_at_once_keep_their_destinations_apart() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy: Proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let ports = 1..=200u16;
    let clients: Vec<TcpStream> = pod
        .netns
        .inside(|| ports.clone().map(|port| TcpStream::connect(addr(WORLD_V4, port)).unwrap()).collect());
    let mut seen: Vec<u16> = Vec::new();
    for _ in &clients {
        let (mut accepted, peer) = accept(&proxy.outbound_v4);
        accepted.write_all(&peer.port().to_be_bytes()).unwrap();
        seen.push(peer.port());
    }
    for (mut client, port) in clients.iter().zip(ports.clone()) {
        let mut told = [0; 2];
        client.read_exact(&mut told).unwrap();
        assert_eq!(u16::from_be_bytes(told), port);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(ports));
}
