//! The forest without root: its pods are in the network namespace of the tests, and steering is fake.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use config::{
    identity::{Identity, TrustDomain},
    model::{AppProtocol, Endpoint, Exclusions, Labels, Mesh, Workload},
    name::{Name, Namespace, PodName, ServiceAccount, ServiceName, TenantId},
    store::Rejected,
};
use ebpf_redirect::{Side, fake::FakeRedirect};
use futures_util::future::LocalBoxFuture;
use socket2::{Domain, Socket, Type};

use super::{
    Configuration, ForestHandle, Lanes, OnStop, Phase, Settings,
    describe::{CellDescription, ForestDescription},
};
use crate::{
    cell::{Cell, Limits},
    policy::Permit,
    snapshot::{Cluster, Directory, RouteTable, ServiceEntry, Snapshot, network::Network},
    sys::clock,
    telemetry::access::{Target, Writer},
    upstream::{
        UpstreamError,
        connect::{Connect, Connected, Kernel, Peer},
    },
};

mod burns;
mod changes;
mod closed;
mod handoff;
mod namespaces;
mod network;
mod remains;
mod shares;
mod stopping;

/// A forest, how to steer to it, and a server that answers what it is sent.
struct World {
    forest: ForestHandle,
    redirect: Arc<FakeRedirect>,
    echo: SocketAddr,
    version: u64,
}

/// Destinations with these ports do what their names say instead of connecting.
const PANIC: u16 = 1;
const SPIN: u16 = 2;
const BURN: u16 = 3;

/// Far longer than anything here takes; who hears nothing for so long has been forgotten.
const PATIENCE: Duration = Duration::from_secs(40);

/// Ends every spinning cell of these tests.
static RELEASED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct Trap;

impl Connect for Trap {
    fn connect<'a>(
        &'a self,
        cell: &'a Cell,
        permit: &'a Permit,
        peer: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>> {
        // What is to happen in a receiver's cell must not happen in its caller's already.
        let passes_on = peer.address.is_ipv6() && permit.side == Side::Outbound;
        match peer.address.port() {
            _ if passes_on => {}
            PANIC => panic!("this connection was meant to panic"),
            SPIN => spin(|| RELEASED.load(Relaxed)),
            handoff::SPIN => spin(|| handoff::RELEASED.load(Relaxed)),
            BURN => {
                let until = clock::own_cpu() + Duration::from_millis(150);
                spin(|| clock::own_cpu() >= until);
            }
            _ => {}
        }
        Kernel.connect(cell, permit, peer)
    }
}

fn spin(until: impl Fn() -> bool) {
    while !until() {
        std::hint::spin_loop();
    }
}

impl World {
    fn new() -> Self {
        Self::with_grace(Duration::from_millis(100))
    }

    fn with_grace(grace: Duration) -> Self {
        Self::stopping(OnStop::Open, grace)
    }

    fn stopping(on_stop: OnStop, grace: Duration) -> Self {
        Self::logging(on_stop, grace, Target::Off)
    }

    fn logging(on_stop: OnStop, grace: Duration, log: Target) -> Self {
        let redirect = Arc::new(FakeRedirect::default());
        let forest = ForestHandle::start(Settings {
            instance: "test".to_owned(),
            redirect: Arc::clone(&redirect) as Arc<_>,
            // A stuck cell is found by its own CPU time, dealt out slowly on a busy machine: no deadline is earlier.
            limits: Limits { connect: Duration::from_secs(3_600), ..Limits::default() },
            site: Arc::default(),
            descriptors: 262_144,
            access_log: Arc::new(Writer::start(log).unwrap()),
            connect: || Rc::new(Trap),
            identity: crate::identity::testing::no_sources(),
            find: None,
            grace,
            on_stop,
            budgets: false,
            lanes: Lanes::of_cpus(1),
        });
        Self { forest: forest.unwrap(), redirect, echo: echo(), version: 0 }
    }

    fn apply(&mut self, pods: &[(&str, &Path)]) {
        self.apply_with(pods, &Arc::default());
    }

    fn apply_with(&mut self, pods: &[(&str, &Path)], directory: &Arc<Directory>) {
        self.apply_workloads(pods.iter().map(|(pod, netns)| workload(pod, netns)), directory);
    }

