//! A cell with one workload on loopback, its listener, and Services that a test makes.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use config::{
    identity::{Identity, TrustDomain},
    model::{AppProtocol, Budget, Egress, Endpoint, Exclusions, Labels, Workload},
    name::{Name, Namespace, PodName, ServiceAccount, ServiceName, TenantId},
};
use ebpf_redirect::{Side, fake::FakeRedirect};
use futures_util::future::LocalBoxFuture;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::log::Log;
use crate::{
    capture::{Captured, Tree},
    cell::{Cell, CellParts, Find, Limits},
    hbone::Site,
    identity::{credentials::Sources, testing::no_sources},
    path,
    policy::Permit,
    snapshot::{
        Answers, Cluster, Directory, RouteTable, ServiceEntry, Snapshot, WorkloadEntry,
        network::Network,
        policies::{External, InboundPolicy},
    },
    sys::{netns::Netns, socket, sockets::Sockets},
    telemetry::AccessLog,
    tenancy::Throne,
    upstream::{
        UpstreamError,
        connect::{Connect, Connected, Kernel, Peer},
    },
};

pub(super) struct World {
    pub(super) cell: Rc<Cell>,
    pub(super) tree: Rc<Tree>,
    /// Where the tree's outbound listener is.
    pub(super) listener: SocketAddr,
    redirect: Arc<FakeRedirect>,
    /// Ends the cell's tenure.
    pub(super) throne: Throne,
    services: RefCell<HashMap<SocketAddr, Arc<ServiceEntry>>>,
    workloads: RefCell<HashMap<IpAddr, Arc<WorkloadEntry>>>,
    /// What protects the tree's workload.
    pub(super) inbound_policy: RefCell<Arc<InboundPolicy>>,
    /// Where the tenant may go outside the mesh.
    pub(super) external: RefCell<Arc<External>>,
    /// Addresses of the node.
    pub(super) node: RefCell<Vec<IpAddr>>,
    /// Whether endpoints are the tree's own pod: its neighbour, as it were.
    pub(super) neighbours: std::cell::Cell<bool>,
    /// The pod that endpoints name, though nothing else is known of it any more.
    pub(super) left_behind: RefCell<Option<PodName>>,
    /// Whether the configuration has the tree's pod no more.
    pub(super) left: std::cell::Cell<bool>,
    /// What new Services and workloads have to be reached through.
    pub(super) waypoint: RefCell<Option<Arc<str>>>,
    /// What the tenant may use.
    pub(super) budget: std::cell::Cell<Budget>,
}

/// What a world is made of.
pub(super) struct Made {
    pub(super) workload: Workload,
    pub(super) connect: Rc<dyn Connect>,
    pub(super) identity: Sources,
}

