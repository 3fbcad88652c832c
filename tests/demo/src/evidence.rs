//! What the daemon says of itself: its log, its access log, its tree, its memory.

use std::fs;

use serde_json::Value;
use testkit::Daemon;

use crate::error::DemoError;

/// Resident memory of a process in MiB, by the kernel's account.
pub(crate) fn resident_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// How many access-log lines are of calls that this workload made to this Service.
pub(crate) fn calls(daemon: &Daemon, workload: &str, service: &str) -> usize {
    daemon.access_log().iter().filter(|line| is_call(line, workload, service)).count()
}

/// Whether an access-log line is of a call by this workload to this Service.
pub(crate) fn is_call(line: &Value, workload: &str, service: &str) -> bool {
    line["direction"] == "outbound" && line["workload"] == workload && line["dst.service"] == service
}

/// Some fields of an access-log line, as they are in it.
pub(crate) fn excerpt(line: &Value, fields: &[&str]) -> String {
    let shown = fields.iter().filter(|field| !line[**field].is_null());
    let shown: Vec<String> = shown.map(|field| format!("\"{field}\":{}", line[*field])).collect();
    format!("{{{}}}", shown.join(","))
}

/// What `canopy VERB` prints about the running daemon.
pub(crate) fn ask(daemon: &Daemon, verb: &str) -> Result<String, DemoError> {
    let output = daemon.canopy(&[verb])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    crate::error::claim(
        output.status.success() && !text.is_empty(),
        format!("`canopy {verb}` answers"),
        || format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    )?;
    Ok(text)
}
