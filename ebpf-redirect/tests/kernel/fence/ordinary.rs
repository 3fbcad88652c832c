//! What must go on as if there were no fence: the proxy's connections both ways, exceptions, UDP, ICMP, and the kernel's
//! own segments.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::Duration,
};

use ebpf_redirect::{Exclusions, Redirect as _, Side};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    frames::{ACK, PacketSocket, RST, TCP, UDP, Wire, ip, ipv4, ping, tcp, udp},
    lab::{Lab, LabPod, eventually},
};
use crate::support::{PATIENCE, accept, assert_connected, listener, stop_listening, try_accept};

fn sysctl(pod: &LabPod, name: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{name}");
    pod.pod.netns.inside(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
}

#[test]
fn the_proxys_connections_pass_both_ways_in_both_families() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    for (there, here) in pod.outside_at(80).into_iter().zip(pod.at(8080)) {
        let server = pod.pod.world.inside(|| listener(there));
        let out = pod.through(&lab.redirect, there);
        assert_connected(&out, &accept(&server).0);
        let client = pod.pod.dial(here).unwrap();
        assert_connected(&client, &accept(fenced.proxy.inbound(here)).0);
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn plaintext_to_the_pod_reaches_its_listener_and_not_its_application() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    for here in pod.at(8080) {
        let app = pod.pod.serve(here);
        let client = pod.pod.dial(here).unwrap();
        let (accepted, peer) = accept(fenced.proxy.inbound(here));
        let origin = lab.redirect.origin(accepted.as_fd(), Side::Inbound, peer).unwrap();
        assert_eq!(origin.destination, here);
        assert_connected(&client, &accepted);
        assert!(try_accept(&app, Duration::ZERO).is_none());
    }
    lab.assert_nothing_met(&pod, &[]);
}

pub(super) fn pump(mut from: TcpStream, bytes: usize) {
    let piece = vec![7; 1 << 16];
    for _ in 0..bytes / piece.len() {
        from.write_all(&piece).unwrap();
    }
}

pub(super) fn drain(mut to: TcpStream) -> usize {
    let (mut piece, mut all) = (vec![0; 1 << 16], 0);
    loop {
        match to.read(&mut piece).unwrap() {
            0 => return all,
            length => all += length,
        }
    }
}

#[test]
fn fifty_megabytes_pass_each_way() {
    const BYTES: usize = 50 << 20;
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    for (there, here) in pod.outside_at(80).into_iter().zip(pod.at(8080)) {
        let server = pod.pod.world.inside(|| listener(there));
        let out = pod.through(&lab.redirect, there);
        let far = accept(&server).0;
        let client = pod.pod.dial(here).unwrap();
        let near = accept(fenced.proxy.inbound(here)).0;
        for (from, to) in [(out, far), (near, client)] {
            let received = thread::scope(|scope| {
                scope.spawn(|| pump(from, BYTES));
                drain(to)
            });
            assert_eq!(received, BYTES);
        }
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn a_closed_port_answers_with_a_reset() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let none =
        ebpf_redirect::Listeners { outbound_v4: None, outbound_v6: None, inbound_v4: None, inbound_v6: None };
    fenced.guard.replace_listeners(&none).unwrap();
    for here in pod.at(8080) {
        assert_eq!(pod.pod.dial(here).map(drop).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{here}");
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn a_connection_that_is_reset_or_half_closed_by_the_proxy_ends_so_for_its_peer() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    for here in pod.at(8080) {
        let mut client = pod.pod.dial(here).unwrap();
        let near = accept(fenced.proxy.inbound(here)).0;
        near.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let mut client = pod.pod.dial(here).unwrap();
        let near = accept(fenced.proxy.inbound(here)).0;
        SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    lab.assert_nothing_met(&pod, &[]);
}

/// Whether the namespace has a TCP socket of that state with that peer; states as in /proc/net/tcp.
fn is_in_state(pod: &LabPod, port: u16, state: &str) -> bool {
    let table = pod.pod.world.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|own| own.ends_with(&format!(":{port:04X}"))) && words.nth(1) == Some(state)
    })
}

#[test]
fn the_last_acknowledgement_is_sent_from_time_wait() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let there = pod.outside_at(4242)[0];
    let server = pod.pod.world.inside(|| listener(there));
    let out = pod.through(&lab.redirect, there);
    let far = accept(&server).0;
    // The proxy closes first and is only a memory of the kernel's when its peer closes.
    out.shutdown(std::net::Shutdown::Write).unwrap();
    drop(out);
    thread::sleep(Duration::from_millis(100));
    far.shutdown(std::net::Shutdown::Write).unwrap();
    drop(far);
    drop(server);
    const LAST_ACK: &str = "09";
    eventually("the end", || !is_in_state(&pod, 4242, LAST_ACK));
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn an_acknowledgement_for_a_connection_in_time_wait_passes_from_the_kernels_raw_socket_and_carries_nothing() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let there = pod.outside_at(4243)[0];
    let server = pod.pod.world.inside(|| listener(there));
    let out = pod.through(&lab.redirect, there);
    let own = out.local_addr().unwrap();
    let far = accept(&server).0;
    // Said before they are closed: a child that is just being started would put it off.
    for end in [&out, &far] {
        end.shutdown(std::net::Shutdown::Write).unwrap();
    }
    drop((out, far));
    thread::sleep(Duration::from_millis(500));
    // As the kernel's socket before Linux 6.13: raw, and of TCP.
    let raw =
        pod.pod.netns.inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::TCP)).unwrap());
    let ends = ((own.ip(), own.port()), (there.ip(), there.port()));
    let send =
        |flags, data: &[u8]| raw.send_to(&tcp(ends, flags, data), &SocketAddr::new(there.ip(), 0).into());
    send(ACK, b"").unwrap();
    lab.assert_nothing_met(&pod, &[]);
    send(ACK, b"data").unwrap();
    assert_eq!(lab.dropped(&pod, "raw"), 1);
}

