//! `canopy events`: what tenants' owners are told.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{Daemon, Outcome, runtime, style::Palette};
use crate::{
    admin::client::{self, ClientError},
    telemetry::access::rfc3339,
    tenancy::{Event, events::Kind},
};

/// How often is asked for what is new.
const LOOK: Duration = Duration::from_secs(1);

/// Show what tenants' owners are told: cells that failed, budgets that bit, workloads that are not served, faults of the node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy events                         the last of every tenant
  canopy events --tenant shop --follow  of one, as they come
  canopy events --json | jq -c 'select(.kind == \"budget\")'
  canopy events --admin-socket /run/canopy-owners/default/shop.sock
                                        as shop's owner")]
pub(super) struct Events {
    #[command(flatten)]
    daemon: Daemon,
    /// Only this tenant's: a Tenant's name, or ns/NAMESPACE.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
    /// Go on with what comes, until Ctrl-C.
    #[arg(long)]
    follow: bool,
}

impl Events {
    pub(super) fn run(self) -> Outcome {
        let (palette, socket) = (Palette::of_stdout(), self.daemon.socket());
        runtime()?.block_on(async {
            let mut known = 0;
            loop {
                let events = ask(&socket, known).await?;
                // A daemon that was started anew counts from the beginning.
                known = events.last().map_or(known, |event| event.number);
                let is_wanted =
                    |event: &&Event| self.tenant.as_ref().is_none_or(|tenant| *tenant == event.tenant);
                let mut out = io::stdout().lock();
                for event in events.iter().filter(is_wanted) {
                    let line = if self.json { serde_json::to_string(event)? } else { render(event, palette) };
                    writeln!(out, "{line}")?;
                }
                out.flush()?;
                drop(out);
                if !self.follow {
                    return Ok(ExitCode::SUCCESS);
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}

async fn ask(socket: &Path, after: u64) -> Result<Vec<Event>, ClientError> {
    client::get(socket, &format!("/events?after={after}")).await
}

/// An event as text: `2026-11-26T08:00:00Z  shop  budget  your budget refused 3: connection_limit`.
fn render(event: &Event, palette: Palette) -> String {
    let Event { at, tenant, kind, what, .. } = event;
    let kind = match kind {
        Kind::Cell | Kind::Workload => palette.red(kind.as_str()),
        Kind::Budget | Kind::Node => palette.yellow(kind.as_str()),
    };
    let at = palette.dim(rfc3339(*at as u64));
    format!("{at}  {}  {kind}  {what}", palette.bold(tenant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_says_when_whose_and_what() {
        let event = Event {
            number: 7,
            at: 1_800_000_000.5,
            tenant: "shop".to_owned(),
            kind: Kind::Budget,
            what: "your budget refused 3: connection_limit".to_owned(),
            reason: None,
            count: None,
        };
        let expected = "2027-01-15T08:00:00Z  shop  budget  your budget refused 3: connection_limit";
        assert_eq!(render(&event, Palette::plain()), expected);
    }
}
