//! A cell with one Service, endpoints that say what a test wants, and clients that write raw bytes.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use config::{
    identity::Identity,
    model::{
        AppProtocol, Backend, BackendTarget, Budget, Egress, Endpoint, Exclusions, Filter, HttpRoute,
        Isolation, Labels, Mesh, Parent, Rule, Service, ServicePort, Tenant, Timeouts, Workload,
    },
    name::{Name, Namespace, PodName, RouteKind, RouteName, ServiceAccount, ServiceName, TenantId},
};
use ebpf_redirect::{Origin, Side, fake::FakeRedirect};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::timeout,
};

use super::super::serve;
use crate::{
    accept::{Accepted, Protocol, Rewind},
    capture::{Arrival, Captured, Tree},
    cell::{Cell, CellParts, Limits, Live},
    control::compile::Compiler,
    identity::identify,
    path, policy,
    snapshot::Snapshot,
    sys::{netns::Netns, sockets::Sockets},
    telemetry::{
        AccessLog,
        access::{Target, Writer},
    },
    tenancy::{Ledger, Tenure},
};

pub(super) const VIP: &str = "10.0.0.1:80";

/// A cell, and the mesh that its configuration is compiled from.
pub(super) struct Bench {
    pub(super) cell: Rc<Cell>,
    pub(super) tree: Rc<Tree>,
    mesh: RefCell<Mesh>,
    compiler: RefCell<Compiler>,
}

/// A cell's access log, in a file of its own.
pub(super) struct Log {
    file: tempfile::NamedTempFile,
    writer: Writer,
}

