//! The report for people: one finding per paragraph, with the line and a caret under the column.

use std::fmt::Write;

use super::Report;
use crate::{
    finding::{Finding, Reason, Severity, visible},
    model::Effect,
};

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// Also every field that other parts of Kubernetes act on; else they are counted only.
    pub all: bool,
}

/// The report as text, ending with a line that sums up.
pub fn render_text(report: &Report, options: TextOptions) -> String {
    let mut out = String::new();
    let mut left_to_others = 0;
    for finding in &report.findings {
        if finding.reason == Reason::LeftToOthers && !options.all {
            left_to_others += 1;
            continue;
        }
        paragraph(&mut out, finding);
    }
    if left_to_others > 0 {
        line(&mut out, format_args!("({left_to_others} fields are left to other parts of Kubernetes)"));
    }
    if report.is_empty() {
        let what =
            if report.summary.files == 0 { "no manifest was found" } else { "no file holds an object" };
        line(
            &mut out,
            format_args!(
                "warning: {what}: is it the right directory? (read are .yaml, .yml and .json, not in subdirectories)"
            ),
        );
    }
    for budget in &report.budgets {
        line(&mut out, format_args!("budget of tenant {}, on each node:", budget.tenant));
        for Effect { field, value, effect } in &budget.effects {
            line(&mut out, format_args!("  {field} {value}: {effect}"));
        }
    }
    for overcommit in &report.overcommit {
        line(&mut out, format_args!("warning: {overcommit}"));
    }
    sum_up(&mut out, report);
    out
}

fn paragraph(out: &mut String, finding: &Finding) {
    line(out, format_args!("{finding}"));
    let Some(excerpt) = finding.excerpt.as_deref().filter(|excerpt| !excerpt.trim().is_empty()) else {
        return;
    };
    let number = finding.position.line.to_string();
    // Tabs stay tabs under themselves, so that the caret stands where the column is.
    let column = usize::try_from(finding.position.column).unwrap_or(1).max(1) - 1;
    let before: String = excerpt.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    line(out, format_args!("  {number} | {}", visible(excerpt)));
    if before.chars().count() == column {
        line(out, format_args!("  {} | {before}^", " ".repeat(number.len())));
    }
}

fn sum_up(out: &mut String, report: &Report) {
    let summary = &report.summary;
    line(
        out,
        format_args!(
            "{} files: {} objects accepted ({} tenants, {} workloads, {} services, {} routes)",
            summary.files,
            summary.accepted,
            summary.tenants,
            summary.workloads,
            summary.services,
            summary.routes
        ),
    );
    let counts = [Severity::Rejected, Severity::Warning, Severity::NotObeyed, Severity::Ignored]
        .map(|severity| format!("{} {}", summary.count(severity), severity.as_str()));
    line(out, format_args!("{}", counts.join(", ")));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
