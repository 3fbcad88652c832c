//! Steering by iptables keeps the same contract as the hooks, where it can: real rules in real network namespaces. Needs
//! root; without it every test fails and says so.

#[path = "kernel/support.rs"]
#[expect(dead_code, reason = "the hooks' tests use more of it")]
mod support;

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use ebpf_redirect::{
    Enrolment, Exclusions, Parting, Redirect, RedirectError, Side, Spared,
    iptables::{IptablesRedirect, Options},
};
use socket2::{Domain, Socket, Type};

use support::{
    PATIENCE, Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, listener, need_root,
    try_accept, unique,
};

/// Steering whose notes go with it.
struct Steering {
    redirect: IptablesRedirect,
    state: PathBuf,
}

impl Steering {
    fn open() -> Self {
        Self::open_at(std::env::temp_dir().join(unique()))
    }

    fn open_at(state: PathBuf) -> Self {
        need_root();
        let redirect = IptablesRedirect::open(Options { state: state.clone() }).expect("iptables");
        Self { redirect, state }
    }

    /// As the next process does.
    fn open_again(&mut self) {
        self.redirect = IptablesRedirect::open(Options { state: self.state.clone() }).expect("iptables");
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.state);
    }
}

fn outside() -> [SocketAddr; 2] {
    [addr(WORLD_V4, 8080), addr(WORLD_V6, 8080)]
}

/// The rules of the pod's namespace that are Canopy's, without counters.
fn rules(pod: &Pod) -> String {
    let saved = pod.netns.inside(|| {
        ["iptables-save", "ip6tables-save"]
            .map(|save| std::process::Command::new(save).output().expect("iptables-save").stdout)
    });
    saved.iter().map(|text| String::from_utf8_lossy(text)).filter(|text| text.contains("CANOPY")).collect()
}

/// What routes a pod's packets, in both families, but for link-local addresses, which come a little late.
fn routing(pod: &Pod) -> Vec<String> {
    let shown = pod.netns.inside(|| {
        ["ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all"].map(|command| {
            let mut words = command.split(' ');
            std::process::Command::new(words.next().expect("a command"))
                .args(words)
                .output()
                .expect("ip")
                .stdout
        })
    });
    let text = shown.map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    text.lines().filter(|line| !line.contains("fe80") && !line.contains("ff00")).map(str::to_owned).collect()
}

/// A connection of the proxy to the pod's app, which is to see this client.
fn deliver(steering: &Steering, pod: &Pod, to: SocketAddr, client: SocketAddr) -> TcpStream {
    pod.netns.inside(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        steering.redirect.exempt(socket.as_fd(), Some(client)).expect("exemption");
        socket.connect_timeout(&to.into(), PATIENCE).expect("a connection");
        socket.into()
    })
}

/// Connections of every kind that the proxy has with a pod, both ends of each.
fn connections(steering: &Steering, pod: &Pod, proxy: &support::Proxy) -> Vec<(TcpStream, TcpStream)> {
    let mut all = Vec::new();
    for (outside, own, client) in [
        (addr(WORLD_V4, 8080), addr(pod.v4, 8081), addr("203.0.113.9", 4444)),
        (addr(WORLD_V6, 8080), addr(pod.v6, 8081), addr("2001:db8::9", 4444)),
    ] {
        all.push((pod.connect(outside).expect("a connection"), accept(proxy.outbound(outside)).0));
        all.push((pod.dial(own).expect("a connection"), accept(proxy.inbound(own)).0));
        let app = pod.serve(own);
        all.push((deliver(steering, pod, own, client), accept(&app).0));
    }
    all.iter().for_each(|(one, other)| assert_connected(one, other));
    all
}

#[test]
fn outbound_connect_is_steered_and_its_destination_is_known() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let _guard = pod.enrol(&steering.redirect, &proxy);
    for to in outside() {
        let client = pod.connect(to).unwrap();
        let (accepted, peer) = accept(proxy.outbound(to));
        let origin = steering.redirect.origin(accepted.as_fd(), Side::Outbound, peer).unwrap();
        assert_eq!(origin.destination, to);
        assert_eq!(origin.client, client.local_addr().unwrap());
        assert_eq!(client.peer_addr().unwrap(), to, "getpeername");
        assert_connected(&client, &accepted);
    }
    assert_eq!(counted(&steering.redirect, "iptables_output", "steered"), 2);
}