    fn apply_workloads(&mut self, workloads: impl IntoIterator<Item = Workload>, directory: &Arc<Directory>) {
        self.apply_each(workloads, directory, |_| ());
    }

    /// Tells each tenant something else, as if its cell were behind or ahead.
    fn apply_each(
        &mut self,
        workloads: impl IntoIterator<Item = Workload>,
        directory: &Arc<Directory>,
        mut edit: impl FnMut(&mut Snapshot),
    ) {
        self.version += 1;
        let mut mesh = Mesh { version: self.version, ..Mesh::default() };
        let mut snapshots = BTreeMap::new();
        let workloads: Vec<Workload> = workloads.into_iter().collect();
        // All are known, and no policy is about any of them.
        let pods = workloads.iter().map(|workload| (workload.pod.clone(), Arc::default())).collect();
        let network = Arc::new(Network { pods, ..Network::default() });
        let directory = Arc::new(Directory { network, ..Directory::clone(directory) });
        for workload in workloads {
            let mut snapshot = Snapshot::empty(workload.tenant.clone());
            snapshot.policies = Arc::new([(workload.pod.clone(), Arc::default())].into_iter().collect());
            snapshot.directory = Arc::clone(&directory);
            edit(&mut snapshot);
            snapshots.insert(workload.tenant.clone(), Arc::new(snapshot));
            mesh.workloads.insert(workload.pod.clone(), Arc::new(workload));
        }
        self.forest.apply(Configuration { mesh: Arc::new(mesh), snapshots, rejected: Rejected::default() });
    }

    /// Waits until the forest looks as it should.
    async fn until(&self, what: &str, is: impl Fn(&ForestDescription) -> bool) -> ForestDescription {
        let mut last = None;
        for _ in 0..2400 {
            let forest = self.forest.describe().await;
            if is(&forest) {
                return forest;
            }
            last = Some(forest);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never: {what}: {last:#?}")
    }

    /// A connection from a pod, going to `destination`.
    fn connect(&self, forest: &ForestDescription, pod: &str, destination: SocketAddr) -> TcpStream {
        let trees = forest.cells.iter().flat_map(|cell| &cell.trees);
        let tree = trees.into_iter().find(|tree| tree.pod.to_string() == pod).unwrap();
        let listener = tree.listeners.iter().find(|listener| listener.side == "outbound").unwrap().address;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        self.redirect.steer(socket.local_addr().unwrap().as_socket().unwrap(), destination);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(&listener.into()).unwrap();
        socket.into()
    }

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

fn says(stream: &mut TcpStream, text: &str) -> bool {
    let mut answer = vec![0; text.len()];
    stream.write_all(text.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == text.as_bytes()
}

fn ends(mut stream: TcpStream) -> bool {
    // Something to detect a protocol from, so that the path goes on to connect.
    let _ = stream.write_all(b"\0\0\0\0");
    !matches!(stream.read(&mut [0; 8]), Ok(1..))
}

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    address
}

fn workload(pod: &str, netns: &Path) -> Workload {
    let (namespace, name) = pod.split_once('/').unwrap();
    let namespace = Namespace::try_from(namespace).unwrap();
    Workload {
        pod: PodName::new(namespace.clone(), Name::try_from(name).unwrap()),
        uid: None,
        tenant: TenantId::Namespace(namespace.clone()),
        identity: Identity {
            trust_domain: TrustDomain::default(),
            namespace,
            service_account: ServiceAccount::try_from(name).unwrap(),
        },
        addresses: vec!["127.0.0.1".parse().unwrap()],
        netns: Some(netns.to_owned()),
        ports: Vec::new(),
        labels: Labels::new(),
        node: None,
        meshed: false,
        probes: Vec::new(),
        exclusions: Exclusions::default(),
        waypoint: None,
        sidecar: false,
    }
}

fn own() -> PathBuf {
    "/proc/self/ns/net".into()
}

fn cell<'a>(forest: &'a ForestDescription, tenant: &str) -> Option<&'a CellDescription> {
    forest.cells.iter().find(|cell| cell.tenant.as_str() == tenant)
}

fn trees(forest: &ForestDescription) -> Vec<String> {
    forest.cells.iter().flat_map(|cell| &cell.trees).map(|tree| tree.pod.to_string()).collect()
}

#[tokio::test]
async fn pods_come_and_go_and_their_neighbours_do_not_notice() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    world.forest.reached(Phase::Ready).await;
    let forest = world.until("two cells", |forest| trees(forest).len() == 2).await;
    let mut teller = world.connect(&forest, "bank/teller", world.echo);
    assert!(says(&mut teller, "before"));
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "hello"));

    world.apply(&[("bank/teller", &own())]);
    let forest = world.until("one cell", |forest| forest.cells.len() == 1).await;
    assert_eq!(trees(&forest), ["bank/teller"]);
    assert!(ends(cart), "a connection of a pod that is gone ends after its grace");
    assert!(says(&mut teller, "after"));
}