impl Log {
    /// All lines so far. Ends the log.
    pub(super) fn lines(self, bench: &Bench) -> Vec<serde_json::Value> {
        bench.cell.access_log.flush();
        drop(self.writer);
        let text = std::fs::read_to_string(self.file.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What to say of an endpoint.
pub(super) struct At {
    pub(super) address: SocketAddr,
    pub(super) protocol: AppProtocol,
}

/// Runs a test with a place for local tasks, and not for ever: far longer than it takes where others need the machine too.
pub(super) async fn local<F: Future<Output = ()>>(test: F) {
    timeout(Duration::from_secs(90), LocalSet::new().run_until(test)).await.expect("the test hangs");
}

impl Bench {
    /// One Service `shop/cart` with these endpoints.
    pub(super) fn new(endpoints: &[At]) -> Self {
        Self::with_limits(endpoints, Limits::default())
    }

    pub(super) fn with_limits(endpoints: &[At], limits: Limits) -> Self {
        Self::with(endpoints, limits, AccessLog::default())
    }

    /// As [`Bench::new`], with a log that can be read.
    pub(super) fn logging(endpoints: &[At], limits: Limits) -> (Self, Log) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Writer::start(Target::File(file.path().to_owned())).unwrap();
        let bench = Self::with(endpoints, limits, writer.for_cell(&TenantId::Namespace(shop())));
        (bench, Log { file, writer })
    }

    fn with(endpoints: &[At], limits: Limits, access_log: AccessLog) -> Self {
        let workload = Arc::new(workload());
        let tenant = workload.tenant.clone();
        let cell = Cell::new(CellParts {
            tenant,
            redirect: Arc::new(FakeRedirect::default()),
            ledger: Arc::new(Ledger::default()),
            access_log,
            limits,
            site: Arc::default(),
            home: Netns::current().unwrap(),
            tenure: Tenure::default(),
            sockets: Sockets::default(),
            identity: crate::identity::testing::no_sources(),
            find: None,
        });
        let netns = Rc::new(Netns::current().unwrap());
        let tree = Rc::new(Tree {
            workload: Arc::clone(&workload),
            netns,
            id: 1,
            presence: crate::capture::Presence::default(),
        });
        let bench = Self { cell, tree, mesh: RefCell::new(mesh(workload)), compiler: RefCell::default() };
        bench.service("cart", VIP, endpoints);
        bench.publish();
        bench
    }

    /// Adds or replaces a Service; takes effect with [`Bench::publish`].
    pub(super) fn service(&self, name: &str, vip: &str, endpoints: &[At]) {
        let vip: SocketAddr = vip.parse().unwrap();
        let endpoints = endpoints.iter().map(|at| Endpoint::new(at.address, at.protocol));
        let port = ServicePort {
            number: vip.port(),
            name: None,
            protocol: AppProtocol::Http1,
            endpoints: endpoints.collect(),
        };
        let name = service_name(name);
        let service = Service { vips: vec![vip.ip()], ports: vec![port], ..Service::new(name.clone()) };
        self.mesh.borrow_mut().services.insert(name, Arc::new(service));
    }

    /// Attaches these rules to `cart`, as an HTTPRoute; takes effect with [`Bench::publish`].
    pub(super) fn rules(&self, rules: Vec<Rule>) {
        self.rules_of(RouteKind::Http, rules);
    }

    /// As [`Bench::rules`], as a route of this kind.
    pub(super) fn rules_of(&self, kind: RouteKind, rules: Vec<Rule>) {
        let name = RouteName::new(kind, shop(), Name::try_from("cart").unwrap());
        let route = HttpRoute {
            name: name.clone(),
            tenant: TenantId::Namespace(shop()),
            created: None,
            parents: vec![Parent { service: service_name("cart"), port: None }],
            rules,
        };
        self.mesh.borrow_mut().routes.insert(name, Arc::new(route));
    }

    pub(super) fn egress(&self, egress: Egress) {
        let mut mesh = self.mesh.borrow_mut();
        for tenant in mesh.tenants.values_mut() {
            Arc::make_mut(tenant).egress = egress;
        }
    }

    /// What the tenant may use, from now on.
    pub(super) fn budget(&self, budget: Budget) {
        for tenant in self.mesh.borrow_mut().tenants.values_mut() {
            Arc::make_mut(tenant).budget = budget;
        }
        self.publish();
    }

    pub(super) fn remove_service(&self, name: &str) {
        self.mesh.borrow_mut().services.remove(&service_name(name));
    }

    /// Compiles the mesh and puts it in place, as a live edit does.
    pub(super) fn publish(&self) {
        path::swap(&self.cell, self.compiled());
    }

    /// The mesh of now, as the cell gets it.
    pub(super) fn compiled(&self) -> Arc<Snapshot> {
        let mut mesh = self.mesh.borrow_mut();
        mesh.version += 1;
        let snapshots = self.compiler.borrow_mut().compile(&mesh);
        Arc::clone(&snapshots[&TenantId::Namespace(shop())])
    }

    /// A client's connection to `cart`, from its own end.
    pub(super) async fn connect(&self, protocol: Protocol) -> TcpStream {
        let origin = Origin { destination: VIP.parse().unwrap(), client: "127.0.0.1:40000".parse().unwrap() };
        let destination = self.cell.snapshot().resolve(&shop(), origin.destination);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let captured = Captured {
            stream: stream.into(),
            accept_addr: origin.client,
            side: Side::Outbound,
            tree: Rc::clone(&self.tree),
            arrival: Arrival::Socket,
        };
        let accepted = Accepted { captured, origin, destination, protocol, prefix: bytes::Bytes::new() };
        let identified = identify(accepted, None);
        let permit = policy::decide(&self.cell.snapshot(), &identified).unwrap();
        let stream = Rewind::new(bytes::Bytes::new(), identified.accepted.captured.stream);
        let socket = stream.get_ref().socket().map(|socket| self.cell.sockets.register(socket, self.tree.id));
        let live = Live::new(Rc::clone(&self.tree), Side::Outbound, origin, None);
        let live = self.cell.live.enter(live, socket);
        let serving = serve(Rc::clone(&self.cell), permit, live.share(), stream, protocol);
        tokio::task::spawn_local(async move {
            let mut serving = Box::pin(serving);
            // As `path::carry` does it.
            poll_fn(|context| match live.poll_closed(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => serving.as_mut().poll(context),
            })
            .await;
        });
        client
    }

    /// Sends bytes on a connection of its own and reads what comes until it is closed, or silent for a moment.
    pub(super) async fn exchange(&self, request: &str) -> String {
        let mut client = self.connect(Protocol::Http1).await;
        say(&mut client, request).await;
        hear(&mut client).await
    }
}

/// An endpoint that answers each head it gets with the next of these bytes, and tells what it got.
pub(super) struct Endpoint1 {
    pub(super) address: SocketAddr,
    /// All that came, over all connections.
    pub(super) heard: Rc<RefCell<String>>,
    pub(super) connections: Rc<RefCell<usize>>,
}

impl Endpoint1 {
    /// Answers every request with the same bytes; keeps connections open.
    pub(super) async fn answering(response: &'static str) -> Self {
        Self::scripted(move |mut stream, heard| async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read) = stream.read(&mut buffer).await {
                if read == 0 {
                    return;
                }
                heard.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..read]));
                if heard.borrow().contains("\r\n\r\n") {
                    stream.write_all(response.as_bytes()).await.unwrap();
                }
            }
        })
        .await
    }

    /// Does with each connection what a test says.
    pub(super) async fn scripted<F, Work>(script: F) -> Self
    where
        F: Fn(TcpStream, Rc<RefCell<String>>) -> Work + 'static,
        Work: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = (Rc::<RefCell<String>>::default(), Rc::<RefCell<usize>>::default());
        let (told, counted) = (Rc::clone(&heard), Rc::clone(&connections));
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *counted.borrow_mut() += 1;
                tokio::task::spawn_local(script(stream, Rc::clone(&told)));
            }
        });
        Self { address, heard, connections }
    }

    pub(super) fn heard(&self) -> String {
        self.heard.borrow().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// As an endpoint of a Service, of which nothing is declared.
    pub(super) fn at(&self) -> At {
        At { address: self.address, protocol: AppProtocol::Undeclared }
    }
}

