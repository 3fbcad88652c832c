//! Full tables: what one pod may take, and that nothing goes astray when there is no room.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsFd as _,
    path::Path,
};

use aya::maps::{HashMap, Map, MapData};
use ebpf_redirect::{Redirect as _, kernel::KernelRedirect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::{
    lifecycle::pins,
    support::{Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, named, redirect, unique},
};

/// The table of notes under way: as bytes, the keys and values do not matter here.
fn flows(instance: &str) -> HashMap<MapData, [u8; 48], [u8; 44]> {
    let pin = pins(instance).into_iter().find(|pin| pin.ends_with(Path::new("FLOWS"))).unwrap();
    HashMap::try_from(Map::HashMap(MapData::from_pin(pin).unwrap())).unwrap()
}

#[test]
fn when_the_shared_table_is_full_a_connect_is_refused_and_no_server_of_the_pods_gets_it() {
    let instance = unique();
    let redirect = named(&instance);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let servers = ["127.0.0.1", "::1"].map(|ip| pod.serve(addr(ip, 15001)));
    let mut flows = flows(&instance);
    let key = |n: u32| {
        let mut key = [0xff; 48];
        key[..4].copy_from_slice(&n.to_ne_bytes());
        key
    };
    let filled = (0..=131_072).find(|n| flows.insert(key(*n), [0; 44], 0).is_err());
    assert_eq!(filled, Some(131_072));
    for to in [WORLD_V4, WORLD_V6] {
        let refused = pod.connect(addr(to, 80)).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(counted(&redirect, "sock_ops", "lost"), 2);
    assert_eq!(counted(&redirect, "sk_lookup", "refused_lost"), 2);
    // Nothing of it sticks: the pod's own server is reached, and with room again connections are steered.
    for server in &servers {
        let client = pod.connect(server.local_addr().unwrap()).unwrap();
        assert_connected(&client, &accept(server).0);
    }
    (0..10).for_each(|n| flows.remove(&key(n)).unwrap());
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
}

/// Begins a delivery, to an application that does not accept it.
fn begin(redirect: &KernelRedirect, to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    redirect.exempt(socket.as_fd(), Some(addr("192.0.2.9", 4321))).map_err(io::Error::other)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[test]
fn deliveries_that_nobody_accepts_are_bounded_and_leave_the_pods_own_connects_alone() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum.map(|most| most.min(65_536)), ..limit };
    setrlimit(Resource::Nofile, raised).unwrap();
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let to = SocketAddr::new(pod.v4, 8080);
    let deaf = pod.netns.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&to.into()).unwrap();
        socket.listen(0).unwrap();
        socket
    });
    let (begun, refused) = pod.netns.inside(|| {
        let mut begun = Vec::new();
        let refused = (0..9000).find_map(|_| begin(&redirect, to).map(|socket| begun.push(socket)).err());
        (begun, refused.unwrap())
    });
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
    // The few that the backlog took have met their other end.
    assert!((8192..8200).contains(&begun.len()), "{}", begun.len());
    assert_eq!(counted(&redirect, "connect4", "refused_in_flight"), 1);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    // A child that another test is starting just now has all of these, until it is another program.
    deaf.shutdown(std::net::Shutdown::Both).unwrap();
    drop((begun, deaf));
    let app = pod.serve(to);
    let again = (0..1000).find_map(|_| {
        let delivery = pod.netns.inside(|| begin(&redirect, to)).ok();
        if delivery.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        delivery
    });
    let delivery = again.expect("there is room again");
    assert_eq!(accept(&app).1, addr("192.0.2.9", 4321));
    drop(delivery);
}
