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
};

use rustix::process::Signal;
use testkit::{Pod, Process};

use super::{Pods, Setting, access_log};
use crate::{
    error::BenchError,
    lab::{PROXY_CPU, backends::Port, fetch},
    role,
};
pub(crate) use bootstrap::routes;
use bootstrap::{Part, Plan, Table};
use tls::Papers;

mod bootstrap;
pub(crate) mod install;
pub(crate) mod table;
mod tls;

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Process,
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

/// Where the server's Envoy, if there is one, accepts what is for a port of the server.
fn secured(server: &Pod, port: Port) -> SocketAddr {
    server.at(20_000 + port.number())
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
        let papers = |pod: &Pod| Papers::of(pod, setting, directory);
        let (client, server) = (papers(pods.client)?, papers(pods.server)?);
        let far = Self::launch(pods, &Part::Server(server), setting, &directory.join(SERVER))?;
        Ok(vec![Self::launch(pods, &Part::Client(client), setting, directory)?, far])
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
        let admin = directory.join("admin.sock");
        let log = setting.access_log.then(|| access_log(directory));
        let plan = Plan { pods, part, log: log.as_deref(), prefix: "", shift: 0, table };
        let home = if matches!(part, Part::Client(_)) { pods.client } else { pods.server };
        let mut process =
            home.start(command(&[plan], &admin, None, (setting, directory))?)?.stopped_by(Signal::TERM);
        for port in Port::ALL {
            let (pod, address) = part.listens(pods, port);
            process.wait_listening(pod.netns(), address)?;
        }
        Ok(Self { process, admin })
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
                pods: *pods,
                part: &Part::Alone,
                log: log.as_deref(),
                prefix,
                shift: number * SHIFT,
                table: Table::One,
            })
            .collect();
        if let Some(last) = plans.last_mut().filter(|_| control_plane.is_some()) {
            last.table = Table::Discovered;
        }
        let (_, first) = tenants.first().ok_or(BenchError::Usage("a shared Envoy needs a tenant".into()))?;
        let command = command(&plans, &admin, control_plane, (setting, directory))?;
        let mut process = first.server.start(command)?.stopped_by(Signal::TERM);
        for (_, pods) in tenants {
            for port in Port::ALL {
                process.wait_listening(pods.client.netns(), listener(port))?;
            }
        }
        Ok(Self { process, admin })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
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
        let text = fetch::over_unix(&self.admin, "/stats").map_err(|e| failed(e.to_string()))?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
            .ok_or_else(|| failed(format!("no {name} in its statistics")))
    }
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
