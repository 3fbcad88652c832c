//! The scenario `tiers`: the same tenants with their cells as threads of the daemon and as processes of their own.
//!
//! Nothing differs but `isolation` in the Tenant objects. Memory is what belongs to nobody else: private pages of the daemon
//! and of its cells' processes together.

use std::{net::SocketAddr, thread, time::Duration};

use testkit::Pod;

use super::{Case, Group, Manner, Plan, Scenario};
use crate::{
    Run,
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{Backends, Port},
        procfs,
    },
    outcome::{Row, median},
    subject::{Canopy, Kind, Launch, Manifests, NEAR, PodEntry, Receiver, Setting, Tier},
};

impl Scenario {
    /// What a process of its own costs a cell that serves, and one that hands over to another.
    pub(crate) fn tiers() -> Self {
        Self {
            name: NAME,
            groups: vec![
                group("tier-direct", Receiver::SameTenant, ["same-tenant", "same-tenant-c1"]),
                group("tier-handoff", Receiver::OtherTenant, ["handoff", "handoff-c1"]),
            ],
        }
    }
}

fn group(name: &'static str, receiver: Receiver, [many, one]: [&'static str; 2]) -> Group {
    let cases = vec![Case::small(many, 32), Case::small(one, 1).in_manner(Manner::Awake)];
    let [thread, process] = [Tier::Thread, Tier::Process].map(|tier| Kind::CanopyTier(tier, receiver));
    Group { name, cases, subjects: vec![thread, process], against_itself: process }
}

/// Rows `further-thread` and `further-process`: bytes that a further idle tenant has for itself.
pub(crate) fn memory(plan: Plan, run: &Run) -> Result<Vec<Row>, BenchError> {
    let setting = run.setting("tiers/memory")?;
    let nodes = Nodes::one()?;
    let server = lab::pod(nodes.here(), "bench", "server")?;
    let client = lab::pod(nodes.here(), "bench", "client")?;
    let _backends = Backends::start(&server, &setting.directory.join("backends"))?;
    let mut further = Vec::new();
    for number in 0..FURTHER {
        further.push(lab::pod(nodes.here(), &format!("bench{number}"), &format!("idle{number}"))?);
    }
    let scene = Scene { nodes, server, client, further, setting: &setting, plan };
    let mut rows = Vec::new();
    for (tier, case) in [(Tier::Thread, "further-thread"), (Tier::Process, "further-process")] {
        let mut each = Vec::new();
        for round in 0..plan.rounds {
            run.check_interrupt()?;
            run.progress(&format!("{NAME}: round {} of {}, memory, {case}", round + 1, plan.rounds));
            let (alone, all) = (scene.private(tier, 0)?, scene.private(tier, FURTHER)?);
            each.push((all - alone) / FURTHER as f64);
        }
        let subject = Kind::CanopyTier(tier, Receiver::SameTenant).name().to_owned();
        rows.push(Row { case: case.into(), subject, rss_bytes: median(&each), ..Row::default() });
    }
    Ok(rows)
}

struct Scene<'a> {
    nodes: Nodes,
    server: Pod,
    client: Pod,
    further: Vec<Pod>,
    setting: &'a Setting,
    plan: Plan,
}

impl Scene<'_> {
    /// Private bytes of a fresh daemon and of its cells' processes, with so many further tenants.
    fn private(&self, tier: Tier, further: usize) -> Result<f64, BenchError> {
        let mut manifests = Manifests::default();
        manifests.tenant("bench");
        manifests.pod(&PodEntry::of(&self.client));
        manifests.pod(&PodEntry::of(&self.server));
        manifests.service(&PodEntry::of(&self.server));
        for pod in &self.further[..further] {
            manifests.tenant(pod.namespace());
            manifests.pod(&PodEntry::of(pod));
            manifests.tier(pod.namespace(), tier);
        }
        let (kind, node) = (Kind::CanopyTier(tier, Receiver::SameTenant), self.nodes.here());
        let launch = Launch { name: kind.name(), node, called: NEAR, kind, manifests: &manifests };
        let mut canopy = Canopy::start(&launch, self.setting)?;
        canopy.first_answer(&self.client, SocketAddr::from((crate::subject::VIP, Port::Http.number())))?;
        canopy.wait_enrolled(2 + further as u64)?;
        thread::sleep(Duration::from_millis(self.plan.settle_ms));
        let mut private = 0;
        for pid in canopy.pids() {
            let memory = procfs::memory(pid).map_err(|e| BenchError::io("read a process's memory", e))?;
            private += memory.private;
        }
        Ok(private as f64)
    }
}

pub(crate) const NAME: &str = "tiers";
/// Tenants that are added.
const FURTHER: usize = 10;
