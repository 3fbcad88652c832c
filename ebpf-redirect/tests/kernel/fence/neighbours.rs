//! Addresses: what is for a pod, what is not, and who may say that he is whom.

use std::{
    io::{ErrorKind, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use ebpf_redirect::FenceChoice;
use socket2::{Domain, Socket, Type};

use super::{
    frames::{PacketSocket, SYN, TCP, UDP, Wire, ip, tcp, udp},
    lab::{Lab, eventually},
};
use crate::support::{PATIENCE, accept, listener, try_accept};

const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_pod_that_takes_anothers_address_gets_and_sends_nothing_under_it() {
    let lab = Lab::new();
    let (victim, thief) = (lab.pod(), lab.pod());
    let _fenced = [lab.enrol(&victim), lab.enrol(&thief)];
    let stolen = victim.at(8080)[0];
    victim.pod.netns.ip("link set eth0 down");
    thief.pod.netns.ip(&format!("addr add {}/24 dev eth0", stolen.ip()));
    let loot = thief.pod.serve(stolen);
    // Whoever asks is told the thief's hardware address: that much ARP lets him have.
    let client = victim.pod.world.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        drop(socket.connect(&stolen.into()));
        socket
    });
    eventually("the drop of what is not his", || lab.dropped(&thief, "destination") > 0);
    assert!(try_accept(&loot, Duration::ZERO).is_none());
    drop(client);
    let there = thief.outside_at(80)[0];
    let server = thief.pod.world.inside(|| listener(there));
    let socket = thief.own_socket(&lab.redirect, there);
    socket.bind(&SocketAddr::new(stolen.ip(), 0).into()).unwrap();
    let refused = socket.connect_timeout(&there.into(), Duration::from_secs(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    assert!(lab.dropped(&thief, "source") > 0);
    assert!(try_accept(&server, Duration::ZERO).is_none());
}

#[test]
fn what_is_not_for_the_pod_or_comes_as_if_from_itself_does_not_arrive() {
    for choice in [FenceChoice::Observe, FenceChoice::Required] {
        let lab = Lab::with(choice);
        let pod = lab.pod();
        let _fenced = lab.enrol(&pod);
        let wire = Wire::out(&pod).back();
        let [from, from6] = pod.outside;
        let (own, own6) = (pod.pod.v4, pod.pod.v6);
        let other = "10.78.0.99".parse().unwrap();
        let many = "224.0.0.251".parse().unwrap();
        let syn = |from, to| ip(from, to, TCP, &tcp(((from, 4000), (to, 80)), SYN, b"unasked"));
        let frames = [
            ("destination", syn(from, other)),
            ("destination", ip(from, other, UDP, &udp(1, 2, b"unasked"))),
            ("destination", syn(from, many)),
            ("source", syn(own, own)),
            ("source", syn(own6, own6)),
            ("destination", syn(from6, "fe80::1".parse().unwrap())),
        ];
        for (reason, packet) in frames {
            let watcher = pod.pod.netns.inside(|| PacketSocket::open(false)).unwrap();
            pod.pod.world.inside(|| PacketSocket::open(false).unwrap().send(&wire.ip(&packet))).unwrap();
            let enforced = choice == FenceChoice::Required;
            let sees = watcher.sees(b"unasked", if enforced { SOON } else { PATIENCE });
            assert_eq!(sees, !enforced, "{reason}");
            let count = if enforced { lab.dropped(&pod, reason) } else { lab.observed(&pod, reason) };
            assert!(count > 0, "{reason}");
        }
        let watcher = pod.pod.netns.inside(|| PacketSocket::open(false)).unwrap();
        let packet = ip(from, many, UDP, &udp(1, 2, b"for all"));
        pod.pod.world.inside(|| PacketSocket::open(false).unwrap().send(&wire.ip(&packet))).unwrap();
        assert!(watcher.sees(b"for all", PATIENCE), "multicast");
    }
}

#[test]
fn a_second_address_of_the_pod_is_its_own_too() {
    let lab = Lab::new();
    let mut pod = lab.pod();
    pod.pod.netns.ip("addr add 10.78.0.222/24 dev eth0");
    pod.pod.v6 = "10.78.0.222".parse().unwrap();
    let fenced = lab.enrol(&pod);
    for ip in [pod.pod.v4, pod.pod.v6] {
        let client = pod.pod.dial(SocketAddr::new(ip, 8080)).unwrap();
        crate::support::assert_connected(&client, &accept(&fenced.proxy.inbound_v4).0);
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn link_local_addresses_are_no_way_past_the_proxies() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let link_local = |netns: &crate::support::Netns, host: u16| {
        netns.ip(&format!("addr add fe80::77:{host}/64 dev eth0 nodad"));
        let text = format!("[fe80::77:{host}%2]:80");
        let index = netns.inside(|| std::fs::read_to_string("/sys/class/net/eth0/ifindex"));
        drop(index);
        text
    };
    let _ = link_local(&pod.pod.netns, 1);
    let _ = link_local(&pod.pod.world, 2);
    let scope = pod.pod.netns.inside(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        rustix::net::netdevice::name_to_index(&socket, "eth0").unwrap()
    });
    let to = std::net::SocketAddrV6::new("fe80::77:2".parse().unwrap(), 80, 0, scope);
    let _server = pod.pod.world.inside(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let scope = rustix::net::netdevice::name_to_index(&socket, "eth0").unwrap();
        listener(std::net::SocketAddrV6::new("fe80::77:2".parse().unwrap(), 80, 0, scope).into())
    });
    let refused = pod.pod.netns.inside(|| TcpStream::connect_timeout(&to.into(), PATIENCE)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(crate::support::counted(&lab.redirect, "connect6", "refused_link_local"), 1);
}

#[test]
fn the_pods_own_rules_cannot_turn_the_proxys_connection_elsewhere() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let [meant, reached] = [pod.outside_at(80)[0], pod.outside_at(8080)[0]];
    let server = pod.pod.world.inside(|| listener(reached));
    let rule = format!(
        "netns exec {} iptables -t nat -A OUTPUT -p tcp -d {} --dport 80 -j DNAT --to-destination {reached}",
        pod.pod.netns.name(),
        meant.ip()
    );
    let set = std::process::Command::new("ip").args(rule.split(' ')).output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let socket = pod.own_socket(&lab.redirect, meant);
    let refused = socket.connect_timeout(&meant.into(), Duration::from_secs(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    assert!(lab.dropped(&pod, "rewritten") > 0);
    assert!(try_accept(&server, Duration::ZERO).is_none());
    // The rule alone does lead there.
    let control = pod.through(&lab.redirect, reached);
    let (mut accepted, _) = accept(&server);
    accepted.write_all(b"!").unwrap();
    drop(control);
}