#[test]
fn inbound_connection_is_steered_and_both_its_ends_are_known() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let _guard = pod.enrol(&steering.redirect, &proxy);
    for to in [addr(pod.v4, 8080), addr(pod.v6, 8080)] {
        let client = pod.dial(to).unwrap();
        let (accepted, peer) = accept(proxy.inbound(to));
        let origin = steering.redirect.origin(accepted.as_fd(), Side::Inbound, peer).unwrap();
        assert_eq!((origin.destination, origin.client), (to, client.local_addr().unwrap()));
        assert_connected(&client, &accepted);
    }
}

#[test]
fn delivery_passes_by_and_the_app_sees_the_callers_address() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let _guard = pod.enrol(&steering.redirect, &proxy);
    for (to, client) in [
        (addr(pod.v4, 8081), addr("203.0.113.9", 4444)),
        (addr(pod.v6, 8081), addr("2001:db8::9", 4444)),
        (addr(pod.v4, 8081), addr(pod.v4, 4444)),
    ] {
        let app = pod.serve(to);
        let delivery = deliver(&steering, &pod, to, client);
        let (accepted, peer) = accept(&app);
        assert_eq!(peer.ip(), client.ip(), "{to}");
        assert_connected(&delivery, &accepted);
    }
}

#[test]
fn loopback_and_what_is_excluded_pass_unchanged() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let exclusions = Exclusions {
        outbound_ports: vec![5432],
        outbound_cidrs: vec![format!("{WORLD_V4}/32").parse().unwrap()],
        inbound_ports: vec![9090],
    };
    let _guard = pod.try_enrol(&steering.redirect, &proxy, &exclusions).unwrap();
    let loopback = pod.serve(addr("127.0.0.1", 8080));
    for (server, to) in [
        (loopback, addr("127.0.0.1", 8080)),
        (pod.world.inside(|| listener(addr(WORLD_V6, 5432))), addr(WORLD_V6, 5432)),
        (pod.world.inside(|| listener(addr(WORLD_V4, 80))), addr(WORLD_V4, 80)),
    ] {
        let client = pod.connect(to).unwrap();
        assert_connected(&client, &accept(&server).0);
    }
    let server = pod.serve(addr(pod.v4, 9090));
    assert_connected(&pod.dial(addr(pod.v4, 9090)).unwrap(), &accept(&server).0);
}

#[test]
fn listener_that_is_dialled_directly_is_not_steered() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let _guard = pod.enrol(&steering.redirect, &proxy);
    let outbound = proxy.outbound_v4.local_addr().unwrap();
    let inbound = addr(pod.v4, proxy.inbound_v4.local_addr().unwrap().port());
    let _dialled = (pod.connect(outbound).unwrap(), pod.dial(inbound).unwrap());
    for (listener, side) in [(&proxy.outbound_v4, Side::Outbound), (&proxy.inbound_v4, Side::Inbound)] {
        let (accepted, peer) = accept(listener);
        let refused = steering.redirect.origin(accepted.as_fd(), side, peer);
        assert!(matches!(refused, Err(RedirectError::NotSteered)), "{side:?}: {refused:?}");
    }
}

#[test]
fn the_hosts_own_namespace_is_refused_and_gets_no_rule() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    // The test's own process stands in the pod's namespace, so that a defect would not steer this machine.
    let error = pod.netns.inside(|| {
        let file = File::open("/proc/thread-self/ns/net").unwrap();
        let enrolment = Enrolment {
            pod: "kube-system/host",
            netns: file.as_fd(),
            addresses: &[],
            listeners: proxy.listeners(),
            exclusions: &Exclusions::default(),
        };
        steering.redirect.enrol(&enrolment).unwrap_err()
    });
    assert!(matches!(error, RedirectError::HostNetns { .. }), "{error}");
    assert_eq!(rules(&pod), "");
    assert!(!steering.state.exists(), "no note is left");
}

