//! The scenario `tiers`: the same tenants with their cells as threads of the daemon and as processes of their own.
//!
//! Nothing differs but `isolation` in the Tenant objects. Memory is what belongs to nobody else: private pages of the daemon
//! and of its cells' processes together.

use super::{
    Case, Group, Manner, Plan, Scenario,
    idle::{self, Scene},
};
use crate::{
    Run,
    error::BenchError,
    lab::procfs,
    outcome::{Row, median},
    subject::{Canopy, Kind, Manifests, Receiver, Tier},
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
    let scene = Scene::new(&setting, plan, FURTHER)?;
    let mut rows = Vec::new();
    for (tier, case) in [(Tier::Thread, "further-thread"), (Tier::Process, "further-process")] {
        let of_tier = move |manifests: &mut Manifests, number, entry| {
            let namespace = idle::tenant(manifests, number, entry);
            manifests.tier(&namespace, tier);
        };
        let kind = Kind::CanopyTier(tier, Receiver::SameTenant);
        let mut each = Vec::new();
        for round in 0..plan.rounds {
            run.check_interrupt()?;
            run.progress(&format!("{NAME}: round {} of {}, memory, {case}", round + 1, plan.rounds));
            let alone = private(&scene.daemon(kind, None)?.0)?;
            let all = private(&scene.daemon(kind, Some(&of_tier))?.0)?;
            each.push((all - alone) / FURTHER as f64);
        }
        let subject = kind.name().to_owned();
        rows.push(Row { case: case.into(), subject, rss_bytes: median(&each), ..Row::default() });
    }
    Ok(rows)
}

/// Private bytes of a daemon and of its cells' processes.
fn private(canopy: &Canopy) -> Result<f64, BenchError> {
    let mut private = 0;
    for pid in canopy.pids() {
        let memory = procfs::memory(pid).map_err(|e| BenchError::io("read a process's memory", e))?;
        private += memory.private;
    }
    Ok(private as f64)
}

pub(crate) const NAME: &str = "tiers";
/// Tenants that are added.
const FURTHER: usize = 10;
