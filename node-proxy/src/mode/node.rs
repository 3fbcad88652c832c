//! The node daemon: from its options to a running forest, and to its end.
//!
//! Everything that can fail at start fails before the first pod is touched. It must never end while a connection that it
//! could let finish is still within its time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use config::{
    capacity::Amounts,
    identity::TrustDomain,
    model::Zone,
    name::{NodeName, RootNamespace},
    store,
};
use ebpf_redirect::FenceChoice;
use tokio::task::JoinSet;

use self::doors::Doors;
pub use self::error::RunError;
use super::{Manifests, hours::Hours, sidecar::Sidecar, sources, steering::Steering};
use crate::{
    admin,
    app::{Daemon, Origin},
    cell::Limits,
    control::{
        Control, Status,
        capacity::Weighed,
        compile::Compiler,
        discovery::client,
        gate::{self, Gate},
        names::{Names, Pace, System},
        sandboxes::{Places, cri},
    },
    forest::{ForestHandle, Lanes, OnStop, Phase, Settings},
    hbone::Site,
    identity::authority::istio,
    sys::{code, descriptors},
    telemetry::access::{Target, Writer},
    upstream::connect::Kernel,
};

mod doors;
mod error;
mod told;

/// What the node daemon is told on its command line.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Where manifests are. In a cluster, this node is named.
    pub manifests: Manifests,
    /// The control plane to follow, if one is; of the manifests then Pods alone count.
    pub discovery: Option<client::Options>,
    /// Where pods are enrolled before they start, if anywhere.
    pub gate: Option<gate::Options>,
    /// The container runtime, which knows where the pods of a cluster are.
    pub runtime: Option<cri::Socket>,
    /// The CNI agent that tells of pods in the plugin's place, if one does.
    pub zds: Option<PathBuf>,
    /// Where the admin socket is made.
    pub admin_socket: PathBuf,
    /// Where tenants' owners find theirs.
    pub owners: PathBuf,
    /// Where hourly rows are kept, if anywhere.
    pub showback: Option<PathBuf>,
    /// Where metrics and readiness are served.
    pub metrics_addr: SocketAddr,
    /// Name of this instance: two daemons on one kernel need two.
    pub instance: String,
    /// How connections are steered.
    pub redirect: RedirectChoice,
    /// Whether pods are fenced.
    pub fence: FenceChoice,
    /// Where the access log goes.
    pub access_log: Target,
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: RootNamespace,
    /// The name of this node, if several share the configuration.
    pub node: Option<NodeName>,
    /// The zone that it is in, if that is told.
    pub zone: Option<Zone>,
    /// Its addresses, from which its kubelet probes; empty for those of the daemon's own network namespace.
    pub node_addresses: Vec<IpAddr>,
    /// Where certificates come from.
    pub certificates: Certificates,
    /// A revocation list, or a directory of them.
    pub revocations: Option<PathBuf>,
    /// Connections that each tenant may have open; by default its share of the descriptors.
    pub connections: Option<usize>,
    /// What of the machine is kept for the system, and not promised to tenants.
    pub reserve: Amounts,
    /// How tunnels to and from other nodes are kept.
    pub tunnels: Tunnels,
    /// The cluster that the node is in, as the other ends of tunnels are told.
    pub site: Site,
    /// How often hosts of ServiceEntries are looked up, and how long their addresses are kept.
    pub names: Pace,
    /// How long connections may go on after SIGTERM.
    pub drain: Duration,
    /// How pods are left after it.
    pub on_stop: OnStop,
    /// Whether tenants are held to their budgets, and it is measured which workload costs what.
    pub budgets: bool,
    /// Lanes that each tenant may have; by default one.
    pub lanes: Option<Lanes>,
    /// Whether this is no node's daemon but one pod's.
    pub sidecar: Option<Sidecar>,
}

impl NodeOptions {
    /// Whether what it needs to begin is reached by connections of its own, over TCP.
    fn dials(&self) -> bool {
        self.discovery.is_some() || matches!(self.certificates, Certificates::Istio(_))
    }

    /// The bounds of every cell.
    fn limits(&self) -> Limits {
        Limits {
            connections_told: self.connections,
            shared_tunnels: self.tunnels.shared,
            tunnels: Limits::tunnels(self.tunnels.most),
            tunnel_idle: self.tunnels.idle,
            tunnel_keepalive: self.tunnels.keepalive,
            metered: self.budgets,
            ..Limits::default()
        }
    }
}