#[test]
fn handshakes_by_cookie_pass() {
    let lab = Lab::new();
    let pod = lab.pod();
    let exclusions = Exclusions { inbound_ports: vec![9090], ..Exclusions::default() };
    let fenced = lab.enrol_with(&pod, &exclusions);
    sysctl(&pod, "tcp_syncookies", "2");
    for (here, excluded) in pod.at(8080).into_iter().zip(pod.at(9090)) {
        let client = pod.pod.dial(here).unwrap();
        assert_connected(&client, &accept(fenced.proxy.inbound(here)).0);
        let app = pod.pod.serve(excluded);
        let client = pod.pod.dial(excluded).unwrap();
        assert_connected(&client, &accept(&app).0);
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn exceptions_pass_both_ways() {
    let lab = Lab::new();
    let pod = lab.pod();
    let outside = pod.outside.map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
    let by_network = Exclusions {
        outbound_cidrs: outside.map(|cidr| cidr.parse().unwrap()).into(),
        ..Exclusions::default()
    };
    let by_port =
        Exclusions { outbound_ports: vec![5432], inbound_ports: vec![9090], ..Exclusions::default() };
    for exclusions in [by_port, by_network] {
        let fenced = lab.enrol_with(&pod, &exclusions);
        for (there, here) in pod.outside_at(5432).into_iter().zip(pod.at(9090)) {
            let server = pod.pod.world.inside(|| listener(there));
            let client = pod.pod.connect(there).unwrap();
            assert_connected(&client, &accept(&server).0);
            let app = pod.pod.serve(here);
            let client = pod.pod.dial(here).unwrap();
            let listener =
                if exclusions.inbound_ports.is_empty() { fenced.proxy.inbound(here) } else { &app };
            assert_connected(&client, &accept(listener).0);
        }
        lab.assert_nothing_met(&pod, &[]);
    }
}

#[test]
fn an_application_that_uses_mptcp_has_its_exceptions_too() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol_with(&pod, &Exclusions { outbound_ports: vec![5432], ..Exclusions::default() });
    for there in pod.outside_at(5432) {
        let server = pod.pod.world.inside(|| listener(there));
        let client: TcpStream = pod.pod.netns.inside(|| {
            let mptcp = Some(socket2::Protocol::from(262));
            let socket = Socket::new(Domain::for_address(there), Type::STREAM, mptcp).unwrap();
            socket.connect_timeout(&there.into(), PATIENCE).unwrap();
            socket.into()
        });
        assert_connected(&client, &accept(&server).0);
    }
    lab.assert_nothing_met(&pod, &[]);
}

fn echo(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
    let mut read = [0; 8];
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let (length, back) = to.recv_from(&mut read).unwrap();
    assert_eq!(&read[..length], b"hello");
    to.send_to(b"again", back).unwrap();
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(from.recv(&mut read).unwrap(), 5);
}

#[test]
fn udp_passes_both_ways_also_in_fragments() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    for (there, here) in pod.outside_at(53).into_iter().zip(pod.at(53)) {
        let far = pod.pod.world.inside(|| UdpSocket::bind(there)).unwrap();
        let near = pod.pod.netns.inside(|| UdpSocket::bind(here)).unwrap();
        echo(&near, &far);
        echo(&far, &near);
        let large = vec![1; 8000];
        near.send_to(&large, there).unwrap();
        assert_eq!(far.recv(&mut vec![0; 9000]).unwrap(), large.len());
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn icmp_and_neighbour_discovery_pass_both_ways() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    for (there, here) in pod.outside_at(0).into_iter().zip(pod.at(0)) {
        assert!(pod.pod.netns.inside(|| ping(there.ip())), "{there}");
        assert!(pod.pod.world.inside(|| ping(here.ip())), "{here}");
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn an_application_restarts_on_its_port_while_the_proxys_connections_to_it_live() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    for here in pod.at(8080) {
        let app = pod.pod.serve(here);
        let client = pod.pod.dial(here).unwrap();
        let accepted = accept(fenced.proxy.inbound(here)).0;
        stop_listening(&app);
        let _again: TcpListener = pod.pod.serve(here);
        assert_connected(&client, &accepted);
    }
}

#[test]
fn a_reset_without_data_passes_and_what_an_unconfigured_host_sends() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let wire = Wire::out(&pod);
    let [there, there6] = pod.outside;
    let (here, here6) = (pod.pod.v4, pod.pod.v6);
    let any: IpAddr = "0.0.0.0".parse().unwrap();
    let all: IpAddr = "255.255.255.255".parse().unwrap();
    let link: IpAddr = "fe80::42".parse().unwrap();
    let frames = [
        wire.ip(&ip(here, there, TCP, &tcp(((here, 41), (there, 42)), RST | ACK, b""))),
        wire.ip(&ip(here6, there6, TCP, &tcp(((here6, 41), (there6, 42)), RST, b""))),
        wire.ip(&ip(any, all, UDP, &udp(68, 67, b"dhcp"))),
        wire.ip(&ip(link, there6, UDP, &udp(5353, 5353, b"mdns"))),
        wire.ip(&ipv4(here, there, UDP, 0x0003, b"a later fragment of UDP")),
    ];
    for frame in frames {
        let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
        pod.pod.netns.inside(|| PacketSocket::open(false).unwrap().send(&frame)).unwrap();
        assert!(watcher.sees(&frame[14..], PATIENCE));
    }
    lab.assert_nothing_met(&pod, &[]);
}
