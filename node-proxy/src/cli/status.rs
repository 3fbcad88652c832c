//! `canopy status`: what the running daemon makes of its configuration now.
//!
//! The same findings as `canopy validate`, and what only a running daemon knows: which version is in force, which good version was kept.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use config::finding::visible;
use serde_json::Value;

use super::{
    Daemon, Outcome, runtime,
    style::{Palette, age},
};
use crate::admin::client;

mod objects;

/// Tell what the running daemon makes of its configuration: version in force, findings, versions kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy status
  canopy status --json | jq '.findings[] | select(.severity == \"rejected\")'
  canopy status --objects              each object that is not as its author wants it: its conditions, as Gateway API has them
  canopy status --objects --all --json | jq '.objects[] | select(.kind == \"HTTPRoute\")'

Exit code 0: nothing is rejected (with --objects: all are as their authors want them); 1: something is not, or no daemon answers.")]
pub(super) struct Status {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    /// Tell of objects instead of findings: of those whose conditions are not as their author wants them.
    #[arg(long)]
    objects: bool,
    /// Of all objects.
    #[arg(long, requires = "objects")]
    all: bool,
}

impl Status {
    pub(super) fn run(self) -> Outcome {
        if self.objects {
            return objects::run(&self.daemon, self.json, self.all);
        }
        let status: Value = runtime()?.block_on(client::get(&self.daemon.socket(), "/status"))?;
        let text = if self.json {
            serde_json::to_string_pretty(&status)? + "\n"
        } else {
            render(&status, Palette::of_stdout())
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        let is_rejected = |finding: &Value| finding["severity"] == "rejected";
        let rejected = findings(&status).iter().any(is_rejected);
        Ok(if rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn findings(status: &Value) -> &[Value] {
    status["findings"].as_array().map_or(&[], Vec::as_slice)
}

fn render(status: &Value, palette: Palette) -> String {
    let mut out = format!(
        "configuration {}: {} objects in force from {} files\n",
        palette.bold(&status["version"]),
        status["accepted"],
        status["files"],
    );
    if let Some(discovery) = status.get("discovery") {
        let _ = writeln!(out, "discovery: {}", stands(discovery));
    }
    let shown: Vec<_> =
        findings(status).iter().filter(|finding| finding["reason"] != "left-to-others").collect();
    for finding in &shown {
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let severity = match text("severity").as_str() {
            "rejected" => palette.red("rejected"),
            "warning" => palette.yellow("warning"),
            other => palette.dim(other),
        };
        let place = format!("{}:{}:{}", text("file"), finding["line"], finding["column"]);
        let object =
            [&finding["object"]["kind"], &finding["object"]["namespace"], &finding["object"]["name"]]
                .into_iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{severity}  {}  {object}  {}: {}",
            palette.dim(place),
            text("field"),
            text("message")
        );
    }
    if shown.is_empty() {
        out.push_str("nothing to complain about\n");
    }
    out
}

/// How the daemon stands with its control plane, in one line.
fn stands(discovery: &Value) -> String {
    let text = |name: &str| discovery[name].as_str().unwrap_or_default();
    let list = |name: &str| discovery[name].as_array().cloned().unwrap_or_default();
    let server = visible(text("server"));
    let age = age(discovery["seconds"].as_u64().unwrap_or_default().saturating_mul(1000));
    let waits_for: Vec<_> =
        list("waitsFor").iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect();
    let waits =
        || format!("; nothing is served before it has said all: waiting for {}", waits_for.join(", "));
    let is_serving = discovery["serving"] == true;
    if discovery["connected"] == true {
        let waits = if is_serving { String::new() } else { waits() };
        return format!("{server} connected for {age}, {} types{waits}", list("types").len());
    }
    let waits = if is_serving { "; serving what it said last".to_owned() } else { waits() };
    let error = discovery["error"].as_str().unwrap_or("not connected yet");
    format!("{server} away for {age}: {}{waits}", visible(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_one_line_how_it_stands_with_the_control_plane() {
        let mut discovery = serde_json::json!({
            "server": "https://istiod:15012", "connected": true, "seconds": 192, "error": null,
            "serving": true, "waitsFor": [], "types": [{}, {}],
        });
        let line = |discovery: &Value| {
            let status = serde_json::json!({"version": 1, "files": 0, "accepted": 0, "discovery": discovery});
            render(&status, Palette::plain()).lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(line(&discovery), "discovery: https://istiod:15012 connected for 3m12s, 2 types");
        discovery["connected"] = false.into();
        discovery["seconds"] = 20.into();
        discovery["error"] = "nobody listens".into();
        let away =
            "discovery: https://istiod:15012 away for 20.0s: nobody listens; serving what it said last";
        assert_eq!(line(&discovery), away);
        discovery["serving"] = false.into();
        discovery["waitsFor"] = serde_json::json!(["Tenant", "Route"]);
        assert!(line(&discovery).ends_with(
            "nobody listens; nothing is served before it has said all: waiting for Tenant, Route"
        ));
    }

    #[test]
    fn finding_is_shown_with_its_place_its_object_and_its_field() {
        let status = serde_json::json!({
            "version": 4, "files": 2, "accepted": 19,
            "findings": [{
                "severity": "rejected", "reason": "wrong-type", "file": "a.yaml", "line": 12, "column": 3,
                "object": {"kind": "Service", "namespace": "shop", "name": "cart"},
                "field": "spec.ports[0].port", "message": "must be a number"
            }]
        });
        let text = render(&status, Palette::plain());
        assert!(text.starts_with("configuration 4: 19 objects in force from 2 files\n"));
        assert!(
            text.contains("rejected  a.yaml:12:3  Service shop cart  spec.ports[0].port: must be a number")
        );
    }

    #[test]
    fn configuration_without_findings_says_so() {
        let status = serde_json::json!({"version": 1, "files": 1, "accepted": 3, "findings": []});
        assert!(render(&status, Palette::plain()).contains("nothing to complain about"));
    }
}
