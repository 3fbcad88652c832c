//! A node with a bridge, as container networks make it: the daemon is in the node's namespace, each pod's link ends
//! there, and beside each pod is an outsider on the same bridge.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use ebpf_redirect::{
    Enrolled, Exclusions, FenceChoice, FenceState, Redirect as _, RedirectError,
    kernel::{KernelRedirect, Options},
};
use socket2::{Domain, Socket, Type};

use crate::support::{Netns, PATIENCE, Pod, Proxy, unique};

/// The node, and the daemon in it.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) redirect: KernelRedirect,
    pub(crate) instance: String,
    pub(crate) node: Netns,
    next: AtomicU8,
}

/// A pod of the node.
#[derive(Debug)]
pub(crate) struct LabPod {
    pub(crate) pod: Pod,
    /// The outsider's addresses.
    pub(crate) outside: [IpAddr; 2],
    /// The name of the node's end of the pod's link.
    pub(crate) link: String,
}

/// An enrolled pod.
#[derive(Debug)]
pub(crate) struct Fenced {
    pub(crate) guard: Box<dyn Enrolled>,
    pub(crate) proxy: Proxy,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(FenceChoice::Required)
    }

    pub(crate) fn with(fence: FenceChoice) -> Self {
        let node = Netns::new();
        node.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        node.ip("link set br0 up");
        // The bridge forwards frames as they are, also those that a firewall on it would mend or refuse.
        node.inside(|| {
            for family in ["ip", "ip6"] {
                drop(fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables"), "0"));
            }
        });
        node.ip("addr add 10.78.0.1/24 dev br0");
        node.ip("addr add fd78::1/64 dev br0 nodad");
        let instance = unique();
        let redirect = open(&node, &instance, fence).expect("hooks");
        Self { redirect, instance, node, next: AtomicU8::new(10) }
    }

    /// A pod, and an outsider beside it.
    pub(crate) fn pod(&self) -> LabPod {
        let host = self.next.fetch_add(2, Ordering::Relaxed);
        let (netns, world) = (Netns::new(), Netns::new());
        self.join(&netns, host);
        self.join(&world, host + 1);
        let addresses = |host: u8| [ip(format!("10.78.0.{host}")), ip(format!("fd78::{host:x}"))];
        let [v4, v6] = addresses(host);
        let pod = Pod { name: format!("test/{}", netns.path()), netns, world, v4, v6 };
        LabPod { pod, outside: addresses(host + 1), link: format!("p{host}") }
    }

    fn join(&self, netns: &Netns, host: u8) {
        netns.ip(&format!("link add eth0 type veth peer name p{host} netns {}", self.node.name()));
        self.node.ip(&format!("link set p{host} master br0 up"));
        netns.ip(&format!("addr add 10.78.0.{host}/24 dev eth0"));
        netns.ip(&format!("addr add fd78::{host:x}/64 dev eth0 nodad"));
        netns.ip("link set eth0 up");
        netns.ip("route add default via 10.78.0.1");
        netns.ip("-6 route add default via fd78::1");
    }

    pub(crate) fn enrol(&self, pod: &LabPod) -> Fenced {
        self.enrol_with(pod, &Exclusions::default())
    }

    pub(crate) fn enrol_with(&self, pod: &LabPod, exclusions: &Exclusions) -> Fenced {
        self.try_enrol(pod, exclusions).expect("enrolment")
    }

    pub(crate) fn try_enrol(&self, pod: &LabPod, exclusions: &Exclusions) -> Result<Fenced, RedirectError> {
        let proxy = pod.pod.listen(&self.redirect);
        let guard = self.node.inside(|| pod.pod.try_enrol(&self.redirect, &proxy, exclusions))?;
        Ok(Fenced { guard, proxy })
    }

    /// How a pod is fenced.
    pub(crate) fn state(&self, pod: &LabPod) -> FenceState {
        self.fenced(pod).expect("the pod is enrolled").state
    }

    /// What the fence of a pod has dropped for a reason.
    pub(crate) fn dropped(&self, pod: &LabPod, reason: &str) -> u64 {
        self.packets(pod, reason).map_or(0, |packets| packets.dropped)
    }

    /// What it would have.
    pub(crate) fn observed(&self, pod: &LabPod, reason: &str) -> u64 {
        self.packets(pod, reason).map_or(0, |packets| packets.observed)
    }

    /// That it has met nothing that must not pass, but for some reasons.
    pub(crate) fn assert_nothing_met(&self, pod: &LabPod, but: &[&str]) {
        let mut met = self.fenced(pod).expect("the pod is enrolled").packets;
        met.retain(|packets| !but.contains(&packets.reason));
        assert_eq!(met, []);
    }

    fn packets(&self, pod: &LabPod, reason: &str) -> Option<ebpf_redirect::FencedPackets> {
        self.fenced(pod)?.packets.into_iter().find(|packets| packets.reason == reason)
    }

    fn fenced(&self, pod: &LabPod) -> Option<ebpf_redirect::FencedPod> {
        let all = self.redirect.fences().expect("fences");
        all.into_iter().find(|fenced| *fenced.pod == *pod.pod.name)
    }
}

/// A daemon in the node's namespace.
pub(crate) fn open(
    node: &Netns,
    instance: &str,
    fence: FenceChoice,
) -> Result<KernelRedirect, RedirectError> {
    let options = Options { instance: instance.to_owned(), fence, ..Options::default() };
    node.inside(|| KernelRedirect::open(options))
}

impl LabPod {
    /// A port of the outsider's, IPv4 and IPv6.
    pub(crate) fn outside_at(&self, port: u16) -> [SocketAddr; 2] {
        self.outside.map(|ip| SocketAddr::new(ip, port))
    }

    /// A port of the pod's, IPv4 and IPv6.
    pub(crate) fn at(&self, port: u16) -> [SocketAddr; 2] {
        [self.pod.v4, self.pod.v6].map(|ip| SocketAddr::new(ip, port))
    }

    /// A socket of the proxy's in the pod, not connected.
    pub(crate) fn own_socket(&self, redirect: &KernelRedirect, to: SocketAddr) -> Socket {
        self.pod.netns.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
            redirect.exempt(socket.as_fd(), None).expect("exempt");
            socket
        })
    }

    /// A connection of the proxy's out of the pod. A neighbour that does not answer in time, as on a machine that stands still for a
    /// while, has the kernel say that there is no route: it is asked again then.
    pub(crate) fn through(&self, redirect: &KernelRedirect, to: SocketAddr) -> TcpStream {
        let mut connected = None;
        eventually("a connection out of the pod", || {
            let socket = self.own_socket(redirect, to);
            match socket.connect_timeout(&to.into(), PATIENCE) {
                Ok(()) => connected = Some(socket),
                Err(error) if error.raw_os_error() == Some(libc::EHOSTUNREACH) => {}
                Err(error) => panic!("connect to {to}: {error}"),
            }
            connected.is_some()
        });
        connected.expect("eventually there").into()
    }
}

/// Whether bytes that one end writes arrive at the other in a while.
pub(crate) fn arrives(mut from: &TcpStream, mut to: &TcpStream) -> bool {
    from.write_all(b"crossing").expect("write");
    to.set_read_timeout(Some(Duration::from_millis(700))).expect("SO_RCVTIMEO");
    let mut read = [0; 8];
    to.read_exact(&mut read).is_ok() && &read == b"crossing"
}

/// Waits for something that comes by itself.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if is() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("{what} did not come");
}

fn ip(text: String) -> IpAddr {
    text.parse().expect("an address")
}
