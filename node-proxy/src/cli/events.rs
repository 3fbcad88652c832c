//! `canopy events`: what tenants' owners are told.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use config::finding::visible;

use super::{Daemon, Outcome, runtime, style::Palette};
use crate::{
    admin::client::{self, ClientError},
    telemetry::access::rfc3339,
    tenancy::{Event, Told, events::Kind},
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
            let mut known = Known::default();
            loop {
                // A daemon that was started anew counts from the beginning: what it has told is asked for at once.
                let Some(events) = known.take(ask(&socket, known.number).await?) else { continue };
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

/// How far the events are known, and by whose count.
#[derive(Debug, Default)]
struct Known {
    counted_since: Option<u64>,
    number: u64,
}

impl Known {
    /// Takes an answer up; `None` where it was asked for by the count of a daemon that is gone, and has to be asked for again.
    fn take(&mut self, told: Told) -> Option<Vec<Event>> {
        let is_same =
            self.counted_since.replace(told.counted_since).is_none_or(|since| since == told.counted_since);
        if !is_same {
            self.number = 0;
            return None;
        }
        self.number = told.events.last().map_or(self.number, |event| event.number);
        Some(told.events)
    }
}

async fn ask(socket: &Path, after: u64) -> Result<Told, ClientError> {
    client::get(socket, &format!("/events?after={after}")).await
}

/// An event as text: `2026-11-26T08:00:00Z  shop  budget  your budget refused 3: connection_limit`.
fn render(event: &Event, palette: Palette) -> String {
    let Event { at, tenant, kind, what, .. } = event;
    let kind = match kind {
        Kind::Cell | Kind::Workload | Kind::Configuration => palette.red(kind.as_str()),
        Kind::Budget | Kind::Node => palette.yellow(kind.as_str()),
    };
    let at = palette.dim(rfc3339(*at as u64));
    format!("{at}  {}  {kind}  {}", palette.bold(tenant), visible(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_daemon_that_was_started_anew_are_taken_from_its_first_on() {
        let answer = |counted_since, numbers: &[u64]| {
            let events = numbers.iter().map(|number| Event { number: *number, ..event() }).collect();
            Told { counted_since, events }
        };
        let mut known = Known::default();
        assert_eq!(known.take(answer(5, &[1, 7])).map(|events| events.len()), Some(2));
        assert_eq!(known.take(answer(5, &[])).map(|events| events.len()), Some(0));
        assert_eq!(known.number, 7);
        // It has told three, of which none is after the seventh.
        assert_eq!(known.take(answer(6, &[])), None);
        assert_eq!(known.number, 0, "all are asked for");
        assert_eq!(known.take(answer(6, &[1, 2, 3])).map(|events| events.len()), Some(3));
        assert_eq!(known.number, 3);
    }

    fn event() -> Event {
        Event {
            number: 7,
            at: 1_800_000_000.5,
            tenant: "shop".to_owned(),
            kind: Kind::Budget,
            what: "your budget refused 3: connection_limit".to_owned(),
            reason: None,
            count: None,
        }
    }

    #[test]
    fn an_event_is_one_line_that_says_when_whose_and_what() {
        let event = event();
        let expected = "2027-01-15T08:00:00Z  shop  budget  your budget refused 3: connection_limit";
        assert_eq!(render(&event, Palette::plain()), expected);
    }
}
