//! A pod to steer: a network namespace with an interface to another one, the world, which has servers and clients
//! of its own; and the four listeners a proxy would have in the pod.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use ebpf_redirect::{
    Enrolled, Enrolment, Exclusions, Listeners, Redirect, RedirectError,
    kernel::{KernelRedirect, Options},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, SockRef, Socket, Type};

/// The longest a connection over these wires may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the world's servers are; the pods have a route there.
pub(crate) const WORLD_V4: &str = "198.51.100.7";
/// As [`WORLD_V4`].
pub(crate) const WORLD_V6: &str = "2001:db8::7";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name nobody else on the machine uses.
pub(crate) fn unique() -> String {
    format!("erk{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Hooks under a name of their own.
pub(crate) fn redirect() -> KernelRedirect {
    named(&unique())
}

/// Hooks under that name.
pub(crate) fn named(instance: &str) -> KernelRedirect {
    need_root();
    KernelRedirect::open(Options { instance: instance.to_owned(), ..Options::default() }).expect("hooks")
}

/// There is no skipping: a machine that cannot run these tests has not passed them.
pub(crate) fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
}

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
    file: File,
}

impl Netns {
    pub(crate) fn new() -> Self {
        need_root();
        let name = unique();
        run(&format!("ip netns add {name}"));
        let file = File::open(format!("/run/netns/{name}")).expect("a namespace");
        let netns = Self { name, file };
        run(&format!("ip -n {} link set lo up", netns.name));
        netns
    }

    /// Runs a closure on a thread inside.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                work()
            };
            scope.spawn(work).join().expect("the work inside")
        })
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The hardware address of its `eth0`.
    pub(crate) fn hardware_address(&self) -> [u8; 6] {
        let text = output(&format!("ip -n {} -o link show eth0", self.name));
        let address = text.split("link/ether ").nth(1).and_then(|rest| rest.get(..17)).expect("an address");
        let mut octets = address.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("an octet"));
        [0; 6].map(|_: u8| octets.next().expect("six octets"))
    }

    pub(crate) fn ip(&self, command: &str) {
        run(&format!("ip -n {} {command}", self.name));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A pod and the world it is connected to.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) netns: Netns,
    pub(crate) world: Netns,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
}

impl Pod {
    /// Every pod has the same addresses: pods of different networks may.
    pub(crate) fn new() -> Self {
        let (netns, world) = (Netns::new(), Netns::new());
        let link = format!("link add eth0 type veth peer name eth0 netns {}", world.name);
        netns.ip(&link);
        for (side, host) in [(&netns, "2"), (&world, "1")] {
            side.ip(&format!("addr add 10.77.0.{host}/24 dev eth0"));
            side.ip(&format!("addr add fd77::{host}/64 dev eth0 nodad"));
            side.ip("link set eth0 up");
        }
        world.ip(&format!("addr add {WORLD_V4}/32 dev lo"));
        world.ip(&format!("addr add {WORLD_V6}/128 dev lo nodad"));
        netns.ip("route add default via 10.77.0.1");
        netns.ip("-6 route add default via fd77::1");
        let [v4, v6] = ["10.77.0.2", "fd77::2"].map(|ip| ip.parse().expect("an address"));
        Self { name: format!("test/{}", netns.name), netns, world, v4, v6 }
    }

