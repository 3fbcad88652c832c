//! One proxy that two tenants share and that follows a control plane of its own: a victim with a steady rate, and a neighbour whose
//! configuration changes.
//!
//! The control plane is go-control-plane for both proxies, over delta ADS and a Unix socket. It is told resources that lie ready, so
//! that what is measured is the proxy, not who writes them. Nothing of the victim's ever changes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use testkit::{
    Pod,
    control_plane::{Change, ControlPlane, Event, Request, Step, Totals},
};

use self::{objects::Objects, tables::Tables};
use super::{Backed, Canopy, Kind, Launch, NEAR, Setting, Side, envoy, shared::tenants_of_envoy};
use crate::{
    clock,
    error::BenchError,
    lab::{
        Nodes,
        backends::{self, Port},
    },
    load,
};

mod objects;
mod tables;

/// What becomes of the neighbour's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The first route says this number in a header from now on.
    Mark(u64),
    /// The second of two endpoints comes or goes.
    Endpoint { there: bool },
    /// One route more comes or goes.
    Route { there: bool },
    /// A policy becomes another one.
    Policy { other: bool },
    /// What cannot be read takes the place of a route; in one of two ways.
    Broken { other: bool },
}

/// A proxy with two tenants, ready for load.
#[derive(Debug)]
pub(crate) struct Following {
    pub kind: Kind,
    // Proxies end before who tells them, and before their servers.
    proxy: Proxy,
    plane: ControlPlane,
    told: Told,
    /// The number of the change that comes next.
    next: u64,
    backed: Backed,
}

#[derive(Debug)]
enum Proxy {
    Canopy(Canopy),
    Envoy(envoy::Envoy),
}

/// What the control plane is told of an edit.
#[derive(Debug)]
enum Told {
    Canopy(Box<Objects>),
    Envoy(Tables),
}

impl Following {
    /// Makes the pods and starts what runs in and between them.
    pub(crate) fn start(kind: Kind, nodes: &Nodes, setting: &Setting) -> Result<Self, BenchError> {
        let directory = setting.directory.join(kind.name());
        let backed = Backed::start(kind, nodes, &directory, SERVERS)?;
        let told = if kind.is_canopy() {
            Told::Canopy(Box::new(Objects::of(&backed)?))
        } else {
            Told::Envoy(Tables::at(backed.server(Side::Aggressor).v4().into()))
        };
        let address = control_plane(&directory);
        let mut plane = ControlPlane::start(nodes.here().netns(), &setting.tools, &address)?;
        plane.change(&told.all())?;
        let proxy = match &told {
            Told::Canopy(objects) => {
                let manifests = objects.pods();
                let launch = Launch { name: kind.name(), node: nodes.here(), called: NEAR, kind, manifests };
                Proxy::Canopy(Canopy::start(&launch, setting)?)
            }
            Told::Envoy(_) => {
                let (tenants, socket) = (tenants_of_envoy(&backed), socket(&directory));
                Proxy::Envoy(envoy::Envoy::start_following(&tenants, &socket, setting, &directory)?)
            }
        };
        let mut started = Self { kind, proxy, plane, told, next: FIRST, backed };
        started.first_answers()?;
        Ok(started)
    }

    fn first_answers(&mut self) -> Result<(), BenchError> {
        for (side, path) in [
            (Side::Victim, format!("/{}", backends::SMALL)),
            (Side::Aggressor, backends::route(MARKED)),
            (Side::Aggressor, backends::route(ROUTES - 1)),
        ] {
            let target = self.target(side);
            let client = self.backed.client(side);
            match &mut self.proxy {
                Proxy::Canopy(canopy) => drop(canopy.first_answer_at(client, target, &path)?),
                Proxy::Envoy(_) => {
                    let answers = || load::is_answering(target, &path, READY);
                    let is_there = client.run(|| clock::wait_until(READY, answers))?;
                    if !is_there {
                        return Err(BenchError::Load(format!("no answer for {path} of {}", side.name())));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a tenant's load runs.
    pub(crate) fn client(&self, side: Side) -> &Pod {
        self.backed.client(side)
    }

    /// What a tenant's client dials for HTTP/1.1.
    pub(crate) fn target(&self, side: Side) -> SocketAddr {
        match &self.proxy {
            Proxy::Canopy(_) => SocketAddr::from((side.address(), Port::Http.number())),
            Proxy::Envoy(_) => envoy::listener(Port::Http),
        }
    }

    /// The proxy's process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.proxy {
            Proxy::Canopy(canopy) => canopy.pid(),
            Proxy::Envoy(envoy) => envoy.pid(),
        }
    }

    /// Requests of HTTP/1.1 that the proxy has carried for the victim; of the daemon's for both tenants, which is no less.
    pub(crate) fn carried(&self) -> Result<u64, BenchError> {
        match &self.proxy {
            Proxy::Canopy(canopy) => canopy.carried(Port::Http),
            Proxy::Envoy(envoy) => envoy.carried(Port::Http),
        }
    }

    /// The number of the change that comes next. They count up over the subject's life.
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Tells the control plane of an edit; `None` where this proxy has nothing that it would be. When this returns, the control plane
    /// has taken it.
    pub(crate) fn tell(&mut self, edit: Edit) -> Result<Option<u64>, BenchError> {
        let changes = self.told.edit(edit);
        if changes.is_empty() {
            return Ok(None);
        }
        let at = clock::now();
        self.plane.change(&changes)?;
        Ok(Some(at))
    }

    /// How often the proxy has refused what it was told so far.
    pub(crate) fn refusals(&mut self) -> u64 {
        let is_one = |event: &&Event| matches!(event, Event::Request(Request { step: Step::Nack, .. }));
        self.plane.all_events().iter().filter(is_one).count() as u64
    }

    /// What has gone between the control plane and the proxy so far.
    pub(crate) fn totals(&mut self) -> Result<Totals, BenchError> {
        Ok(self.plane.totals()?)
    }
}

impl Told {
    fn all(&self) -> Vec<Change> {
        match self {
            Self::Canopy(objects) => objects.all(),
            Self::Envoy(tables) => tables.all(),
        }
    }

    fn edit(&mut self, edit: Edit) -> Vec<Change> {
        match self {
            Self::Canopy(objects) => objects.edit(edit),
            Self::Envoy(tables) => tables.edit(edit),
        }
    }
}

/// Where a proxy whose files are there finds its control plane, as either is told.
pub(super) fn control_plane(directory: &Path) -> String {
    format!("unix:{}", socket(directory).display())
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("ads.sock")
}

/// A number as it is said in the header: always as long, so that all changes are.
fn mark(number: u64) -> String {
    format!("{number:08}")
}

/// How many servers the neighbour has, of which the last comes and goes.
const SERVERS: u16 = 2;
/// How many routes it has, of which the first says the number of its last change; what is broken is the second.
const ROUTES: usize = 100;
/// The route that is asked for.
pub(crate) const MARKED: usize = 0;
/// The one that is broken.
const BROKEN: usize = 1;
/// The number of the first change: at the beginning it is 0.
const FIRST: u64 = 10;
/// How long a proxy may take to answer first.
const READY: std::time::Duration = std::time::Duration::from_secs(20);
