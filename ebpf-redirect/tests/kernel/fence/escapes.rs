//! What an application with CAP_NET_RAW tries, once with a fence that only observes, where it arrives, and once with one
//! that enforces, where it does not. So each of these can fail.

use std::{net::IpAddr, time::Duration};

use ebpf_redirect::{FenceChoice, Redirect as _};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    frames::{ACK, PacketSocket, RST, SYN, TCP, UDP, Wire, ip, ipv4, ipv6, tcp, udp},
    lab::{Lab, LabPod},
};
use crate::support::{PATIENCE, accept, assert_connected, listener, try_accept};

/// What shows that a packet arrived.
const MARK: &[u8] = b"past-the-fence";
/// After this, what must not arrive has not.
const SOON: Duration = Duration::from_millis(300);

/// A frame that the pod sends, and why it must not pass.
struct Escape {
    name: &'static str,
    reason: &'static str,
    frame: Vec<u8>,
}

fn assert_dropped_where_enforced(escapes: impl Fn(&LabPod) -> Vec<Escape>, bypass: bool) {
    for choice in [FenceChoice::Observe, FenceChoice::Required] {
        let lab = Lab::with(choice);
        let pod = lab.pod();
        let _fenced = lab.enrol(&pod);
        let sender = pod.pod.netns.inside(|| PacketSocket::open(bypass)).unwrap();
        for Escape { name, reason, frame } in escapes(&pod) {
            let count = || match choice {
                FenceChoice::Observe => lab.observed(&pod, reason),
                _ => lab.dropped(&pod, reason),
            };
            let (before, watcher) = (count(), pod.pod.world.inside(|| PacketSocket::open(false)).unwrap());
            sender.send(&frame).unwrap();
            let passes = choice == FenceChoice::Observe;
            assert_eq!(watcher.sees(MARK, if passes { PATIENCE } else { SOON }), passes, "{name}");
            assert_eq!(count(), before + 1, "{name}: {:?}", lab.redirect);
        }
    }
}

/// A segment to the outsider, of either family.
fn segment(pod: &LabPod, v4: bool, flags: u8, data: &[u8]) -> (IpAddr, IpAddr, Vec<u8>) {
    let (from, to) = if v4 { (pod.pod.v4, pod.outside[0]) } else { (pod.pod.v6, pod.outside[1]) };
    (from, to, tcp(((from, 40_000), (to, 80)), flags, data))
}

fn segments(pod: &LabPod) -> Vec<Escape> {
    let wire = Wire::out(pod);
    let mut escapes = Vec::new();
    for v4 in [true, false] {
        for (name, flags) in [("a SYN", SYN), ("a SYN-ACK", SYN | ACK), ("an ACK", ACK), ("no flag", 0)] {
            let (from, to, segment) = segment(pod, v4, flags, MARK);
            escapes.push(Escape { name, reason: "raw", frame: wire.ip(&ip(from, to, TCP, &segment)) });
        }
    }
    escapes
}

#[test]
fn segments_from_packet_sockets_are_dropped() {
    assert_dropped_where_enforced(segments, false);
}

#[test]
fn segments_from_packet_sockets_that_bypass_the_pods_own_programs_are_dropped() {
    assert_dropped_where_enforced(segments, true);
}

#[test]
fn a_reset_that_carries_data_is_dropped_be_it_stated_or_trailing() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            [true, false]
                .into_iter()
                .flat_map(|v4| {
                    let (from, to, with_data) = segment(pod, v4, RST, MARK);
                    let (_, _, bare) = segment(pod, v4, RST | ACK, b"");
                    let stated = wire.ip(&ip(from, to, TCP, &with_data));
                    let trailing = [wire.ip(&ip(from, to, TCP, &bare)), MARK.to_vec()].concat();
                    [("stated", stated), ("trailing", trailing)]
                })
                .map(|(name, frame)| Escape { name, reason: "reset_payload", frame })
                .collect()
        },
        false,
    );
}