/// One HTTP Service with this endpoint.
fn http_service(vip: SocketAddr, address: SocketAddr) -> Directory {
    let protocol = AppProtocol::Http1;
    let namespace = Namespace::try_from("shop").unwrap();
    let service = ServiceName::new(namespace, Name::try_from("cart").unwrap());
    let endpoint = Arc::new(Endpoint::new(address, protocol));
    let endpoints = vec![endpoint].into();
    let cluster = Arc::new(Cluster::new(service.clone(), 80, protocol, endpoints));
    let routes = Arc::new(RouteTable::open(&cluster));
    let entry = Arc::new(ServiceEntry { service, port: 80, protocol, cluster, routes });
    Directory { services: Arc::new([(vip, entry)].into()), ..Directory::default() }
}

fn asks(client: &mut TcpStream) -> bool {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut heard = vec![0; answer.len()];
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.read_exact(&mut heard).is_ok() && heard == answer.as_bytes()
}

/// The one connection that comes, after it has answered a request.
fn answer_one(server: &TcpListener) -> TcpStream {
    let (mut upstream, _) = server.accept().unwrap();
    upstream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(upstream.read(&mut [0; 4096]).unwrap() > 0);
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    upstream
}

#[tokio::test]
async fn what_led_to_a_pod_or_came_from_it_goes_with_it_and_its_clients_are_told() {
    let (vip, server) = (SocketAddr::from(([192, 0, 2, 1], 80)), TcpListener::bind("127.0.0.1:0").unwrap());
    let directory = Arc::new(http_service(vip, server.local_addr().unwrap()));
    let mut world = World::with_grace(Duration::from_secs(60));
    // Every pod of these tests has the address 127.0.0.1, and so the server is one of `cart`'s.
    world.apply_with(&[("shop/web", &own()), ("shop/cart", &own())], &directory);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let mut client = world.connect(&forest, "shop/web", vip);
    let answering = thread::spawn(move || (answer_one(&server), server));
    assert!(asks(&mut client));
    let (mut upstream, server) = answering.join().unwrap();

    world.apply_with(&[("shop/web", &own())], &directory);
    assert_eq!(upstream.read(&mut [0; 8]).unwrap(), 0, "the idle connection to it");
    let answering = thread::spawn(move || answer_one(&server));
    assert!(asks(&mut client), "the caller is not disturbed");
    let mut upstream = answering.join().unwrap();

    world.apply_with(&[], &directory);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "an idle client, long before the grace is over");
    assert_eq!(upstream.read(&mut [0; 8]).unwrap(), 0, "the idle connection from it");
}

#[tokio::test]
async fn three_panics_restart_the_cell_and_its_listeners_wait_for_the_next() {
    let mut world = World::new();
    world.apply(&[("shop/cart", &own()), ("bank/teller", &own())]);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    let mut teller = world.connect(&forest, "bank/teller", world.echo);
    for _ in 0..3 {
        assert!(ends(world.connect(&forest, "shop/cart", World::to(PANIC))));
    }
    world
        .until("a restart", |forest| {
            cell(forest, "shop").is_some_and(|cell| cell.state != "running" || cell.restarts > 0)
        })
        .await;
    // Without asking again where the listener is: it never went away.
    let mut cart = world.connect(&forest, "shop/cart", world.echo);
    assert!(says(&mut cart, "served by the successor"));
    let forest = world
        .until("running", |forest| cell(forest, "shop").is_some_and(|cell| cell.state == "running"))
        .await;
    assert_eq!(cell(&forest, "shop").map(|cell| cell.restarts), Some(1));
    assert_eq!(cell(&forest, "bank").map(|cell| cell.restarts), Some(0));
    assert!(says(&mut teller, "undisturbed"));
}
