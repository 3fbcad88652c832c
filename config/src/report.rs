//! What `canopy validate` and the daemon tell about a directory: counts, and every finding with its place.
//!
//! Text for people, JSON for programs; both from the same [`Report`]. It must never decide anything: what is
//! accepted was decided when the manifests were lowered.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    capacity::{Amounts, overcommit},
    finding::{Finding, Severity},
    model::{Effect, Tenant},
    store::Outcome,
};

pub use self::text::{TextOptions, render_text};

mod text;

/// What there is to say about a set of files.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether nothing was rejected. `canopy validate` exits 0 then, else 1.
    pub ok: bool,
    /// Counts.
    pub summary: Summary,
    /// Every finding, by file and line.
    pub findings: Vec<Finding>,
    /// What each tenant that has a budget may use on each node.
    pub budgets: Vec<TenantBudget>,
    /// What tenants are promised beyond what the machine has, where it was [said](Report::on) what that is.
    pub overcommit: Vec<String>,
}

/// What one tenant may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantBudget {
    /// Whose it is.
    pub tenant: String,
    /// Each number and what it does.
    pub effects: Vec<Effect>,
}

/// Counts of what is in force and of what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Files that were given.
    pub files: usize,
    /// Objects in force.
    pub accepted: usize,
    /// Tenants of the mesh.
    pub tenants: usize,
    /// Workloads of the mesh.
    pub workloads: usize,
    /// Services of the mesh.
    pub services: usize,
    /// Routes of the mesh.
    pub routes: usize,
    /// Findings by severity.
    pub findings: BTreeMap<&'static str, usize>,
}

impl Report {
    /// Sums up the outcome of [`crate::store::Store::apply`].
    pub fn new(outcome: &Outcome) -> Self {
        let mesh = &outcome.mesh;
        let mut findings = BTreeMap::new();
        for severity in [Severity::Rejected, Severity::Warning, Severity::NotObeyed, Severity::Ignored] {
            let count = outcome.findings.iter().filter(|finding| finding.severity == severity).count();
            findings.insert(severity.as_str(), count);
        }
        let summary = Summary {
            files: outcome.files,
            accepted: outcome.accepted,
            tenants: mesh.tenants.len(),
            workloads: mesh.workloads.len(),
            services: mesh.services.len(),
            routes: mesh.routes.len(),
            findings,
        };
        let ok = summary.count(Severity::Rejected) == 0;
        let budgets = mesh.tenants.values().map(|tenant| TenantBudget::of(tenant));
        let budgets = budgets.filter(|budget| !budget.effects.is_empty()).collect();
        Self { ok, summary, findings: outcome.findings.clone(), budgets, overcommit: Vec::new() }
    }

    /// The same, of a machine on which all the tenants are.
    pub fn on(mut self, outcome: &Outcome, machine: Amounts, reserve: Amounts) -> Self {
        let tenants = outcome.mesh.tenants.values().map(|tenant| &**tenant);
        let overcommit = overcommit(tenants, machine, reserve);
        self.overcommit = overcommit.iter().map(ToString::to_string).collect();
        self
    }

    /// Whether there is nothing in it at all: most likely another directory was meant.
    pub fn is_empty(&self) -> bool {
        self.summary.accepted == 0 && self.findings.is_empty()
    }

    /// What a program that only validates exits with: 0, or 1 if anything was rejected.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }
}

impl TenantBudget {
    fn of(tenant: &Tenant) -> Self {
        Self { tenant: tenant.id.to_string(), effects: tenant.budget.effects() }
    }
}

impl Summary {
    /// How many findings there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.get(severity.as_str()).copied().unwrap_or(0)
    }
}

/// The report as one JSON object (`ok`, `summary`, `findings`), indented.
pub fn render_json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report)
}

#[cfg(test)]
mod tests;