/// A real server behind a Service.
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) vip: SocketAddr,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(limit: impl FnOnce(&mut Limits)) -> Self {
        Self::with_connect(Rc::new(Kernel), limit)
    }

    pub(super) fn with_connect(connect: Rc<dyn Connect>, limit: impl FnOnce(&mut Limits)) -> Self {
        Self::of(Made { workload: workload(), connect, identity: no_sources() }, limit)
    }

    /// Of one's own making; certificates are kept fresh.
    pub(super) fn of(made: Made, limit: impl FnOnce(&mut Limits)) -> Self {
        Self::writing(AccessLog::default(), made, limit)
    }

    /// One that writes its log there.
    pub(super) fn logging(log: &Log, limit: impl FnOnce(&mut Limits)) -> Self {
        let made = Made { workload: workload(), connect: Rc::new(Kernel), identity: no_sources() };
        Self::writing(log.for_cell(), made, limit)
    }

    /// One that is in this cluster.
    pub(super) fn at(site: Site, made: Made) -> Self {
        Self::built((AccessLog::default(), Arc::new(site), None), made, |_| ())
    }

    /// One that asks what it does not know.
    pub(super) fn asking(find: Arc<dyn Find>) -> Self {
        let made = Made { workload: workload(), connect: Rc::new(Kernel), identity: no_sources() };
        Self::built((AccessLog::default(), Arc::default(), Some(find)), made, |_| ())
    }

    pub(super) fn writing(access_log: AccessLog, made: Made, limit: impl FnOnce(&mut Limits)) -> Self {
        Self::built((access_log, Arc::default(), None), made, limit)
    }

    fn built(
        (access_log, site, find): (AccessLog, Arc<Site>, Option<Arc<dyn Find>>),
        made: Made,
        limit: impl FnOnce(&mut Limits),
    ) -> Self {
        let Made { workload, connect, identity } = made;
        let mut limits = Limits { detect: Duration::from_millis(50), ..Limits::default() };
        limit(&mut limits);
        let redirect = Arc::new(FakeRedirect::default());
        let throne = Throne::default();
        let parts = CellParts {
            tenant: TenantId::Namespace(namespace()),
            redirect: redirect.clone(),
            ledger: Arc::default(),
            access_log,
            limits,
            site,
            home: Netns::current().unwrap(),
            tenure: throne.succeed(),
            sockets: Sockets::default(),
            identity,
            find,
        };
        let cell = Cell::with_connect(parts, connect);
        let netns = Rc::new(Netns::current().unwrap());
        let tree = Rc::new(Tree {
            workload: Arc::new(workload),
            netns,
            id: 1,
            presence: crate::capture::Presence::default(),
        });
        cell.plant(Rc::clone(&tree));
        let listener = listen(&cell, &tree, Side::Outbound, LOOPBACK);
        let credentials = Rc::clone(&cell.credentials).run();
        tokio::task::spawn_local(credentials);
        Self {
            cell,
            tree,
            listener,
            redirect,
            throne,
            services: RefCell::default(),
            workloads: RefCell::default(),
            inbound_policy: RefCell::default(),
            external: RefCell::default(),
            node: RefCell::default(),
            neighbours: std::cell::Cell::default(),
            left_behind: RefCell::default(),
            left: std::cell::Cell::default(),
            waypoint: RefCell::default(),
            budget: std::cell::Cell::default(),
        }
    }

    /// A server of its own, behind a Service of its own.
    pub(super) async fn server(&self, protocol: AppProtocol) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Server { listener, address, vip: self.service(protocol, &[address]) }
    }

    /// A Service with these endpoints, none of which is known as a pod; its VIP is never dialled by anybody.
    pub(super) fn service(&self, protocol: AppProtocol, endpoints: &[SocketAddr]) -> SocketAddr {
        let number = u8::try_from(self.services.borrow().len() + 1).unwrap();
        let vip = SocketAddr::from(([192, 0, 2, number], 80));
        let name = Name::try_from(format!("service-{number}").as_str()).unwrap();
        let service = ServiceName::new(namespace(), name);
        let endpoint = |address: &SocketAddr| {
            let neighbour = self.neighbours.get().then(|| self.tree.workload.pod.clone());
            let workload = self.left_behind.borrow().clone().or(neighbour);
            Arc::new(Endpoint { workload, ..Endpoint::new(*address, protocol) })
        };
        let endpoints = endpoints.iter().map(endpoint).collect::<Vec<_>>().into();
        let waypoint = self.waypoint.borrow().clone();
        let cluster =
            Arc::new(Cluster { waypoint, ..Cluster::new(service.clone(), 80, protocol, endpoints) });
        let routes = Arc::new(RouteTable::open(&cluster));
        let entry = Arc::new(ServiceEntry { service, port: 80, protocol, cluster, routes });
        self.services.borrow_mut().insert(vip, entry);
        self.limit(Egress::Any);
        vip
    }

    /// Puts the Services of now in place, with this egress rule.
    pub(super) fn limit(&self, egress: Egress) {
        let mut snapshot = Snapshot::empty(self.cell.tenant.clone());
        snapshot.egress = egress;
        snapshot.budget = self.budget.get();
        snapshot.external = Arc::clone(&self.external.borrow());
        let services = Arc::new(self.services.borrow().clone());
        let workloads = Arc::new(self.workloads.borrow().clone());
        let node_addresses = self.node.borrow().iter().copied().collect();
        let here = (!self.left.get()).then(|| self.tree.workload.pod.clone());
        let pods = here.iter().map(|pod| (pod.clone(), Arc::default())).collect();
        let network = Arc::new(Network { pods, namespaces: HashMap::new() });
        snapshot.directory = Arc::new(Directory {
            services,
            workloads,
            node_addresses,
            network,
            guarded: self.guarded(),
            ..Directory::default()
        });
        let own = here.map(|pod| (pod, Arc::clone(&self.inbound_policy.borrow())));
        snapshot.policies = Arc::new(own.into_iter().collect());
        path::swap(&self.cell, Arc::new(snapshot));
    }

    /// What is behind a waypoint is, at whatever port.
    fn guarded(&self) -> Arc<HashSet<IpAddr>> {
        let services = self.services.borrow();
        let behind = services.iter().filter(|(_, entry)| entry.cluster.waypoint.is_some());
        let refused = IpAddr::from([203, 0, 113, 7]);
        Arc::new(behind.map(|(vip, _)| vip.ip()).chain([refused]).collect())
    }

    /// Tells the cell of workloads, in place of those it knew.
    pub(super) fn know(&self, workloads: &[Workload]) {
        self.know_answering(workloads, &[]);
    }

    /// As [`World::know`]; each of them answers for these Services.
    pub(super) fn know_answering(&self, workloads: &[Workload], answers: &[Answers]) {
        let entry = |workload: &Workload| {
            let workload = Arc::new(workload.clone());
            Arc::new(WorkloadEntry { workload, protocols: HashMap::new(), answers: answers.to_vec() })
        };
        let by_address = workloads
            .iter()
            .flat_map(|workload| workload.addresses.iter().map(move |ip| (*ip, entry(workload))));
        self.workloads.replace(by_address.collect());
        self.limit(Egress::Any);
    }

    /// Serves the tree's inbound side at an address.
    pub(super) fn serve_inbound(&self, at: SocketAddr) {
        listen(&self.cell, &self.tree, Side::Inbound, at);
    }

    /// Says where a client's connection is going.
    pub(super) fn steer(&self, client: SocketAddr, destination: SocketAddr) {
        self.redirect.steer(client, destination);
    }

    /// Says that nobody knows where a client's connection is going.
    pub(super) fn hide(&self, client: SocketAddr) {
        self.redirect.hide(client);
    }

    /// A client's connection that was steered to the tree's listener on its way to `destination`.
    pub(super) async fn dial(&self, destination: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        self.redirect.steer(socket.local_addr().unwrap(), destination);
        socket.connect(self.listener).await.unwrap()
    }

    /// Waits until so many connections are left.
    pub(super) async fn emptied_but(&self, left: u64) {
        while self.cell.ledger.connections_open.load(Relaxed) > left {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until as many connections as were dialled have come and gone, and everything counted was given back.
    pub(super) async fn emptied(&self, dialled: u64) {
        let ledger = &self.cell.ledger;
        while ledger.connections.load(Relaxed) < dialled
            || ledger.connections_open.load(Relaxed) > 0
            || !self.cell.live.is_empty()
            || !self.cell.sockets.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ledger.connections.load(Relaxed), dialled);
    }
}