#[test]
fn forged_sources_are_dropped_whatever_they_carry() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            let [v4, v6] = pod.outside;
            let forged: [(&str, IpAddr, IpAddr, u8); 6] = [
                ("TCP as a neighbour", "10.78.0.1".parse().unwrap(), v4, TCP),
                ("UDP as a neighbour", "10.78.0.1".parse().unwrap(), v4, UDP),
                ("TCP as nobody", "0.0.0.0".parse().unwrap(), v4, TCP),
                ("TCP over IPv6", "fd78::1".parse().unwrap(), v6, TCP),
                ("UDP over IPv6", "fd78::1".parse().unwrap(), v6, UDP),
                ("TCP as link-local", "fe80::1".parse().unwrap(), v6, TCP),
            ];
            let escape = |(name, from, to, protocol)| {
                let payload = match protocol {
                    TCP => tcp(((from, 40_000), (to, 80)), SYN, MARK),
                    _ => udp(40_000, 80, MARK),
                };
                Escape { name, reason: "source", frame: wire.ip(&ip(from, to, protocol, &payload)) }
            };
            forged.map(escape).into()
        },
        false,
    );
}

#[test]
fn fragments_that_may_hide_tcp_are_dropped() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            let (from, to, first) = segment(pod, true, SYN, MARK);
            let (from6, to6, first6) = segment(pod, false, SYN, MARK);
            let fragment6 = |next: u8, offset_and_more: u16, payload: &[u8]| {
                let mut header = vec![next, 0];
                header.extend(offset_and_more.to_be_bytes());
                header.extend([0, 0, 0, 7]);
                wire.ip(&ipv6(from6, to6, 44, &[&header, payload].concat()))
            };
            let options = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &first6].concat();
            [
                ("first", wire.ip(&ipv4(from, to, TCP, 0x2000, &first))),
                ("later", wire.ip(&ipv4(from, to, TCP, 0x0003, MARK))),
                ("first, IPv6", fragment6(TCP, 1, &first6)),
                ("later, IPv6", fragment6(TCP, 8, MARK)),
                ("whole, IPv6", fragment6(TCP, 0, &first6)),
                ("first, behind options, IPv6", fragment6(60, 1, &options)),
                ("later, behind options, IPv6", fragment6(60, 8, MARK)),
            ]
            .map(|(name, frame)| Escape { name, reason: "fragment", frame })
            .into()
        },
        false,
    );
}

#[test]
fn ipv6_extension_headers_hide_nothing() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            let (from, to, segment) = segment(pod, false, SYN, MARK);
            let padding = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
            let chain = |kinds: &[u8]| {
                let mut payload = Vec::new();
                for (i, _) in kinds.iter().enumerate() {
                    payload.extend(padding(kinds.get(i + 1).copied().unwrap_or(TCP)));
                }
                payload.extend(&segment);
                wire.ip(&ipv6(from, to, kinds[0], &payload))
            };
            let authentication = [&[TCP, 4][..], &[0; 22], &segment].concat();
            vec![
                Escape { name: "hop-by-hop", reason: "raw", frame: chain(&[0]) },
                Escape { name: "all of them", reason: "raw", frame: chain(&[0, 60, 43, 60, 135, 139, 140]) },
                Escape {
                    name: "authentication",
                    reason: "raw",
                    frame: wire.ip(&ipv6(from, to, 51, &authentication)),
                },
                Escape { name: "too many", reason: "header", frame: chain(&[60; 9]) },
            ]
        },
        false,
    );
}

