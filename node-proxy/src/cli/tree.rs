//! `canopy tree`: the forest as a tree: tenant → workload and identity → listeners → live connections.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde::Deserialize as _;

use super::{
    Daemon, Outcome, runtime,
    style::{Palette, age, bytes},
};
use crate::{
    admin::client,
    forest::describe::{
        CellDescription, CertificateDescription, ConnectionDescription, ForestDescription, TreeDescription,
        Usage, WaitingDescription,
    },
    telemetry::access::rfc3339,
};

/// Show who is carried now: tenants, identities, listeners, live connections, and what each cell uses.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy tree                   the forest once
  canopy tree --watch 1         again every second
  canopy tree --json | jq '.cells[] | {tenant, usage}'")]
pub(super) struct Tree {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    /// Show it again every SECONDS.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

impl Tree {
    pub(super) fn run(self) -> Outcome {
        let palette = Palette::of_stdout();
        runtime()?.block_on(async {
            loop {
                let forest: ForestDescription = client::get(&self.daemon.socket(), "/tree").await?;
                let text =
                    if self.json { serde_json::to_string(&forest)? + "\n" } else { render(&forest, palette) };
                let mut out = io::stdout().lock();
                if self.watch.is_some() && !self.json {
                    // Home and clear to the end of the screen.
                    out.write_all(b"\x1b[H\x1b[2J")?;
                }
                out.write_all(text.as_bytes())?;
                out.flush()?;
                drop(out);
                let Some(seconds) = self.watch else { return Ok(ExitCode::SUCCESS) };
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        })
    }
}

/// One pod of what a daemon says, which may be of another version; `None` where it is not there, or what is said cannot be read.
pub(super) fn of_pod(said: &serde_json::Value, namespace: &str, name: &str) -> Option<String> {
    let mut forest = ForestDescription::deserialize(said).ok()?;
    let is_it =
        |tree: &TreeDescription| tree.pod.namespace.as_str() == namespace && tree.pod.name.as_str() == name;
    forest.cells.iter_mut().for_each(|cell| cell.trees.retain(is_it));
    forest.cells.retain(|cell| !cell.trees.is_empty());
    forest.waiting.clear();
    (!forest.cells.is_empty()).then(|| render(&forest, Palette::plain()))
}

/// The forest as text.
fn render(forest: &ForestDescription, palette: Palette) -> String {
    let mut out = format!(
        "{} {}  steering {}  configuration {}\n",
        palette.bold(format!("canopy/{}", forest.instance)),
        forest.canopy_version,
        forest.redirect,
        forest.configuration_version,
    );
    if forest.cells.is_empty() {
        out.push_str("no cells: no tenant has a workload on this node\n");
    }
    for (index, cell) in forest.cells.iter().enumerate() {
        render_cell(&mut out, cell, Branch::new("", index + 1 == forest.cells.len()), palette);
    }
    for WaitingDescription { pod, tenant, problem } in &forest.waiting {
        line(
            &mut out,
            "",
            format_args!("{} {} (tenant {tenant}): {problem}", palette.red("waiting"), palette.cyan(pod)),
        );
    }
    out
}

/// The drawing before a line and before the lines below it.
struct Branch {
    own: String,
    below: String,
}

impl Branch {
    fn new(indent: &str, is_last: bool) -> Self {
        let (own, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        Self { own: format!("{indent}{own}"), below: format!("{indent}{below}") }
    }
}

fn render_cell(out: &mut String, cell: &CellDescription, branch: Branch, palette: Palette) {
    let state = match cell.state.as_str() {
        "running" => palette.green("running"),
        other => palette.yellow(other),
    };
    let restarts = if cell.restarts == 0 { String::new() } else { format!("  restarts {}", cell.restarts) };
    line(
        out,
        &branch.own,
        format_args!("tenant {}  {state}{restarts}  {}", palette.bold(&cell.tenant), usage(&cell.usage)),
    );
    let refusals = &cell.usage.refusals;
    if !refusals.is_empty() {
        let listed: Vec<_> = refusals.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        line(
            out,
            &format!("{}│  ", branch.below),
            format_args!("{}", palette.red(format!("refused: {}", listed.join(", ")))),
        );
    }
    for (index, tree) in cell.trees.iter().enumerate() {
        render_tree(out, tree, Branch::new(&branch.below, index + 1 == cell.trees.len()), palette);
    }
}

fn usage(usage: &Usage) -> String {
    format!(
        "cpu {:.2}s  heap {}  connections {} open of {}  requests {} in flight of {}  {} in  {} out",
        usage.cpu_seconds,
        bytes(usage.heap_bytes),
        usage.connections_open,
        usage.connections,
        usage.requests_in_flight,
        usage.requests,
        bytes(usage.bytes_received),
        bytes(usage.bytes_sent),
    )
}

fn render_tree(out: &mut String, tree: &TreeDescription, branch: Branch, palette: Palette) {
    line(out, &branch.own, format_args!("{}  {}", palette.cyan(&tree.pod), palette.dim(&tree.identity)));
    let hidden = tree.connections_open.saturating_sub(tree.connections.len() as u64);
    let certificate = usize::from(tree.certificate.is_some());
    let lines = certificate + tree.listeners.len() + tree.connections.len() + usize::from(hidden > 0);
    let mut drawn = 0;
    let mut next = || {
        drawn += 1;
        Branch::new(&branch.below, drawn == lines).own
    };
    if let Some(certificate) = &tree.certificate {
        line(out, &next(), format_args!("{}", render_certificate(certificate, palette)));
    }
    for listener in &tree.listeners {
        line(out, &next(), format_args!("{:<8} listens on {}", listener.side, listener.address));
    }
    for connection in &tree.connections {
        line(out, &next(), format_args!("{}", describe(connection)));
    }
    if hidden > 0 {
        line(out, &next(), format_args!("{}", palette.dim(format!("and {hidden} more connections"))));
    }
}

fn render_certificate(certificate: &CertificateDescription, palette: Palette) -> String {
    let CertificateDescription { authority, serial, not_after, problem, .. } = certificate;
    let mut text = match (serial, not_after) {
        (Some(serial), Some(not_after)) => {
            let until = rfc3339(*not_after);
            format!("certificate of {authority}, valid until {until}  {}", palette.dim(serial))
        }
        _ => palette.yellow(format!("no certificate of {authority} yet")),
    };
    if let Some(problem) = problem {
        text.push_str(&palette.red(format!("  {problem}")));
    }
    text
}

fn describe(connection: &ConnectionDescription) -> String {
    let ConnectionDescription { side, client, destination, service, protocol, age_ms, requests } = connection;
    let mut text = format!("{side:<8} {client} → {destination}");
    // Writing to a String cannot fail.
    if let Some(service) = service {
        let _ = write!(text, " ({service})");
    }
    let _ = write!(text, "  {protocol}  {}", age(*age_ms));
    if *requests > 0 {
        let _ = write!(text, "  {requests} requests");
    }
    text
}

fn line(out: &mut String, branch: &str, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{branch}{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forest() -> ForestDescription {
        serde_json::from_value(serde_json::json!({
            "instance": "default", "canopy_version": "0.1.0", "redirect": "ebpf", "configuration_version": 3,
            "waiting": [{
                "pod": {"namespace": "shop", "name": "late"}, "tenant": {"tenant": "shop"},
                "problem": "/run/netns/late is not there"
            }],
            "cells": [{
                "tenant": {"tenant": "shop"}, "state": "running", "restarts": 1,
                "usage": {
                    "cpu_seconds": 1.5, "heap_bytes": 65536, "connections": 9, "connections_open": 3,
                    "requests": 70, "requests_in_flight": 1, "bytes_received": 100, "bytes_sent": 2048,
                    "refusals": {"no_route": 2}
                },
                "trees": [{
                    "pod": {"namespace": "shop", "name": "frontend"},
                    "identity": {"trust_domain": "cluster.local", "namespace": "shop", "service_account": "web"},
                    "certificate": {
                        "authority": "embedded", "serial": "5a:01", "not_before": 1_800_000_000_u64,
                        "not_after": 1_800_003_600_u64, "problem": "the authority did not answer in time"
                    },
                    "listeners": [{"side": "outbound", "address": "127.0.0.1:15001"}],
                    "connections": [{
                        "side": "outbound", "client": "10.77.0.2:40000", "destination": "10.96.0.1:80",
                        "service": "shop/cart:80", "protocol": "http/1.1", "age_ms": 4200, "requests": 12
                    }],
                    "connections_open": 3
                }]
            }]
        }))
        .unwrap()
    }

    #[test]
    fn forest_is_drawn_from_tenant_to_connection() {
        let expected = "\
canopy/default 0.1.0  steering ebpf  configuration 3
└─ tenant shop  running  restarts 1  cpu 1.50s  heap 64.0 KiB  connections 3 open of 9  requests 1 in flight of 70  100 B in  2.0 KiB out
   │  refused: no_route 2
   └─ shop/frontend  spiffe://cluster.local/ns/shop/sa/web
      ├─ certificate of embedded, valid until 2027-01-15T09:00:00Z  5a:01  the authority did not answer in time
      ├─ outbound listens on 127.0.0.1:15001
      ├─ outbound 10.77.0.2:40000 → 10.96.0.1:80 (shop/cart:80)  http/1.1  4.2s  12 requests
      └─ and 2 more connections
waiting shop/late (tenant shop): /run/netns/late is not there
";
        assert_eq!(render(&forest(), Palette::plain()), expected);
    }

    #[test]
    fn one_pod_is_drawn_without_the_others_and_one_that_is_not_there_is_not() {
        let mut said = serde_json::to_value(forest()).unwrap();
        let mut other = said["cells"][0]["trees"][0].clone();
        other["pod"]["name"] = "other".into();
        said["cells"][0]["trees"].as_array_mut().unwrap().push(other);
        let drawn = of_pod(&said, "shop", "frontend").unwrap();
        assert!(drawn.contains("└─ shop/frontend  spiffe://") && drawn.contains("certificate of embedded"));
        assert!(!drawn.contains("other") && !drawn.contains("waiting"), "{drawn}");
        assert_eq!(of_pod(&said, "shop", "late"), None);
        assert_eq!(
            of_pod(&serde_json::json!({ "cells": [] }), "shop", "frontend"),
            None,
            "of another version"
        );
    }

    #[test]
    fn empty_forest_says_why() {
        let mut forest = forest();
        forest.cells.clear();
        assert!(render(&forest, Palette::plain()).contains("no tenant has a workload on this node"));
    }
}
