//! Envoy as a subject: one process, one worker, doing what Canopy does with the cheapest means it has.
//!
//! Choices in Envoy's favour: clients dial its listeners directly, without any redirection; the listeners are inside
//! the client pod and its upstream connections inside the server pod (`network_namespace_filepath`), so that both its
//! hops are loopback, as Canopy's are; no filter but the router; nothing optional switched on. With mutual TLS there are
//! two of them, each inside its pod.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::Signal;
use testkit::{Netns, Process};

use super::{Pods, Setting, access_log, canopy::DRAINED};
use crate::{
    error::BenchError,
    lab::{Nodes, PROXY_CPU, backends::Port, fetch},
    role,
};
use bootstrap::{Meeting, Part, Plan, Table};
pub(crate) use bootstrap::{gateway, routes};
use tls::Papers;

mod bootstrap;
mod chain;
pub(crate) mod install;
mod rbac;
pub(crate) mod table;
mod tls;

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Process,
    home: Arc<Netns>,
    recipe: role::Recipe,
    admin: PathBuf,
}

/// Where clients dial Envoy for a port of the server, in their own pod.
pub(crate) fn listener(port: Port) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + port.number()))
}

/// What the routes of HTTP/1.1 are called that are discovered, and their cluster, where a tenant's names begin so.
pub(crate) fn discovered(prefix: &str) -> String {
    format!("{prefix}{}", bootstrap::name(Port::Http))
}

/// The file of the routes of one that reads them.
pub(crate) const ROUTES: &str = "routes.json";
/// The folder of the server's Envoy.
pub(crate) const SERVER: &str = "server";

impl Envoy {
    /// Starts one between two pods and waits until it listens.
    pub(crate) fn start(pods: Pods<'_>, setting: &Setting, directory: &Path) -> Result<Self, BenchError> {
        Self::launch(pods, &Part::Alone, setting, directory)
    }

    /// Starts one in each of two pods, with mutual TLS between them; the client's comes first.
    pub(crate) fn start_pair(
        pods: Pods<'_>,
        setting: &Setting,
        directory: &Path,
    ) -> Result<Vec<Self>, BenchError> {
        let papers = || Papers::of(pods.client.namespace(), setting, directory);
        let far = Self::launch(pods, &Part::Server(papers()?), setting, &directory.join(SERVER))?;
        Ok(vec![Self::launch(pods, &Part::Client(papers()?), setting, directory)?, far])
    }

    /// Starts one in each of two pods of a namespace, with mutual TLS between them and one rule of who may call; the client's comes
    /// first. Each is told of these ports alone; they may not listen yet.
    pub(crate) fn start_sidecars(
        pods: Pods<'_>,
        ports: &[Port],
        setting: &Setting,
        directory: &Path,
    ) -> Result<[Self; 2], BenchError> {
        let namespace = pods.client.namespace();
        let papers = || Papers::of(namespace, setting, &setting.directory);
        let (near, far) = (Part::Client(papers()?), Part::Server(papers()?));
        let caller = tls::identity(namespace);
        let meets = Meeting::within(pods.server);
        let server = Plan { ports, allows: Some(&caller), meets, ..Plan::of(pods, &far) };
        let far = Self::begin(pods.server.shared_netns(), vec![server], (setting, &directory.join(SERVER)))?;
        let client = Plan { ports, meets, ..Plan::of(pods, &near) };
        Ok([Self::begin(pods.client.shared_netns(), vec![client], (setting, directory))?, far])
    }