#[test]
fn what_is_no_packet_of_ip_is_dropped() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            let (from, to, segment) = segment(pod, true, SYN, MARK);
            let packet = ip(from, to, TCP, &segment);
            let tagged = [&[0, 5, 0x08, 0x00][..], &packet].concat();
            let short = ipv4(from, to, TCP, 0, MARK);
            let version = [&[0x65][..], &packet[1..]].concat();
            vec![
                Escape { name: "experimental", reason: "ethertype", frame: wire.frame(0x88b5, MARK) },
                Escape { name: "tagged", reason: "ethertype", frame: wire.frame(0x8100, &tagged) },
                Escape { name: "of another version", reason: "header", frame: wire.frame(0x0800, &version) },
                Escape { name: "a short TCP header", reason: "header", frame: wire.ip(&short) },
            ]
        },
        false,
    );
}

#[test]
fn packets_in_packets_are_dropped() {
    assert_dropped_where_enforced(
        |pod| {
            let wire = Wire::out(pod);
            let (from, to, segment) = segment(pod, true, SYN, MARK);
            let inner = ip(from, to, TCP, &segment);
            let gre = [&[0, 0, 0x08, 0x00][..], &inner].concat();
            [("IP in IP", 4, &inner), ("IPv6 in IP", 41, &inner), ("GRE", 47, &gre)]
                .map(|(name, protocol, payload)| {
                    let frame = wire.ip(&ip(from, to, protocol, payload));
                    Escape { name, reason: "encapsulated", frame }
                })
                .into()
        },
        false,
    );
}

#[test]
fn a_raw_socket_that_writes_its_own_headers_is_dropped() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let (from, to, segment) = segment(&pod, true, SYN, MARK);
    let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
    pod.pod.netns.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap();
        socket.send_to(&ip(from, to, TCP, &segment), &std::net::SocketAddr::new(to, 0).into()).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
        socket.send_to(&segment, &std::net::SocketAddr::new(to, 0).into()).unwrap();
    });
    assert!(!watcher.sees(MARK, SOON));
    assert_eq!(lab.dropped(&pod, "raw"), 2);
}

#[test]
fn a_forged_segment_on_the_proxys_live_connection_is_dropped() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    for to in pod.outside_at(80) {
        let server = pod.pod.world.inside(|| listener(to));
        let connection = pod.through(&lab.redirect, to);
        let (accepted, from) = accept(&server);
        let before = lab.dropped(&pod, "raw");
        let segment = tcp(((from.ip(), from.port()), (to.ip(), 80)), ACK, MARK);
        let frame = Wire::out(&pod).ip(&ip(from.ip(), to.ip(), TCP, &segment));
        let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
        pod.pod.netns.inside(|| PacketSocket::open(true).unwrap().send(&frame)).unwrap();
        assert!(!watcher.sees(MARK, SOON));
        assert_eq!(lab.dropped(&pod, "raw"), before + 1);
        assert_connected(&connection, &accepted);
    }
}

#[test]
fn what_is_forwarded_from_a_namespace_inside_the_pod_is_dropped() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let nested = crate::support::Netns::new();
    nested.ip(&format!("link add eth0 type veth peer name nested netns {}", pod.pod.netns.name()));
    nested.ip("addr add 172.30.0.2/24 dev eth0");
    nested.ip("link set eth0 up");
    nested.ip("route add default via 172.30.0.1");
    pod.pod.netns.ip("addr add 172.30.0.1/24 dev nested");
    pod.pod.netns.ip("link set nested up");
    pod.pod.netns.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    // Under the pod's own address, with true ports.
    let rule = ["-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"];
    let masquerade =
        pod.pod.netns.inside(|| std::process::Command::new("iptables").args(rule).output()).unwrap();
    assert!(masquerade.status.success(), "{}", String::from_utf8_lossy(&masquerade.stderr));
    let to = pod.outside_at(80)[0];
    let server = pod.pod.world.inside(|| listener(to));
    let refused =
        nested.inside(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1))).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
    assert!(lab.dropped(&pod, "no_socket") > 0, "{:?}", lab.redirect.fences());
    assert!(try_accept(&server, Duration::ZERO).is_none());
}
