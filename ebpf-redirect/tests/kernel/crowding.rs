//! Full tables: what one pod may take, and that nothing goes astray when there is no room.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsFd as _,
    path::Path,
};

use aya::maps::{Array, HashMap, Map, MapData};
use ebpf_redirect::{Redirect as _, kernel::KernelRedirect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockFilter, Socket, Type};

use super::{
    lifecycle::pins,
    support::{Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, named, redirect, unique},
};

/// A map that the hooks share.
fn map(instance: &str, name: &str) -> MapData {
    let pin = pins(instance).into_iter().find(|pin| pin.ends_with(Path::new(name))).unwrap();
    MapData::from_pin(pin).unwrap()
}

/// The table of notes under way: as bytes, the keys and values do not matter here.
fn flows(instance: &str) -> HashMap<MapData, [u8; 48], [u8; 44]> {
    HashMap::try_from(Map::HashMap(map(instance, "FLOWS"))).unwrap()
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

/// Leaves none of the memory that the kernel gives a socket for its options, which notes on it are taken from: a filter is
/// charged by its length.
fn exhaust(socket: &Socket) {
    const LOAD: u16 = 0x20;
    const LOAD_NUMBER: u16 = 0x00;
    const RETURN: u16 = 0x06;
    // Loads from the packet become several instructions each, numbers one: the last gap is smaller than any note.
    let takes = |loads: usize, numbers: usize| {
        // Of an earlier length, where one is attached: it is charged as long as the next is not accepted.
        drop(socket.detach_filter());
        let loads = (0..loads).map(|_| SockFilter::new(LOAD, 0, 0, 0));
        let numbers = (0..numbers).map(|_| SockFilter::new(LOAD_NUMBER, 0, 0, 0));
        let all: Vec<_> = loads.chain(numbers).chain([SockFilter::new(RETURN, 0, 0, u32::MAX)]).collect();
        socket.attach_filter(&all).is_ok()
    };
    let most = |takes: &dyn Fn(usize) -> bool, limit: usize| {
        let (mut fits, mut not) = (0, limit);
        while not - fits > 1 {
            let middle = (fits + not) / 2;
            if takes(middle) { fits = middle } else { not = middle }
        }
        assert!(fits > 0 && not < limit, "{fits} of {limit}");
        fits
    };
    let loads = most(&|loads| takes(loads, 0), 3800);
    let numbers = most(&|numbers| takes(loads, numbers), 200);
    assert!(takes(loads, numbers));
}

#[test]
fn a_socket_without_memory_for_a_note_is_refused_and_steered_once_it_has_some() {
    let redirect = redirect();
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    for (to, hook) in [(addr(WORLD_V4, 80), "connect4"), (addr(WORLD_V6, 80), "connect6")] {
        let socket = pod.netns.inside(|| Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap());
        exhaust(&socket);
        let refused = pod.netns.inside(|| socket.connect(&to.into())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
        assert_eq!(counted(&redirect, hook, "refused_no_memory"), 1);
        socket.detach_filter().unwrap();
        pod.netns.inside(|| socket.connect(&to.into())).unwrap();
        assert_connected(&socket.into(), &accept(proxy.outbound(to)).0);
    }
}

#[test]
fn decisions_that_find_no_room_in_the_ring_are_not_traced_and_counted_all_the_same() {
    let instance = unique();
    let redirect = named(&instance);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    // As if somebody watched who never reads.
    let mut watched: Array<_, u32> = Array::try_from(Map::Array(map(&instance, "WATCHED"))).unwrap();
    watched.set(0, 1_u32, 0).unwrap();
    // A record is 64 bytes and the ring's own 8; the ring has 256 KiB.
    let connects = 5000;
    pod.netns.inside(|| (0..connects).for_each(|_| drop(std::net::TcpStream::connect("127.0.0.1:9"))));
    assert_eq!(counted(&redirect, "connect4", "passed_loopback"), connects);
    let hooks = ["connect4", "sk_lookup"];
    let lost: u64 = hooks.map(|hook| counted(&redirect, hook, "trace_lost")).iter().sum();
    let decisions: u64 = hooks.map(|hook| counted(&redirect, hook, "passed_loopback")).iter().sum();
    let held = decisions - lost;
    assert!((3000..4096).contains(&held), "{held} of {decisions}");
}