    /// Starts one on each of two nodes, which their pods share: all pairs of a client here and a server there, each with
    /// the papers of its namespace. The listeners of clients are in their pods; the connections to servers cross their link, and
    /// what is between the nodes belongs to the nodes. They may not listen yet.
    pub(crate) fn start_nodes(
        pairs: &[Pods<'_>],
        ports: &[Port],
        nodes: &Nodes,
        (setting, directory): (&Setting, &Path),
    ) -> Result<[Self; 2], BenchError> {
        let prefixes = prefixes(pairs.len());
        let mut parts = Vec::new();
        for pods in pairs {
            let namespace = pods.client.namespace();
            let papers = || Papers::of(namespace, setting, &setting.directory);
            parts.push((Part::Client(papers()?), Part::Server(papers()?), tls::identity(namespace)));
        }
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for (number, (pods, (client, server, caller))) in (0..).zip(pairs.iter().zip(&parts)) {
            let meets = Meeting::on(nodes.there()?, pods.server, number);
            near.push(Plan { ports, meets, ..Plan::of(*pods, client) });
            far.push(Plan { ports, meets, allows: Some(caller), ..Plan::of(*pods, server) });
        }
        name_apart(&mut near, &mut far, &prefixes);
        let far = Self::begin(nodes.there()?.shared_netns(), far, (setting, &directory.join(SERVER)))?;
        Ok([Self::begin(nodes.here().shared_netns(), near, (setting, directory))?, far])
    }

    /// Starts one that has so many routes, which it reads from a file and again when another is moved there.
    pub(crate) fn start_routed(
        pods: Pods<'_>,
        count: usize,
        setting: &Setting,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        let file = directory.join(ROUTES);
        fs::write(&file, routes(count))
            .map_err(|e| BenchError::io(format!("write {}", file.display()), e))?;
        Self::launch_with(pods, &Part::Alone, Table::File(&file), (setting, directory))
    }

    fn launch(pods: Pods<'_>, part: &Part, setting: &Setting, directory: &Path) -> Result<Self, BenchError> {
        Self::launch_with(pods, part, Table::One, (setting, directory))
    }

    fn launch_with(
        pods: Pods<'_>,
        part: &Part,
        table: Table<'_>,
        (setting, directory): (&Setting, &Path),
    ) -> Result<Self, BenchError> {
        let plan = Plan { table, ..Plan::of(pods, part) };
        let home = if matches!(part, Part::Client(_)) { pods.client } else { pods.server };
        let places: Vec<_> = plan.ports.iter().map(|port| plan.listens(*port)).collect();
        let mut started = Self::begin(home.shared_netns(), vec![plan], (setting, directory))?;
        for (netns, address) in places {
            started.process.wait_listening(netns, address)?;
        }
        Ok(started)
    }

    /// Starts one in a network namespace; it may not listen yet.
    fn begin(
        home: Arc<Netns>,
        plans: Vec<Plan<'_>>,
        (setting, directory): (&Setting, &Path),
    ) -> Result<Self, BenchError> {
        let admin = directory.join("admin.sock");
        let log = setting.access_log.then(|| access_log(directory));
        let plans: Vec<Plan<'_>> =
            plans.into_iter().map(|plan| Plan { log: log.as_deref(), ..plan }).collect();
        let command = command(&plans, &admin, None, (setting, directory))?;
        let recipe = role::Recipe::of(&command);
        let process = Process::start(&home, command)?.stopped_by(Signal::TERM);
        Ok(Self { process, home, recipe, admin })
    }

    /// Starts one that several tenants share: each with a client pod of its own and what its names begin with, all with
    /// their servers in one pod, at ports that are [`SHIFT`] apart.
    pub(crate) fn start_shared(
        tenants: &[(&str, Pods<'_>)],
        setting: &Setting,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        Self::launch_shared(tenants, None, setting, directory)
    }

    /// The same, of which the last tenant's routes of HTTP/1.1 and their endpoints are said by the control plane at this socket, both
    /// by the name [`discovered`].
    pub(crate) fn start_following(
        tenants: &[(&str, Pods<'_>)],
        control_plane: &Path,
        setting: &Setting,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        Self::launch_shared(tenants, Some(control_plane), setting, directory)
    }

    fn launch_shared(
        tenants: &[(&str, Pods<'_>)],
        control_plane: Option<&Path>,
        setting: &Setting,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        let admin = directory.join("admin.sock");
        let log = setting.access_log.then(|| access_log(directory));
        let mut plans: Vec<Plan<'_>> = (0..)
            .zip(tenants)
            .map(|(number, (prefix, pods))| Plan {
                log: log.as_deref(),
                prefix,
                shift: number * SHIFT,
                ..Plan::of(*pods, &Part::Alone)
            })
            .collect();
        if let Some(last) = plans.last_mut().filter(|_| control_plane.is_some()) {
            last.table = Table::Discovered;
        }
        let (_, first) = tenants.first().ok_or(BenchError::Usage("a shared Envoy needs a tenant".into()))?;
        let command = command(&plans, &admin, control_plane, (setting, directory))?;
        let (home, recipe) = (first.server.shared_netns(), role::Recipe::of(&command));
        let mut process = Process::start(&home, command)?.stopped_by(Signal::TERM);
        for (_, pods) in tenants {
            for port in Port::ALL {
                process.wait_listening(pods.client.netns(), listener(port))?;
            }
        }
        Ok(Self { process, home, recipe, admin })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has said of what went wrong.
    pub(crate) fn said(&self) -> String {
        format!("{}: {}\n", self.admin.display(), self.process.output())
    }

    /// Ends it, at once or as it ends by itself, and starts another in its place.
    pub(crate) fn replace(&mut self, at_once: bool) -> Result<(), BenchError> {
        self.process.signal(if at_once { Signal::KILL } else { Signal::TERM });
        if self.process.wait(DRAINED).is_none() {
            return Err(BenchError::Load(format!("it has not ended within {DRAINED:?}; {}", self.said())));
        }
        self.process = Process::start(&self.home, self.recipe.command())?.stopped_by(Signal::TERM);
        Ok(())
    }

    /// It is waited for when it is dropped.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal(Signal::TERM);
    }

    /// What its statistics say it has carried so far.
    pub(crate) fn carried(&self, port: Port) -> Result<u64, BenchError> {
        let failed = |why: String| BenchError::Counters { subject: "envoy-node".into(), why };
        let name = match port {
            Port::Http => "http.http.downstream_rq_total",
            Port::Http2 => "http.http2.downstream_rq_total",
            Port::Echo => "tcp.echo.downstream_cx_total",
            Port::Source => "tcp.source.downstream_cx_total",
        };
        let text = self.statistics()?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
            .ok_or_else(|| failed(format!("no {name} in its statistics")))
    }

    /// Requests of HTTP/1.1 of all whom it serves.
    pub(crate) fn carried_of_all(&self) -> Result<u64, BenchError> {
        Ok(requests_of_all(&self.statistics()?))
    }

    fn statistics(&self) -> Result<String, BenchError> {
        let failed = |e: std::io::Error| BenchError::Counters { subject: "envoy".into(), why: e.to_string() };
        fetch::over_unix(&self.admin, "/stats").map_err(failed)
    }
}

/// What the names of each pair's listeners and clusters begin with; of the first with nothing.
fn prefixes(pairs: usize) -> Vec<String> {
    (0..pairs).map(|number| if number == 0 { String::new() } else { format!("{number}-") }).collect()
}

fn name_apart<'a>(near: &mut [Plan<'a>], far: &mut [Plan<'a>], prefixes: &'a [String]) {
    for plans in [near, far] {
        plans.iter_mut().zip(prefixes).for_each(|(plan, prefix)| plan.prefix = prefix);
    }
}

fn requests_of_all(statistics: &str) -> u64 {
    let of = |line: &str| {
        let rest = line.strip_prefix("http.")?;
        rest.split_once("http.downstream_rq_total: ")?.1.trim().parse::<u64>().ok()
    };
    statistics.lines().filter_map(of).sum()
}

/// How to start one, with its configuration written.
fn command(
    plans: &[Plan<'_>],
    admin: &Path,
    control_plane: Option<&Path>,
    (setting, directory): (&Setting, &Path),
) -> Result<std::process::Command, BenchError> {
    fs::create_dir_all(directory)
        .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
    let file = directory.join("envoy.json");
    fs::write(&file, bootstrap::text(plans, admin, control_plane))
        .map_err(|e| BenchError::io(format!("write {}", file.display()), e))?;
    let mut command = role::pinned(PROXY_CPU, &setting.envoy)?;
    command.arg("--config-path").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
    command.args(["--log-level", "error"]);
    Ok(command)
}

/// How far apart the ports are of two tenants' servers in one pod.
pub(crate) const SHIFT: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_shared_one_are_those_of_all_pairs_and_of_nothing_else() {
        let text = "http.http.downstream_rq_total: 3\nhttp.1-http.downstream_rq_total: 4\n\
            http.admin.downstream_rq_total: 9\nhttp.http.downstream_rq_2xx: 9\ntcp.echo.downstream_cx_total: 9\n";
        assert_eq!(requests_of_all(text), 7);
    }
}
