//! What there is to say about the configuration as it is now: for the log, `/status` and the metrics.
//!
//! Each finding is logged once, when it comes and when it goes. It must never hold more findings than there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use config::{
    finding::{Finding, ObjectRef, Reason, Severity},
    model::Mesh,
    name::TenantId,
    store::{Basis, Outcome},
};

use super::standings::Standings;
use crate::{snapshot::Snapshot, tenancy::events::News};

/// Findings that are logged one by one at a time; of more, only the number.
const LOGGED: usize = 100;

/// The status of the configuration. Written by the control thread, read by anybody.
#[derive(Debug, Default)]
pub struct Status(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    version: u64,
    files: usize,
    accepted: usize,
    findings: Vec<Finding>,
    standings: Standings,
    since: Option<SystemTime>,
    in_force: Arc<InForce>,
}

/// What the forest was told last.
#[derive(Debug, Default)]
pub struct InForce {
    /// What all objects together say.
    pub mesh: Arc<Mesh>,
    /// Each tenant's part of it, compiled.
    pub snapshots: BTreeMap<TenantId, Arc<Snapshot>>,
    /// The objects that it is made of.
    pub basis: Basis,
}

impl Status {
    /// Takes in what came of the configuration, logs what is new about it, and gives what of that is news for tenants' owners.
    pub(super) fn take(&self, outcome: &Outcome, now: SystemTime) -> Vec<(TenantId, News)> {
        let mut known = self.known();
        log_difference(&known.findings, &outcome.findings);
        let mut standings = std::mem::take(&mut known.standings);
        let news = standings.take(&outcome.standings, |owner| outcome.mesh.tenants.contains_key(owner), now);
        let is_same = known.version == outcome.mesh.version;
        let since = known.since.filter(|_| is_same).or(Some(now));
        *known = Known {
            version: outcome.mesh.version,
            files: outcome.files,
            accepted: outcome.accepted,
            findings: outcome.findings.clone(),
            standings,
            since,
            in_force: Arc::clone(&known.in_force),
        };
        news
    }

    /// Notes what the forest is told.
    pub(super) fn tell(&self, in_force: InForce) {
        let before = std::mem::replace(&mut self.known().in_force, Arc::new(in_force));
        // Not while others wait: it may be the last to hold what is large.
        drop(before);
    }

    /// What is in force.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.known().in_force)
    }

    /// What is said about the configuration now, each thing without its place.
    pub fn said(&self) -> BTreeSet<String> {
        self.known().findings.iter().map(Finding::gist).collect()
    }

    /// Findings that reject something, now.
    pub fn rejected(&self) -> usize {
        self.known().findings.iter().filter(|finding| finding.severity == Severity::Rejected).count()
    }

    /// Pods that are not carried as they were to be, each with the reason of its Event and why: by what they run on they cannot be in the
    /// mesh, or they have no sidecar.
    pub fn otherwise(&self) -> BTreeMap<ObjectRef, (&'static str, String)> {
        let event = |finding: &Finding| match (finding.severity, finding.reason) {
            (Severity::Warning, Reason::NotAWorkload) => Some("NotCaptured"),
            (Severity::Warning, Reason::NoSidecar) => Some("NoSidecar"),
            _ => None,
        };
        let of =
            |finding: &Finding| Some((finding.object.clone()?, (event(finding)?, finding.message.clone())));
        self.known().findings.iter().filter_map(of).collect()
    }

    /// Objects that are not accepted now, by why.
    pub fn rejected_objects(&self) -> BTreeMap<&'static str, u64> {
        self.known().standings.rejected()
    }

    /// Since when the configuration is of the version that it is; `None` before the first.
    pub fn since(&self) -> Option<SystemTime> {
        self.known().since
    }

    /// What became of each object: of a tenant, or of all.
    pub fn objects(&self, tenant: Option<&str>) -> serde_json::Value {
        self.known().standings.to_json(tenant)
    }

    /// All of it.
    pub fn to_json(&self) -> serde_json::Value {
        let known = self.known();
        serde_json::json!({
            "version": known.version,
            "files": known.files,
            "accepted": known.accepted,
            "findings": known.findings,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_difference(before: &[Finding], now: &[Finding]) {
    // As after most changes: nothing is made into texts for that.
    if before == now {
        return;
    }
    let texts = |findings: &[Finding]| -> BTreeSet<String> {
        findings.iter().filter(|finding| matters(finding)).map(ToString::to_string).collect()
    };
    let (before, after) = (texts(before), texts(now));
    let new = now.iter().filter(|finding| matters(finding) && !before.contains(&finding.to_string()));
    let mut left_out = 0;
    for (number, finding) in new.enumerate() {
        match finding.severity {
            _ if number >= LOGGED => left_out += 1,
            Severity::Rejected => tracing::error!("{finding}"),
            Severity::Warning => tracing::warn!("{finding}"),
            Severity::NotObeyed | Severity::Ignored => tracing::info!("{finding}"),
        }
    }
    if left_out > 0 {
        tracing::warn!(findings = left_out, "further findings: see `canopy validate` or /status");
    }
    for gone in before.difference(&after).take(LOGGED) {
        tracing::info!("no longer: {gone}");
    }
}

/// What is meant for others than Canopy is in the status, not in the log.
fn matters(finding: &Finding) -> bool {
    finding.severity != Severity::Ignored && finding.reason != Reason::LeftToOthers
}
