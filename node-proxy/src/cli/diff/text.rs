//! A change for people: tenant by tenant, `+` what comes, `-` what goes, `~` what differs, then what follows from it.
//!
//! Lists are bounded; how much is left out is said. Nothing of what manifests say may write more than text to the terminal.

use std::{collections::BTreeSet, fmt::Display};

use config::{
    diff::{EndpointsChange, Fields, ObjectChange, RoutesChange, TermsChange, What, WorkloadChange},
    finding::{Finding, Severity, visible},
};

use super::{
    super::style::Palette,
    report::{ForTenant, Report, Unaffected},
};
use crate::explain::permissions::PermissionChange;

/// Lines of one sort that are shown of a tenant.
const SHOWN: usize = 200;
/// Of a list within a line, as many are shown.
const FEW: usize = 8;

/// The report as text.
pub(super) fn render(report: &Report, palette: Palette) -> String {
    let mut out = Out { text: String::new(), palette };
    let Report { after, read_as, before, .. } = report;
    out.line(0, &visible(&format!("{after}, as if it were {read_as}, against {before}")));
    for tenant in &report.tenants {
        out.tenant(tenant);
    }
    if !report.findings.is_empty() {
        out.line(0, "\nof no tenant");
        out.list(&report.findings, Out::finding);
    }
    if !report.permissions_complete {
        let compared = report.permissions_compared;
        let says =
            format!("\nof more than {compared} decisions about permissions, only so many were compared");
        out.line(0, &palette.yellow(says));
    }
    out.unaffected(report);
    out.text
}

struct Out {
    text: String,
    palette: Palette,
}

impl Out {
    fn line(&mut self, indent: usize, text: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn list<T>(&mut self, all: &[T], one: impl Fn(&mut Self, &T)) {
        all.iter().take(SHOWN).for_each(|item| one(self, item));
        if all.len() > SHOWN {
            self.line(2, &format!("and {} more", all.len() - SHOWN));
        }
    }

    fn tenant(&mut self, of: &ForTenant) {
        self.line(0, &format!("\ntenant {}", self.palette.bold(visible(&of.tenant))));
        self.list(&of.objects, Self::object);
        self.list(&of.terms, Self::terms);
        self.list(&of.workloads, Self::workload);
        self.list(&of.endpoints, Self::endpoints);
        self.list(&of.routes, Self::routes);
        self.list(&of.permissions, Self::permission);
        self.list(&of.findings, Self::finding);
    }

    fn sign(&self, what: What) -> String {
        match what {
            What::Added => self.palette.green("+"),
            What::Removed => self.palette.red("-"),
            What::Changed => self.palette.yellow("~"),
        }
    }

    fn object(&mut self, change: &ObjectChange) {
        let place = self.palette.dim(visible(&format!("{}:{}", change.file.display(), change.line)));
        self.line(2, &format!("{} {}  {place}", self.sign(change.what), visible(&change.object.to_string())));
        self.fields(&change.fields);
    }

    fn fields(&mut self, fields: &Fields) {
        let told = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), visible);
        for field in &fields.fields {
            let name = if field.field.is_empty() { "all of it".to_owned() } else { visible(&field.field) };
            self.line(6, &format!("{name}: {} → {}", told(&field.before), told(&field.after)));
        }
        if fields.more_fields > 0 {
            self.line(6, &format!("and {} more fields", fields.more_fields));
        }
    }

    fn terms(&mut self, change: &TermsChange) {
        self.line(2, &format!("{} what the tenant may, by others' word", self.sign(What::Changed)));
        self.fields(&change.fields);
    }

    fn workload(&mut self, change: &WorkloadChange) {
        let what = match change.what {
            What::Added => "comes",
            What::Removed => "goes, and its connections end",
            What::Changed => "becomes another: it is planted anew, and its connections end",
        };
        self.consequence("workload", &format!("{} {what}", change.pod));
    }

    fn endpoints(&mut self, change: &EndpointsChange) {
        let list = |sign: &str, all: &BTreeSet<_>| {
            if all.is_empty() { String::new() } else { format!(" {sign} {}", few(all)) }
        };
        let (added, removed) = (list("+", &change.added), list("-", &change.removed));
        let says = format!("of Service {} port {}:{added}{removed}", change.service, change.port);
        self.consequence("endpoints", &says);
    }

    fn routes(&mut self, change: &RoutesChange) {
        let whom = match &change.callers {
            None => "for all its callers, but those that have routes of their own".to_owned(),
            Some(namespace) => format!("for callers of namespace {namespace} alone"),
        };
        let names: BTreeSet<String> =
            change.routes.iter().map(|route| format!("{} {route}", route.kind)).collect();
        let says = format!("of Service {}: {}, {whom}", change.service, few(&names));
        self.consequence("routes", &says);
    }

    fn permission(&mut self, change: &PermissionChange) {
        let (word, was) = if change.granted { ("granted", "was") } else { ("revoked", "is") };
        let ports = match (change.ports.is_empty(), change.other_ports) {
            (false, false) => format!("at port {}", few(&change.ports)),
            (false, true) => format!("at port {} and all others", few(&change.ports)),
            (true, _) => "at all other ports".to_owned(),
        };
        let by = change.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let pods =
            if change.pairs == 1 { String::new() } else { format!(", {} pairs of pods", change.pairs) };
        let says = format!(
            "{} → {} {ports}: {was} refused{by} ({}{pods})",
            account(&change.caller),
            account(&change.receiver),
            change.reason
        );
        self.consequence(word, &says);
    }

    fn consequence(&mut self, what: &str, says: &str) {
        let what = format!("{what:<10}");
        let what = match what.trim_end() {
            "granted" => self.palette.green(what),
            "revoked" => self.palette.red(what),
            _ => self.palette.cyan(what),
        };
        self.line(2, &format!("{what} {}", visible(says)));
    }

    fn finding(&mut self, finding: &Finding) {
        let text = finding.to_string();
        let text = if finding.severity == Severity::Rejected { self.palette.red(text) } else { text };
        self.line(2, &text);
    }

    fn unaffected(&mut self, report: &Report) {
        let (quiet, calling): (Vec<&Unaffected>, Vec<_>) =
            report.unaffected.iter().partition(|one| one.calls.is_empty());
        if !report.unaffected.is_empty() {
            self.text.push('\n');
        }
        if !quiet.is_empty() {
            let names = quiet.iter().map(|one| visible(&one.tenant)).collect::<Vec<_>>().join(", ");
            self.line(0, &format!("nothing changes for {names}"));
        }
        for Unaffected { tenant, calls } in calling {
            let says = format!(
                "nothing changes for {tenant}, but how its calls to Service {} are routed",
                few(calls)
            );
            self.line(0, &visible(&says));
        }
        if !report.differs && report.unaffected.is_empty() {
            self.line(0, "nothing changes");
        }
    }
}

/// An identity without what all of the mesh have.
fn account(identity: &str) -> &str {
    identity.split_once("/ns/").map_or(identity, |(_, account)| account)
}

fn few<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let told: Vec<String> = all.by_ref().take(FEW).map(|one| one.to_string()).collect();
    match all.count() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}
