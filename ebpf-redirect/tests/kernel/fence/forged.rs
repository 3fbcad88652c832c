//! Sockets that are the kernel's or the proxy's own, put under what the pod sends itself: connections that it makes to itself
//! under the outsider's address, what remains of the proxy's, and segments that its own rules rewrite.

use std::{
    any::Any,
    io::{ErrorKind, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use ebpf_redirect::{Exclusions, FenceChoice};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    frames::{ACK, PacketSocket, SYN, TCP, Wire, ip, tcp},
    lab::{Fenced, Lab, LabPod, eventually},
};
use crate::support::{Netns, PATIENCE, accept, assert_connected, listener, try_accept};

/// What shows that a packet arrived.
const MARK: &[u8] = b"past-the-fence";
const SOON: Duration = Duration::from_millis(300);
/// States as in /proc/net/tcp.
const SYN_RECV: &str = "03";
const TIME_WAIT: &str = "06";

/// Runs a command in the pod.
fn in_pod(pod: &LabPod, command: &str) {
    let words = command.split(' ');
    let output =
        Command::new("ip").args(["netns", "exec", pod.pod.netns.name()]).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the pod has an IPv4 socket of that port and state.
fn is_in_state(pod: &LabPod, port: u16, state: &str) -> bool {
    let table = pod.pod.netns.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    table.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(1).is_some_and(|own| own.ends_with(&format!(":{port:04X}"))) && words.get(3) == Some(&state)
    })
}

/// A namespace behind the pod, joined to it by a link of that name there.
fn behind(pod: &LabPod, link: &str) -> Netns {
    let netns = Netns::new();
    netns.ip(&format!("link add eth0 type veth peer name {link} netns {}", pod.pod.netns.name()));
    netns.ip("link set eth0 up");
    pod.pod.netns.ip(&format!("link set {link} up"));
    netns
}

/// A namespace whose connections leave the pod as if from that port of the pod's.
fn behind_port(pod: &LabPod, port: u16) -> Netns {
    let nested = behind(pod, "nested");
    nested.ip("addr add 172.30.0.2/24 dev eth0");
    nested.ip("route add default via 172.30.0.1");
    pod.pod.netns.ip("addr add 172.30.0.1/24 dev nested");
    pod.pod.netns.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    in_pod(pod, &format!("iptables -t nat -A POSTROUTING -o eth0 -p tcp -j MASQUERADE --to-ports {port}"));
    nested
}

/// A connection to a port of the pod's from a namespace inside it that has the outsider's address and source port; the
/// pod's kernel then takes the outsider for its peer.
fn forge(pod: &LabPod, from: SocketAddr, port: u16) -> (Netns, Socket) {
    let double = behind(pod, "double");
    double.ip(&format!("addr add {}/32 dev eth0", from.ip()));
    double.ip(&format!("route add {}/32 dev eth0", pod.pod.v4));
    pod.pod.netns.ip(&format!("route add {}/32 dev double", from.ip()));
    // Else its connection would have the name that the nested one wants.
    in_pod(pod, "iptables -t raw -A PREROUTING -i double -j CT --notrack");
    in_pod(pod, &format!("iptables -t raw -A OUTPUT -p tcp --sport {port} -j CT --notrack"));
    let socket = double.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        drop(socket.connect(&SocketAddr::new(pod.pod.v4, port).into()));
        socket
    });
    (double, socket)
}

/// Connects from behind the pod to the outsider, which has a server there. Where the fence observes it arrives, so that
/// this can fail.
fn assert_no_way_out(lab: &Lab, choice: FenceChoice, pod: &LabPod, (nested, to): (&Netns, SocketAddr)) {
    let server = pod.pod.world.inside(|| listener(to));
    let out = nested.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)));
    if choice == FenceChoice::Observe {
        assert_connected(&out.unwrap(), &accept(&server).0);
        assert!(lab.observed(pod, "no_socket") > 0);
    } else {
        assert_eq!(out.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(lab.dropped(pod, "no_socket") > 0);
        assert!(try_accept(&server, Duration::ZERO).is_none());
    }
}

/// A socket of the pod's with the outsider for its peer.
struct Cover {
    port: u16,
    _kept: Vec<Box<dyn Any>>,
}

fn assert_is_no_cover(cover: impl Fn(&Lab, &LabPod, &Fenced, SocketAddr) -> Cover) {
    for choice in [FenceChoice::Observe, FenceChoice::Required] {
        let lab = Lab::with(choice);
        let pod = lab.pod();
        let fenced = lab.enrol(&pod);
        let to = pod.outside_at(80)[0];
        let cover = cover(&lab, &pod, &fenced, to);
        let nested = behind_port(&pod, cover.port);
        assert_no_way_out(&lab, choice, &pod, (&nested, to));
    }
}

#[test]
fn a_handshake_that_the_pod_began_with_itself_lets_nothing_else_out() {
    assert_is_no_cover(|_, pod, _, to| {
        in_pod(pod, "iptables -A OUTPUT -p tcp --sport 8080 --tcp-flags SYN,ACK SYN,ACK -j DROP");
        let forged = forge(pod, to, 8080);
        eventually("the request", || is_in_state(pod, 8080, SYN_RECV));
        pod.pod.netns.ip(&format!("route del {}/32 dev double", to.ip()));
        Cover { port: 8080, _kept: vec![Box::new(forged)] }
    });
}

