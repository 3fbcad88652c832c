//! `canopy showback`: what each tenant has used in each hour, for whoever divides a bill.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};

use super::{Daemon, Outcome, runtime};
use crate::{admin::client, telemetry::access::rfc3339, tenancy::showback::Hour};

/// Show what each tenant has used in each hour, as CSV or JSON.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy showback --since 24h > yesterday.csv
  canopy showback --format json --since 7d | jq 'group_by(.tenant)[] | {tenant: .[0].tenant, cpu: map(.cpu_user_seconds + .cpu_system_seconds) | add}'

The first and the last hour are as far as the daemon has watched them: the column `seconds`. What a daemon remembers of
the time before its start is what its --showback-file has.")]
pub(super) struct Showback {
    #[command(flatten)]
    daemon: Daemon,
    /// As what it is printed.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// How far back: a number of hours (24h) or days (7d).
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = ago)]
    since: Duration,
    /// Only this tenant's: a Tenant's name, or ns/NAMESPACE.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A line of headings, and one per tenant and hour.
    Csv,
    /// One list.
    Json,
}

impl Showback {
    pub(super) fn run(self) -> Outcome {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = now.saturating_sub(self.since).as_secs();
        let target = format!("/showback?since={since}");
        let mut rows: Vec<Hour> = runtime()?.block_on(client::get(&self.daemon.socket(), &target))?;
        if let Some(wanted) = &self.tenant {
            rows.retain(|row| row.tenant == *wanted);
        }
        let text = match self.format {
            Format::Csv => csv(&rows),
            Format::Json => serde_json::to_string(&rows)? + "\n",
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `24h` or `7d`.
fn ago(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no number of hours (24h) or days (7d)");
    let (number, hours) = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 24),
        _ => return Err(wrong()),
    };
    let hours: u64 = number.parse::<u32>().map(|number| u64::from(number) * hours).map_err(|_| wrong())?;
    Ok(Duration::from_secs(3600 * hours))
}

/// No field needs quotes: names of tenants have none of the letters that would.
fn csv(rows: &[Hour]) -> String {
    let mut text =
        "hour,tenant,seconds,cpu_user_seconds,cpu_system_seconds,throttled_seconds,memory_bytes_average,\
                    memory_bytes_peak,connections,requests,bytes_received,bytes_sent,handshakes,refused\n"
            .to_owned();
    for row in rows {
        let used = &row.used;
        let line = [
            rfc3339(row.hour),
            row.tenant.clone(),
            format!("{:.0}", row.seconds),
            format!("{:.3}", used.cpu_user_seconds),
            format!("{:.3}", used.cpu_system_seconds),
            format!("{:.3}", used.throttled_seconds),
            format!("{:.0}", row.memory_bytes()),
            row.memory_peak_bytes.to_string(),
            used.connections.to_string(),
            used.requests.to_string(),
            used.bytes_received.to_string(),
            used.bytes_sent.to_string(),
            used.handshakes.to_string(),
            used.refused.to_string(),
        ];
        text.push_str(&line.join(","));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::showback::Amounts;

    #[test]
    fn hours_and_days_are_understood_and_anything_else_is_named() {
        assert_eq!(ago("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(ago("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "7", "h", "-1h", "1.5d", "7w"] {
            assert!(ago(wrong).is_err_and(|error| error.starts_with(wrong)), "{wrong}");
        }
    }

    #[test]
    fn every_line_of_csv_has_a_value_for_each_heading() {
        let used = Amounts { requests: 7, cpu_user_seconds: 1.25, ..Amounts::default() };
        let row = Hour {
            hour: 1_800_000_000,
            tenant: "shop".to_owned(),
            seconds: 10.0,
            used,
            memory_byte_seconds: 1000.0,
            memory_peak_bytes: 200,
        };
        let text = csv(&[row]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines[0].len(), lines[1].len());
        let of = |heading| lines[1][lines[0].iter().position(|known| *known == heading).unwrap()];
        assert_eq!((of("hour"), of("tenant"), of("requests")), ("2027-01-15T08:00:00Z", "shop", "7"));
        assert_eq!((of("cpu_user_seconds"), of("memory_bytes_average")), ("1.250", "100"));
    }
}