    pub(crate) fn own(&self, family_of: SocketAddr) -> IpAddr {
        if family_of.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// The proxy's listeners, as the plan says.
    pub(crate) fn listen(&self, redirect: &dyn Redirect) -> Proxy {
        let plan = redirect.listen_plan();
        self.netns.inside(|| Proxy {
            outbound_v4: listener(plan.outbound_v4),
            outbound_v6: listener(plan.outbound_v6),
            inbound_v4: listener(plan.inbound_v4),
            inbound_v6: listener(plan.inbound_v6),
        })
    }

    pub(crate) fn enrol(&self, redirect: &dyn Redirect, proxy: &Proxy) -> Box<dyn Enrolled> {
        self.try_enrol(redirect, proxy, &Exclusions::default()).expect("enrolment")
    }

    pub(crate) fn try_enrol(
        &self,
        redirect: &dyn Redirect,
        proxy: &Proxy,
        exclusions: &Exclusions,
    ) -> Result<Box<dyn Enrolled>, RedirectError> {
        redirect.enrol(&Enrolment {
            pod: &self.name,
            netns: self.netns.fd(),
            addresses: &[self.v4, self.v6],
            listeners: proxy.listeners(),
            exclusions,
        })
    }

    /// Connects from inside the pod, as an ordinary application does.
    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.netns.inside(|| TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// An ordinary server inside the pod.
    pub(crate) fn serve(&self, at: SocketAddr) -> TcpListener {
        self.netns.inside(|| listener(at))
    }

    /// Connects to the pod from outside.
    pub(crate) fn dial(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.world.inside(|| TcpStream::connect_timeout(&to, PATIENCE))
    }
}

/// The four listeners of a proxy in a pod.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) outbound_v4: TcpListener,
    pub(crate) outbound_v6: TcpListener,
    pub(crate) inbound_v4: TcpListener,
    pub(crate) inbound_v6: TcpListener,
}

impl Proxy {
    pub(crate) fn listeners(&self) -> Listeners<'_> {
        Listeners {
            outbound_v4: Some(self.outbound_v4.as_fd()),
            outbound_v6: Some(self.outbound_v6.as_fd()),
            inbound_v4: Some(self.inbound_v4.as_fd()),
            inbound_v6: Some(self.inbound_v6.as_fd()),
        }
    }

    pub(crate) fn outbound(&self, to: SocketAddr) -> &TcpListener {
        if to.is_ipv4() { &self.outbound_v4 } else { &self.outbound_v6 }
    }

    pub(crate) fn inbound(&self, to: SocketAddr) -> &TcpListener {
        if to.is_ipv4() { &self.inbound_v4 } else { &self.inbound_v6 }
    }
}

/// With its end nobody listens any more, at once.
impl Drop for Proxy {
    fn drop(&mut self) {
        [&self.outbound_v4, &self.outbound_v6, &self.inbound_v4, &self.inbound_v6]
            .into_iter()
            .for_each(stop_listening);
    }
}

/// Closing alone is not enough: a child that another test is starting just now has all descriptors of this process until
/// it is another program, and as long the kernel goes on establishing connections.
pub(crate) fn stop_listening(listener: &TcpListener) {
    SockRef::from(listener).shutdown(Shutdown::Both).expect("shutdown");
}

/// A listener that other sockets of its port do not disturb.
pub(crate) fn listener(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    if at.is_ipv6() && !at.ip().is_unspecified() {
        socket.set_only_v6(true).expect("IPV6_V6ONLY");
    }
    socket.bind(&at.into()).expect("bind");
    socket.listen(1024).expect("listen");
    socket.into()
}

/// The next connection; fails the test if none comes.
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    try_accept(listener, PATIENCE).expect("no connection came")
}

/// The next connection, if one comes in time.
pub(crate) fn try_accept(listener: &TcpListener, patience: Duration) -> Option<(TcpStream, SocketAddr)> {
    let mut fds = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let ready = rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
    (ready > 0).then(|| listener.accept().expect("accept"))
}

/// Shows that two ends are of one connection.
pub(crate) fn assert_connected(mut one: &TcpStream, mut other: &TcpStream) {
    let mut read = [0; 5];
    one.write_all(b"there").expect("write");
    other.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    other.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"there");
    other.write_all(b"again").expect("write");
    one.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    one.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"again");
}

/// What a hook has counted.
pub(crate) fn counted(redirect: &dyn Redirect, hook: &str, event: &str) -> u64 {
    let counters = redirect.counters().expect("counters");
    counters.iter().find(|c| c.hook == hook && c.event == event).map_or(0, |c| c.count)
}

pub(crate) fn addr(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_string().parse().expect("an address"), port)
}

fn run(command: &str) {
    output(command);
}

fn output(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a command")).args(words).output().expect("ip");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
