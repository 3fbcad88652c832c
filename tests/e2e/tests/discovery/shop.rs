//! A node whose daemon is told of its mesh by the control plane of another make: its own files tell it of its pods alone.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use config::discovery::messages;
use e2e::{HTTP, Stage, Traffic, eventually, repository};
use testkit::{
    Daemon, KitError, Options, Outcome, Pod, Server,
    control_plane::{Change, ControlPlane},
    http::{self, Answer, RequestError},
};

use super::said::{service, set_service, set_workload, workload};

/// A client, and two servers behind the Services `web` (both), `old` and `new` of `shop`. Daemons are to be dropped before it.
#[derive(Debug)]
pub(crate) struct Shop {
    /// Who tells.
    pub(crate) plane: ControlPlane,
    /// Who calls.
    pub(crate) client: Pod,
    /// The pod `old`.
    pub(crate) old: Pod,
    /// The pod `new`.
    pub(crate) new: Pod,
    _servers: [Server; 2],
    /// Where it all is.
    pub(crate) stage: Stage,
}

impl Shop {
    /// With nothing told yet.
    pub(crate) fn silent() -> Result<Self, Failure> {
        Self::told_by("127.0.0.1:0", &[])
    }

    /// With nothing told yet, by a control plane that listens there and has further arguments.
    pub(crate) fn told_by(listen: &str, arguments: &[&str]) -> Result<Self, Failure> {
        let stage = Stage::new()?;
        let client = stage.pod("shop", "client", &[])?;
        let (old, new) = (stage.pod("shop", "old", &[HTTP])?, stage.pod("shop", "new", &[HTTP])?);
        let servers = [Server::nginx(&old, 80)?, Server::nginx(&new, 80)?];
        let plane = ControlPlane::start_with(stage.node.netns(), &tools(), listen, arguments)?;
        Ok(Self { plane, client, old, new, _servers: servers, stage })
    }

    /// With the whole mesh told, in Istio's words.
    pub(crate) fn told() -> Result<Self, Failure> {
        let mut shop = Self::silent()?;
        let mesh = shop.mesh();
        shop.plane.change(&mesh)?;
        Ok(shop)
    }

    /// The whole mesh, in Istio's words.
    pub(crate) fn mesh(&self) -> Vec<Change> {
        vec![
            set_workload(workload(&self.client, &[], &[])),
            set_workload(self.said_of_old()),
            set_workload(self.said_of_new()),
            set_service(web()),
            set_service(service("shop", "old", vip(11))),
            set_service(service("shop", "new", vip(12))),
        ]
    }

    /// What istiod says of the pod `old`.
    pub(crate) fn said_of_old(&self) -> messages::Workload {
        workload(&self.old, &["web", "old"], &[])
    }

    /// What istiod says of the pod `new`.
    pub(crate) fn said_of_new(&self) -> messages::Workload {
        workload(&self.new, &["web", "new"], &[])
    }

    /// A daemon that asks the control plane, once it is ready.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        let mut daemon = self.launch(arguments)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// A daemon that asks the control plane, ready or not.
    pub(crate) fn launch(&self, arguments: &[&str]) -> Result<Daemon, KitError> {
        let address = self.plane.address();
        let url = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
        let given = if arguments.contains(&"--discovery") { vec![] } else { vec!["--discovery", &url] };
        let arguments = given.iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let options = Options { arguments, ..Options::default() };
        Daemon::launch(&self.stage.node, self.stage.manifests.path(), &options)
    }

    /// Kills the control plane, and starts another at its place that serves this.
    pub(crate) fn restart(&mut self, changes: &[Change]) -> Outcome {
        let (netns, address) = (self.stage.node.netns(), self.plane.address());
        let mut fresh = ControlPlane::start_with(netns, &tools(), address, &["-stopped"])?;
        fresh.change(changes)?;
        self.plane = fresh;
        Ok(self.plane.listen()?)
    }

    /// Asks the Service `web`.
    pub(crate) fn get(&self) -> Result<Answer, RequestError> {
        self.ask(10)
    }

    /// Asks the Service with the VIP of this number, on a connection of its own.
    pub(crate) fn ask(&self, host: u8) -> Result<Answer, RequestError> {
        http::get(&self.client, at(host), "web.shop", "/")
    }

    /// Whether the Service `web` answers.
    pub(crate) fn answers(&self) -> bool {
        self.get().is_ok_and(|answer| answer.status == 200)
    }

    /// Why the Service `web` refuses; empty where it does not.
    pub(crate) fn refusal(&self) -> String {
        self.get().map(|answer| answer.header("canopy-refused").to_owned()).unwrap_or_default()
    }

    /// Waits until both servers have answered traffic to `web`, neither of which may fail.
    pub(crate) fn both_answer(&self, traffic: &Traffic) -> Outcome {
        let before = traffic.tally();
        eventually("both answer", || {
            let since = traffic.tally().since(&before);
            since.failures > 0 || since.of("old") > 0 && since.of("new") > 0
        })?;
        let since = traffic.tally().since(&before);
        assert_eq!(since.failures, 0, "{since:?}");
        Ok(())
    }

    /// Tells of changes and waits until the daemon has taken each, and its cells have taken it up.
    pub(crate) fn serve(&mut self, daemon: &Daemon, changes: &[Change]) -> Outcome {
        Ok(e2e::in_force(daemon, |_| self.plane.serve(changes))?)
    }
}

/// What istiod says of the Service `web`.
pub(crate) fn web() -> messages::Service {
    service("shop", "web", vip(10))
}

fn tools() -> PathBuf {
    repository().join("target/tools")
}

/// The VIP of this number.
pub(crate) fn vip(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, host))
}

/// Port 80 of a VIP.
pub(crate) fn at(host: u8) -> SocketAddr {
    SocketAddr::new(vip(host), 80)
}

/// What goes wrong in a test.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
