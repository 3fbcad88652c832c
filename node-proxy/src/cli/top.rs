//! `canopy top`: what tenants and their workloads use, beside what they may.
//!
//! Live in a terminal, as one table, or as JSON. It reads totals twice and shows rates; it must never ask the daemon for more than
//! it asks of itself anyway.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};

use self::{rows::Rows, screen::State};
use super::{Daemon, Outcome, runtime};
use crate::{
    admin::client::{self, ClientError},
    forest::costs::NodeCosts,
};

mod cells;
mod live;
mod rows;
mod screen;

/// Show what tenants use, beside what they may; live, or once, or as JSON.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy top                            live; Enter shows a tenant's workloads, q ends it
  canopy top --sort requests            the busiest first
  canopy top --once                     one table, of one second
  canopy top --once --tenant shop       of one tenant's workloads
  canopy top --json --once | jq '.tenants[] | {tenant, rates, budget}'
  canopy top --json --interval 10       one document every ten seconds

A cell reads USED/BUDGET; – is no bound. CPU is in cores, the budget of it the cap, or else the guaranteed share.")]
pub(super) struct Top {
    #[command(flatten)]
    daemon: Daemon,
    /// Print one table, or with --json one document, and end.
    #[arg(long)]
    once: bool,
    /// Print JSON, one document per interval.
    #[arg(long)]
    json: bool,
    /// The time that rates are over.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// What comes first.
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
    /// Only this tenant, and its workloads: a Tenant's name, or ns/NAMESPACE.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

/// What rows are sorted by: the most first, names from A to Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// Open connections.
    Connections,
    /// Requests per second.
    Requests,
    /// Bytes per second, both ways.
    Bytes,
    /// Refusals per second.
    Refused,
    /// Name.
    Name,
}

/// Reads the daemon's figures, and rates with those of before.
struct Reader {
    runtime: tokio::runtime::Runtime,
    socket: PathBuf,
    before: Option<NodeCosts>,
}

impl Reader {
    fn read(&mut self) -> Result<NodeCosts, ClientError> {
        let mut now: NodeCosts = self.runtime.block_on(client::get(&self.socket, "/costs"))?;
        let plain = now.clone();
        if let Some(before) = self.before.replace(plain) {
            now.add_rates(&before);
        }
        Ok(now)
    }
}

impl Top {
    pub(super) fn run(self) -> Outcome {
        let mut reader = Reader { runtime: runtime()?, socket: self.daemon.socket(), before: None };
        // Before the screen is taken, so that what is in the way is read.
        let first = reader.read()?;
        self.find(&first)?;
        let pause = Duration::from_secs(self.interval);
        if self.once || self.json {
            return self.print(&mut reader, pause);
        }
        if !io::stdout().is_terminal() {
            return Err("standard output is no terminal: say --once or --json".into());
        }
        live::run(&mut reader, State::new(self.sort, self.tenant), first, pause)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Whether the tenant that was asked for is there.
    fn find(&self, costs: &NodeCosts) -> Result<(), String> {
        let Some(wanted) = &self.tenant else { return Ok(()) };
        if costs.tenants.iter().any(|tenant| tenant.tenant == *wanted) {
            return Ok(());
        }
        let there: Vec<&str> = costs.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect();
        Err(format!("no tenant {wanted} has a workload on this node; there are: {}", there.join(", ")))
    }

    fn print(&self, reader: &mut Reader, pause: Duration) -> Outcome {
        loop {
            std::thread::sleep(pause);
            let mut costs = reader.read()?;
            let text = if self.json {
                if let Some(wanted) = &self.tenant {
                    costs.tenants.retain(|tenant| tenant.tenant == *wanted);
                }
                serde_json::to_string(&costs)? + "\n"
            } else {
                Rows::of(&costs, self.tenant.as_deref(), self.sort).to_string()
            };
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}