#[test]
fn replaced_listeners_get_what_comes_next() {
    let steering = Steering::open();
    let pod = Pod::new();
    let (first, second) = (pod.listen(&steering.redirect), pod.listen(&steering.redirect));
    let mut guard = pod.enrol(&steering.redirect, &first);
    guard.replace_listeners(&second.listeners()).unwrap();
    let to = addr(WORLD_V4, 8080);
    let client = pod.connect(to).unwrap();
    assert_connected(&client, &accept(second.outbound(to)).0);
    assert!(try_accept(first.outbound(to), Duration::from_millis(50)).is_none());
    assert_eq!(
        rules(&pod).matches("-A PREROUTING -j CANOPY_PRERT").count(),
        4,
        "two tables, two families, once each"
    );
}

#[test]
fn dropped_guard_leaves_no_rule_behind() {
    let steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    let guard = pod.enrol(&steering.redirect, &proxy);
    assert!(rules(&pod).contains("REDIRECT"));
    drop(guard);
    assert_eq!(rules(&pod), "");
    assert!(!steering.state.exists(), "no note is left");
}

#[test]
fn released_pod_is_its_own_again_while_its_connections_go_on_and_then_nothing_is_left() {
    let steering = Steering::open();
    let pod = Pod::new();
    let before = routing(&pod);
    let proxy = pod.listen(&steering.redirect);
    let guard = pod.enrol(&steering.redirect, &proxy);
    let live = connections(&steering, &pod, &proxy);
    let way_back = guard.release();
    live.iter().for_each(|(one, other)| assert_connected(one, other));
    for (to, own, client) in [
        (addr(WORLD_V4, 8082), addr(pod.v4, 8083), addr("203.0.113.9", 4444)),
        (addr(WORLD_V6, 8082), addr(pod.v6, 8083), addr("2001:db8::9", 4444)),
    ] {
        let server = pod.world.inside(|| listener(to));
        assert_connected(&pod.connect(to).unwrap(), &accept(&server).0);
        let app = pod.serve(own);
        let direct = pod.dial(own).unwrap();
        let (accepted, peer) = accept(&app);
        assert_eq!(peer, direct.local_addr().unwrap());
        assert_connected(&direct, &accepted);
        // A request that is under way may still need a connection.
        let late = deliver(&steering, &pod, own, client);
        assert_connected(&late, &accept(&app).0);
    }
    drop(way_back);
    assert_eq!((rules(&pod), routing(&pod)), (String::new(), before));
    assert!(!steering.state.exists(), "no note is left");
}

#[test]
fn pod_that_is_enrolled_anew_is_steered_and_no_enrolment_takes_from_another() {
    let steering = Steering::open();
    let pod = Pod::new();
    let before = routing(&pod);
    let (first, second) = (pod.listen(&steering.redirect), pod.listen(&steering.redirect));
    let guard = pod.enrol(&steering.redirect, &first);
    let live = connections(&steering, &pod, &first);
    let way_back = guard.release();
    let guard = pod.enrol(&steering.redirect, &second);
    let later = connections(&steering, &pod, &second);
    live.iter().for_each(|(one, other)| assert_connected(one, other));
    drop(way_back);
    later.iter().for_each(|(one, other)| assert_connected(one, other));
    drop(connections(&steering, &pod, &second));
    // One that comes and does not stay captures no more, and leaves what lives its way.
    let way_back = guard.release();
    drop(pod.enrol(&steering.redirect, &first));
    later.iter().for_each(|(one, other)| assert_connected(one, other));
    let to = addr(WORLD_V4, 8082);
    let server = pod.world.inside(|| listener(to));
    assert_connected(&pod.connect(to).unwrap(), &accept(&server).0);
    drop(way_back);
    assert_eq!((rules(&pod), routing(&pod)), (String::new(), before));
    assert!(!steering.state.exists(), "no note is left");
}