pub(super) async fn say(stream: &mut TcpStream, bytes: &str) {
    stream.write_all(bytes.as_bytes()).await.unwrap();
}

/// What comes, however late, until the stream is closed or reset, which is written out, or silent for a moment.
pub(super) async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut patience = PATIENCE;
    while let Ok(read) = timeout(patience, stream.read(&mut buffer)).await {
        patience = QUIET;
        match read {
            Ok(0) => heard.extend_from_slice(b"<closed>"),
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
            Err(_) => heard.extend_from_slice(b"<reset>"),
        }
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Nothing comes for a moment, nor does the stream end.
pub(super) async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(QUIET, stream.read(&mut [0])).await.is_err()
}

/// A rule that sends everything to a Service, with these filters.
pub(super) fn rule(service: &str, filters: Vec<Filter>) -> Rule {
    let target = BackendTarget::Service { service: service_name(service), port: 80 };
    Rule {
        name: None,
        matches: Vec::new(),
        filters,
        backends: vec![Backend { weight: 1, target, filters: Vec::new() }],
        timeouts: Timeouts::default(),
    }
}

pub(super) fn service_name(name: &str) -> ServiceName {
    ServiceName::new(shop(), Name::try_from(name).unwrap())
}

fn shop() -> Namespace {
    Namespace::try_from("shop").unwrap()
}

fn workload() -> Workload {
    Workload {
        pod: PodName::new(shop(), Name::try_from("web").unwrap()),
        uid: None,
        tenant: TenantId::Namespace(shop()),
        identity: Identity {
            trust_domain: config::identity::TrustDomain::default(),
            namespace: shop(),
            service_account: ServiceAccount::try_from("web").unwrap(),
        },
        addresses: vec!["127.0.0.1".parse().unwrap()],
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

fn mesh(workload: Arc<Workload>) -> Mesh {
    let id = TenantId::Namespace(shop());
    let tenant = Tenant {
        id: id.clone(),
        namespaces: vec![shop()],
        isolation: Isolation::Thread,
        egress: Egress::Any,
        budget: Budget::default(),
        owner: None,
        left_out: 0,
    };
    let mut mesh = Mesh::default();
    mesh.tenants.insert(id.clone(), Arc::new(tenant));
    mesh.membership.insert(shop(), id);
    mesh.workloads.insert(workload.pod.clone(), workload);
    mesh
}

/// Longer than what is answered at all takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than anything on this machine takes between two of a test's bytes.
const QUIET: Duration = Duration::from_millis(150);