pub(super) fn listen(cell: &Rc<Cell>, tree: &Rc<Tree>, side: Side, at: SocketAddr) -> SocketAddr {
    let socket = std::net::TcpListener::bind(at).unwrap();
    socket::prepare(&socket, cell.limits.unacknowledged).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::from_std(socket).unwrap();
    tokio::task::spawn_local(path::accept_loop(Rc::clone(cell), Rc::clone(tree), side, listener));
    address
}

/// What one connection's future takes, without what it boxes.
pub(super) fn size_of_carry() -> usize {
    fn size<F>(_: impl FnOnce(Rc<Cell>, Captured) -> F) -> usize {
        size_of::<F>()
    }
    size(path::carry)
}

/// Whether a connection ends in a reset, whatever came before.
pub(super) async fn reads_reset(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).await;
    end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// An address of this machine where nobody listens.
pub(super) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Every endpoint is silent, as far as a connection can tell.
#[derive(Debug)]
pub(super) struct Silent;

impl Connect for Silent {
    fn connect<'a>(
        &'a self,
        _: &'a Cell,
        _: &'a Permit,
        peer: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>> {
        let (address, after) = (peer.address, Duration::from_millis(1));
        Box::pin(async move {
            tokio::time::sleep(after).await;
            Err(UpstreamError::Timeout { address, after })
        })
    }
}

/// Connecting hits a bug.
#[derive(Debug)]
pub(super) struct Panics;

impl Connect for Panics {
    fn connect<'a>(
        &'a self,
        _: &'a Cell,
        _: &'a Permit,
        _: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>> {
        panic!("a bug, on purpose")
    }
}

pub(super) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) fn namespace() -> Namespace {
    Namespace::try_from("shop").unwrap()
}

pub(super) fn workload() -> Workload {
    Workload {
        pod: PodName::new(namespace(), Name::try_from("caller").unwrap()),
        uid: None,
        tenant: TenantId::Namespace(namespace()),
        identity: Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace(),
            service_account: ServiceAccount::try_from("default").unwrap(),
        },
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        netns: None,
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