#[test]
fn a_connection_that_the_pod_made_to_the_proxy_under_anothers_address_lets_nothing_else_out() {
    assert_is_no_cover(|_, pod, fenced, to| {
        let forged = forge(pod, to, 8080);
        let (accepted, peer) = accept(fenced.proxy.inbound(to));
        assert_eq!(peer, to);
        pod.pod.netns.ip(&format!("route del {}/32 dev double", to.ip()));
        Cover { port: 8080, _kept: vec![Box::new(forged), Box::new(accepted)] }
    });
}

#[test]
fn a_connection_of_the_proxys_that_has_ended_lets_nothing_else_out() {
    assert_is_no_cover(|lab, pod, _, to| {
        let server = pod.pod.world.inside(|| listener(to));
        let out = pod.through(&lab.redirect, to);
        let port = out.local_addr().unwrap().port();
        let far = accept(&server).0;
        // Said before it is closed: a child that is just being started would put it off.
        out.shutdown(Shutdown::Write).unwrap();
        drop(out);
        thread::sleep(Duration::from_millis(100));
        far.shutdown(Shutdown::Write).unwrap();
        drop(far);
        eventually("the end", || is_in_state(pod, port, TIME_WAIT));
        Cover { port, _kept: Vec::new() }
    });
}

/// Has the pod rewrite what leaves it from that port.
fn rewrite(pod: &LabPod, port: u16, what: &str) {
    drop(
        Command::new("ip")
            .args(["netns", "exec", pod.pod.netns.name(), "nft", "delete table inet t"])
            .output(),
    );
    in_pod(pod, "nft add table inet t");
    in_pod(pod, "nft add chain inet t o { type filter hook postrouting priority 300 ; }");
    in_pod(pod, &format!("nft add rule inet t o oifname eth0 tcp sport {port} {what}"));
}

/// Has an accepted connection's data rewritten and looks whether it arrives.
fn assert_rewritten_in_vain(lab: &Lab, pod: &LabPod, accepted: &mut TcpStream, what: &str) {
    let before = lab.dropped(pod, "rewritten");
    rewrite(pod, accepted.local_addr().unwrap().port(), what);
    let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
    accepted.write_all(MARK).unwrap();
    assert!(!watcher.sees(MARK, SOON), "{what}");
    assert!(lab.dropped(pod, "rewritten") > before, "{what}");
}

#[test]
fn what_was_accepted_asks_for_no_connection_and_goes_nowhere_else() {
    let lab = Lab::new();
    let pod = lab.pod();
    let before = pod.pod.serve(pod.at(7070)[0]);
    let before = (pod.pod.dial(pod.at(7070)[0]).unwrap(), accept(&before).0);
    let exclusions = Exclusions { inbound_ports: vec![9090], ..Exclusions::default() };
    let fenced = lab.enrol_with(&pod, &exclusions);
    let [other, other6] = ["10.78.0.200", "fd78::c8"];
    // The second is nobody's source, be it the newest.
    pod.pod.world.ip(&format!("addr add {other}/24 dev eth0"));
    pod.pod.world.ip(&format!("addr add {other6}/64 dev eth0 nodad preferred_lft 0"));
    for (here, excluded) in pod.at(8080).into_iter().zip(pod.at(9090)) {
        let app = pod.pod.serve(excluded);
        for (at, listener) in [(here, fenced.proxy.inbound(here)), (excluded, &app)] {
            for what in [
                "tcp flags set syn".to_owned(),
                if at.is_ipv4() {
                    format!("ip daddr set {other}")
                } else {
                    format!("ip6 daddr set {other6}")
                },
                "tcp dport set 81".to_owned(),
            ] {
                rewrite(&pod, 1, "accept");
                let client = pod.pod.dial(at).unwrap();
                let mut accepted = accept(listener).0;
                assert_connected(&client, &accepted);
                assert_rewritten_in_vain(&lab, &pod, &mut accepted, &what);
                // Nothing is sent again, when other rules hold.
                SockRef::from(&accepted).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    let (client, mut earlier) = before;
    assert_connected(&client, &earlier);
    assert_rewritten_in_vain(&lab, &pod, &mut earlier, &format!("ip daddr set {other}"));
}

#[test]
fn an_answer_that_the_pod_turns_into_a_request_is_dropped() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    for (dropped, here) in (1..).zip(pod.at(8080)) {
        rewrite(&pod, 8080, "tcp flags & (syn | ack) == syn | ack tcp flags set syn");
        let refused = pod.pod.world.inside(|| TcpStream::connect_timeout(&here, SOON)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        assert!(lab.dropped(&pod, "rewritten") >= dropped, "{here}");
    }
}

#[test]
fn an_acknowledgement_of_what_is_outside_a_handshake_passes() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let wire = Wire::out(&pod).back();
    let (client, here) = ("10.78.0.200".parse().unwrap(), pod.pod.v4);
    let hardware = wire.from.map(|octet| format!("{octet:02x}")).join(":");
    pod.pod.netns.ip(&format!("neigh add {client} lladdr {hardware} dev eth0"));
    let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
    let send = |flags| {
        let segment = tcp(((client, 4000), (here, 8080)), flags, b"");
        pod.pod
            .world
            .inside(|| PacketSocket::open(false).unwrap().send(&wire.ip(&ip(client, here, TCP, &segment))))
    };
    // The request's number and one, then the length of the header and the flags.
    let sees =
        |length, flags| watcher.sees(&[&1001u32.to_be_bytes()[..], &[length, flags]].concat(), PATIENCE);
    send(SYN).unwrap();
    assert!(sees(0x60, SYN | ACK));
    // Again the request's number, where the next one is due.
    send(0).unwrap();
    assert!(sees(0x50, ACK));
    lab.assert_nothing_met(&pod, &[]);
}
