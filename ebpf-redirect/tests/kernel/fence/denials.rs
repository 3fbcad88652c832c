//! Denials by network and port, dropped before the pod's TCP sees them.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use ebpf_redirect::{Denial, Exclusions, FenceChoice};
use socket2::{Domain, Socket, Type};

use super::lab::{Fenced, Lab, LabPod};
use crate::support::{accept, assert_connected, try_accept};

/// Long enough for a second try of who was not heard at his first.
const SOON: Duration = Duration::from_millis(1500);

fn denial(cidr: String, ports: &[u16]) -> Denial {
    Denial { cidr: cidr.parse().unwrap(), ports: ports.to_vec() }
}

/// Whether the outsider can connect to a port of the pod's.
fn connects(pod: &LabPod, fenced: &Fenced, to: SocketAddr) -> bool {
    match pod.pod.world.inside(|| TcpStream::connect_timeout(&to, SOON)) {
        Ok(client) => {
            assert_connected(&client, &accept(fenced.proxy.inbound(to)).0);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}");
            assert!(try_accept(fenced.proxy.inbound(to), Duration::ZERO).is_none());
            false
        }
    }
}

#[test]
fn a_denied_source_does_not_connect_and_others_do_in_both_families() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let denials = [denial("10.78.0.0/24".into(), &[80]), denial("fd78::/64".into(), &[80])];
    assert!(fenced.guard.set_denials(&denials, &[]).unwrap());
    for (denied, open) in pod.at(80).into_iter().zip(pod.at(81)) {
        let before = lab.dropped(&pod, "denied");
        assert!(!connects(&pod, &fenced, denied));
        assert!(lab.dropped(&pod, "denied") > before);
        assert!(connects(&pod, &fenced, open));
    }
    assert!(fenced.guard.set_denials(&[denial("192.0.2.0/24".into(), &[])], &[]).unwrap());
    for to in pod.at(80) {
        assert!(connects(&pod, &fenced, to));
    }
}

#[test]
fn a_narrow_denial_does_not_lift_a_wide_one() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let outside = pod.outside[0];
    let denials = [denial("0.0.0.0/0".into(), &[80]), denial(format!("{outside}/32"), &[443])];
    fenced.guard.set_denials(&denials, &[]).unwrap();
    let [http, https, other] = [80, 443, 22].map(|port| connects(&pod, &fenced, pod.at(port)[0]));
    assert_eq!([http, https, other], [false, false, true]);
    assert!(connects(&pod, &fenced, pod.at(80)[1]), "all of IPv4 is none of IPv6");
}

#[test]
fn spared_addresses_and_tunnels_are_left_to_policy() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let everybody = [denial("0.0.0.0/0".into(), &[]), denial("::/0".into(), &[])];
    fenced.guard.set_denials(&everybody, &[]).unwrap();
    for (plain, tunnel) in pod.at(80).into_iter().zip(pod.at(ebpf_redirect::TUNNEL_PORT)) {
        assert!(!connects(&pod, &fenced, plain));
        assert!(connects(&pod, &fenced, tunnel));
    }
    fenced.guard.set_denials(&everybody, &pod.outside).unwrap();
    for to in pod.at(80) {
        assert!(connects(&pod, &fenced, to));
    }
}

#[test]
fn connections_that_are_open_and_the_pods_own_are_left_to_policy() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let here = pod.at(80)[0];
    let client = pod.pod.dial(here).unwrap();
    let near = accept(fenced.proxy.inbound(here)).0;
    fenced.guard.set_denials(&[denial("0.0.0.0/0".into(), &[])], &[]).unwrap();
    assert_connected(&client, &near);
    let there = pod.outside_at(8080)[0];
    let server = pod.pod.world.inside(|| crate::support::listener(there));
    assert_connected(&pod.through(&lab.redirect, there), &accept(&server).0);
    assert!(!connects(&pod, &fenced, here));
}