/// How tunnels to and from other nodes are kept.
#[derive(Debug, Clone, Copy)]
pub struct Tunnels {
    /// Whether connections of one pod to another share them.
    pub shared: bool,
    /// How many each tenant may have open, each way.
    pub most: usize,
    /// How long one is kept that carries nothing.
    pub idle: Duration,
    /// How often the other end is asked whether it is there.
    pub keepalive: Duration,
}

/// Where certificates are to come from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// The embedded authority.
    Embedded {
        /// Where its root lies, or is made.
        directory: PathBuf,
        /// How long a certificate is valid.
        lifetime: Duration,
    },
    /// PEM files below this directory.
    Files(PathBuf),
    /// The SPIRE agent with this admin socket.
    Spire(PathBuf),
    /// Istio's certificate service.
    Istio(istio::Options),
}

/// How connections are to be steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectChoice {
    /// By eBPF where the kernel can, by iptables otherwise.
    Auto,
    /// By eBPF or not at all.
    Ebpf,
    /// By iptables.
    Iptables,
}

/// How long the end may take after connections were ended; then the daemon goes as it is.
const LAST: Duration = Duration::from_secs(3);

/// Runs the daemon until a signal ends it.
pub fn run(options: NodeOptions) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    let descriptors = descriptors::prepare().unwrap_or_else(|error| {
        tracing::warn!(%error, "the descriptor limit stays as it is (`ulimit -n`)");
        0
    });
    let addresses = doors::node_addresses(&options);
    let reading = reading(&options, &addresses);
    let places = Places::default();
    let here = reading.here();
    let mut manifests = sources::manifests(&options, &places, reading.clone())?;
    if let Some(sidecar) = &options.sidecar {
        manifests = sidecar.manifests(manifests);
    }
    let access_log = Arc::new(Writer::start(options.access_log.clone())?);
    let hours = Hours::open(options.showback.clone()).map_err(system("the showback file"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("an event loop"))?;
    let doors = runtime.block_on(Doors::open(&options))?;
    let identity = sources::certificates(&options)?;
    let mut configured = sources::configuration(&options, (manifests, &places), reading.clone())
        .map_err(system("discovery's threads"))?;
    if let Some(sidecar) = &options.sidecar {
        let within = sidecar.configuration(configured.source, options.metrics_addr);
        configured.source = within
            .map_err(system("what the container may use (cpu.max and memory.max of its control group)"))?;
    }
    // Last of what can fail: from here on, what a dead daemon left of steering is taken over.
    let steering = match &options.sidecar {
        None => Steering::open(options.redirect, options.fence, &options.instance),
        Some(sidecar) => Steering::within(sidecar.capture, &options.instance, options.dials()),
    };
    let steering = steering.map_err(RunError::Redirect)?;
    let forest = ForestHandle::start(Settings {
        instance: options.instance.clone(),
        redirect: steering.redirect(),
        limits: options.limits(),
        site: Arc::new(options.site.clone()),
        descriptors,
        access_log: Arc::clone(&access_log),
        connect: || std::rc::Rc::new(Kernel),
        identity,
        find: configured.find,
        grace: GRACE,
        on_stop: options.on_stop,
        budgets: options.budgets,
        lanes: options.lanes.unwrap_or(Lanes::of_cpus(1)),
    })
    .map_err(system("the supervisor's thread"))?;
    let status = Arc::new(Status::default());
    let dropped = access_log.dropped();
    let origin = Arc::new(Origin {
        instance: options.instance.clone(),
        directory: options.manifests.directory(),
        reading,
        domain: options.site.domain.clone(),
    });
    let discovery = configured.standing;
    let gate = doors.gate.as_ref().map(Gate::waits);
    let daemon = Arc::new(Daemon {
        forest,
        status,
        steering,
        hours,
        access_log_dropped: dropped,
        origin,
        discovery,
        demand: configured.demand,
        gate,
        events: matches!(options.manifests, Manifests::Kubernetes(_)).then(Arc::default),
        is_sidecar: options.sidecar.is_some(),
    });
    let control = {
        let (forest, status) = (daemon.forest.clone(), Arc::clone(&daemon.status));
        let names = Names::new(Arc::new(System), options.names, Arc::clone(&addresses));
        let source = Weighed::new(configured.source, options.reserve);
        let compiler = Compiler::for_node(addresses).seen_from(here);
        let compiler = if options.budgets { compiler } else { compiler.without_budgets() };
        move || Control::start(Box::new(source), forest, status, compiler, names)
    };
    runtime.block_on(serve(options, &daemon, (doors, places), &access_log, control))
}