#[test]
fn next_start_clears_what_a_crash_left_of_a_released_pod() {
    let mut steering = Steering::open();
    let pod = Pod::new();
    let before = routing(&pod);
    let proxy = pod.listen(&steering.redirect);
    let way_back = pod.enrol(&steering.redirect, &proxy).release();
    assert!(rules(&pod).contains("CONNMARK") && routing(&pod) != before);
    #[expect(clippy::mem_forget, reason = "a crash drops nothing")]
    std::mem::forget(way_back);
    steering.open_again();
    assert!(!rules(&pod).is_empty(), "until it is in force");
    assert_eq!(steering.redirect.release_unclaimed(Spared::NOBODY).unwrap(), 1);
    assert_eq!((rules(&pod), routing(&pod)), (String::new(), before));
}

#[test]
fn next_start_clears_the_rules_that_a_crash_left() {
    let mut steering = Steering::open();
    let pod = Pod::new();
    let proxy = pod.listen(&steering.redirect);
    #[expect(clippy::mem_forget, reason = "a crash drops nothing")]
    std::mem::forget(pod.enrol(&steering.redirect, &proxy));
    assert!(rules(&pod).contains("REDIRECT"));
    steering.open_again();
    assert!(!rules(&pod).is_empty(), "until it is in force");
    assert_eq!(steering.redirect.release_unclaimed(Spared::NOBODY).unwrap(), 1);
    assert_eq!(rules(&pod), "");
}

#[test]
fn a_pod_that_was_left_closed_is_taken_over_without_a_moment_in_which_it_is_open() {
    let mut steering = Steering::open();
    let pod = Pod::new();
    let before = routing(&pod);
    let (_app, _server) =
        (pod.serve(addr(pod.v4, 8080)), pod.world.inside(|| listener(addr(WORLD_V4, 8080))));
    let refused = || pod.connect(addr(WORLD_V4, 8080)).is_err() && pod.dial(addr(pod.v4, 8080)).is_err();
    let proxy = pod.listen(&steering.redirect);
    let guard = pod.enrol(&steering.redirect, &proxy);
    let live = pod.dial(addr(pod.v4, 8080)).unwrap();
    let accepted = accept(&proxy.inbound_v4).0;
    guard.leave(Parting::Closed);
    assert_connected(&live, &accepted);
    drop((proxy, live, accepted));
    let left = rules(&pod);
    assert!(refused() && left.contains("REDIRECT"));
    // A start that fails.
    steering.open_again();
    assert!(refused());
    let proxy = pod.listen(&steering.redirect);
    drop((pod.enrol(&steering.redirect, &proxy), proxy));
    assert!(refused());
    steering.open_again();
    let proxy = pod.listen(&steering.redirect);
    let guard = pod.enrol(&steering.redirect, &proxy);
    assert_eq!(steering.redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    assert_eq!(rules(&pod).lines().count(), left.lines().count());
    assert_connected(&pod.dial(addr(pod.v4, 8080)).unwrap(), &accept(&proxy.inbound_v4).0);
    drop(guard);
    assert_eq!((rules(&pod), routing(&pod)), (String::new(), before));
    assert!(!steering.state.exists(), "no note is left");
}

#[test]
fn of_a_pod_that_was_left_open_outbound_nothing_that_is_begun_with_it_comes_to_its_app() {
    let mut steering = Steering::open();
    let pod = Pod::new();
    let _app = pod.serve(addr(pod.v4, 8080));
    let proxy = pod.listen(&steering.redirect);
    pod.enrol(&steering.redirect, &proxy).leave(Parting::OutboundOpen);
    drop(proxy);
    for (to, own) in [(addr(WORLD_V4, 8082), addr(pod.v4, 8080)), (addr(WORLD_V6, 8082), addr(pod.v6, 8080))]
    {
        let server = pod.world.inside(|| listener(to));
        assert_connected(&pod.connect(to).unwrap(), &accept(&server).0);
        assert!(pod.dial(own).is_err(), "{own}");
    }
    steering.open_again();
    assert_eq!(steering.redirect.release_unclaimed(Spared::NOBODY).unwrap(), 1);
    assert_eq!(rules(&pod), "");
}