#[test]
fn a_port_that_is_left_alone_knows_denials_too() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol_with(&pod, &Exclusions { inbound_ports: vec![9090], ..Exclusions::default() });
    let here = pod.at(9090)[0];
    let app = pod.pod.serve(here);
    let dial = || pod.pod.world.inside(|| TcpStream::connect_timeout(&here, SOON));
    fenced.guard.set_denials(&[denial("0.0.0.0/0".into(), &[9091])], &[]).unwrap();
    assert_connected(&dial().unwrap(), &accept(&app).0);
    for ports in [&[][..], &[9090]] {
        fenced.guard.set_denials(&[denial("0.0.0.0/0".into(), ports)], &[]).unwrap();
        assert_eq!(dial().unwrap_err().kind(), ErrorKind::TimedOut, "{ports:?}");
    }
    assert!(try_accept(&app, Duration::ZERO).is_none());
}

#[test]
fn too_many_denials_are_refused_and_the_former_stay() {
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    fenced.guard.set_denials(&[denial("10.78.0.0/24".into(), &[80])], &[]).unwrap();
    let many: Vec<_> = (0..5000).map(|n| denial(format!("10.{}.{}.0/24", n / 256, n % 256), &[])).collect();
    let refused = fenced.guard.set_denials(&many, &[]).unwrap_err();
    assert!(refused.to_string().contains("denied networks is full (4096)"), "{refused}");
    assert!(!connects(&pod, &fenced, pod.at(80)[0]));
    fenced.guard.set_denials(&many[..4096], &[]).unwrap();
    assert!(connects(&pod, &fenced, pod.at(80)[0]));
}

#[test]
fn a_pod_without_a_fence_says_that_it_cannot_deny() {
    let lab = Lab::with(FenceChoice::Off);
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    assert!(!fenced.guard.set_denials(&[denial("0.0.0.0/0".into(), &[])], &[]).unwrap());
    assert!(connects(&pod, &fenced, pod.at(80)[0]));
}

/// Sends first segments of as many connections and leaves them; says how long each took the sender's CPU, which on this
/// link does the receiver's work too.
fn flood(pod: &LabPod, to: SocketAddr, connections: u32) -> f64 {
    pod.pod.world.inside(|| {
        let begun = cpu();
        for _ in 0..connections {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            drop(socket.connect(&to.into()));
        }
        (cpu() - begun).as_secs_f64() * 1e6 / f64::from(connections)
    })
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Not a judgement but a measurement; `--nocapture` prints it, docs/decisions tells what it was. In user space, the proxy
/// accepts what it is going to refuse and resets it.
#[test]
fn what_a_refused_connection_costs_in_the_fence_and_in_user_space() {
    const CONNECTIONS: u32 = 2000;
    let lab = Lab::new();
    let pod = lab.pod();
    let mut fenced = lab.enrol(&pod);
    let to = pod.at(80)[0];
    let mut rounds = [Vec::new(), Vec::new()];
    for round in 0..6 {
        let by_fence = round % 2 == 0;
        let denials = if by_fence { vec![denial("10.78.0.0/24".into(), &[80])] } else { Vec::new() };
        fenced.guard.set_denials(&denials, &[]).unwrap();
        let listener = &fenced.proxy.inbound_v4;
        let is_over = AtomicBool::new(false);
        let refused = |listener: &std::net::TcpListener| {
            let (begun, mut count) = (cpu(), 0);
            loop {
                // Nothing is left to the next round.
                let is_last = is_over.load(Relaxed);
                match try_accept(listener, Duration::from_millis(300)) {
                    Some((stream, _)) => {
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                        count += 1;
                    }
                    None if is_last => return (cpu() - begun, count),
                    None => {}
                }
            }
        };
        let (sender, (proxy, accepted)) = std::thread::scope(|scope| {
            let proxy = scope.spawn(|| refused(listener));
            let sender = flood(&pod, to, CONNECTIONS);
            is_over.store(true, Relaxed);
            (sender, proxy.join().unwrap())
        });
        assert_eq!(accepted == 0, by_fence, "round {round}");
        let all = sender + proxy.as_secs_f64() * 1e6 / f64::from(CONNECTIONS);
        rounds[usize::from(!by_fence)].push(all);
        println!("round {round}: fence {by_fence}, {all:.1} µs CPU a connection, {accepted} accepted");
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let [fence, user] = rounds.map(median);
    println!("denied by the fence {fence:.1} µs, in user space {user:.1} µs of CPU a connection");
}
