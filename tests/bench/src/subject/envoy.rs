//! Envoy as a subject: one process, one worker, doing what Canopy does with the cheapest means it has.
//!
//! Choices in Envoy's favour: clients dial its listeners directly, without any redirection; the listeners are inside
//! the client pod and its upstream connections inside the server pod (`network_namespace_filepath`), so that both its
//! hops are loopback, as Canopy's are; no filter but the router; nothing optional switched on.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use testkit::{Pod, Process};

use super::{Setting, access_log};
use crate::{
    error::BenchError,
    lab::{PROXY_CPU, backends::Port, fetch},
    role,
};

mod bootstrap;
pub(crate) mod install;

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

impl Envoy {
    /// Starts it and waits until it listens.
    pub(crate) fn start(
        client: &Pod,
        server: &Pod,
        setting: &Setting,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        let admin = directory.join("admin.sock");
        let log = setting.access_log.then(|| access_log(directory));
        let text = bootstrap::text(&bootstrap::Pods { client, server }, &admin, log.as_deref());
        let file = directory.join("envoy.json");
        fs::write(&file, text).map_err(|e| BenchError::io(format!("write {}", file.display()), e))?;
        let mut command = role::pinned(PROXY_CPU, &setting.envoy)?;
        command.arg("--config-path").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["--log-level", "error"]);
        let mut process = server.start(command)?.stopped_by(Signal::TERM);
        for port in Port::ALL {
            process.wait_listening(client.netns(), listener(port))?;
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