/// How manifests are read here.
fn reading(options: &NodeOptions, addresses: &[IpAddr]) -> store::Options {
    store::Options {
        trust_domain: options.trust_domain.clone(),
        root_namespace: options.root_namespace.clone(),
        node: options.node.clone(),
        zone: options.zone.clone(),
        node_addresses: addresses.to_vec(),
        unbudgeted: !options.budgets,
        ..store::Options::default()
    }
}

/// By then, what only starting needed has run. Measured (`bench memory`): of 15.6 MiB that the idle daemon had resident,
/// 6 were such code.
const SETTLED: Duration = Duration::from_secs(2);

/// How long connections of a pod that was removed may go on.
const GRACE: Duration = Duration::from_secs(5);

async fn serve(
    options: NodeOptions,
    daemon: &Arc<Daemon>,
    (doors, places): (Doors, Places),
    access_log: &Writer,
    control: impl FnOnce() -> io::Result<Control>,
) -> Result<(), RunError> {
    let Doors { admin, gate, metrics, mut signals } = doors;
    let (forest, status) = (daemon.forest.clone(), Arc::clone(&daemon.status));
    let node = options.node.as_ref().map(ToString::to_string).unwrap_or_default();
    let left_out = daemon.events.clone().unwrap_or_default();
    let notes = told::notes(&options.manifests, &node, left_out).await;
    if let Some(notes) = notes.clone() {
        tokio::spawn(told::follow(forest.clone(), Arc::clone(&status), node, notes));
    }
    let own = Arc::new(gate::Own { forest, status, notes });
    let mut gates = JoinSet::new();
    if let Some(gate) = gate {
        gates.spawn(gate.serve(places.clone(), Arc::clone(&own) as Arc<_>));
    }
    if let Some(socket) = options.zds.clone() {
        gates.spawn(gate::zds::follow(socket, places, own));
    }
    tokio::spawn(admin.serve(Arc::clone(daemon) as Arc<_>));
    // Nobody has a share of a sidecar but the pod.
    if options.sidecar.is_none() {
        let owned = daemon.forest.clone();
        let owners = move || owned.owners();
        tokio::spawn(admin::owners::serve(options.owners, Arc::clone(daemon) as Arc<_>, owners));
    }
    tokio::spawn(daemon.hours.clone().follow(daemon.forest.clone()));
    tokio::spawn(metrics.serve(Arc::clone(daemon) as Arc<_>));
    let control = control().map_err(|source| RunError::System { what: "the control thread", source })?;
    let until_ready = async {
        daemon.forest.reached(Phase::Ready).await;
        daemon.steering.settle();
        let (version, planted, waiting) = daemon.forest.standing();
        tracing::info!(
            version,
            pods = planted,
            waiting,
            redirect = %daemon.steering.redirect().mechanism(),
            admin_socket = %options.admin_socket.display(),
            metrics = %options.metrics_addr,
            "ready"
        );
        tokio::time::sleep(SETTLED).await;
        if let Err(error) = code::unmap_idle() {
            tracing::debug!(%error, "what only starting needed stays in memory");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = until_ready => {}
        () = signals.end(access_log) => {}
    }
    daemon.hours.end(&daemon.forest);
    tracing::info!(within = ?options.drain, "draining; a second signal ends the daemon at once");
    // Nothing new is enrolled from here on: pods wait for the next daemon, and are not told to.
    gates.abort_all();
    drop(control);
    tokio::select! {
        drained = tokio::time::timeout(options.drain + LAST, daemon.forest.drain(options.drain)) => {
            if drained.is_ok() {
                tracing::info!("drained");
                return Ok(());
            }
        }
        () = signals.end(access_log) => {}
    }
    hurry(daemon).await
}

/// Ends what is left at once. Pods are left as after any other stop.
async fn hurry(daemon: &Daemon) -> Result<(), RunError> {
    match tokio::time::timeout(2 * LAST, daemon.forest.drain(Duration::ZERO)).await {
        Ok(()) => {
            tracing::warn!("ended before the drain was over; connections that were left are cut");
            Ok(())
        }
        Err(_) => Err(RunError::Unfinished),
    }
}
