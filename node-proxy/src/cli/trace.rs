//! `canopy trace`: steering decisions as the kernel makes them, one per line.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use super::{Daemon, Outcome, runtime, style::Palette};
use crate::admin::client;

/// Show single steering decisions live: what was steered, what passed and why, what was refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy trace                          every decision on this node
  canopy trace --pod shop/frontend      of one pod
  canopy trace --json --count 10        ten of them, as JSON

Tracing costs the traced connections a little; it is off while nobody watches. Ends with Ctrl-C.")]
pub(super) struct Trace {
    #[command(flatten)]
    daemon: Daemon,
    /// Only decisions about this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
    /// End after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Trace {
    pub(super) fn run(self) -> Outcome {
        let palette = Palette::of_stdout();
        let target = self.pod.as_ref().map_or_else(|| "/trace".to_owned(), |pod| format!("/trace?pod={pod}"));
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut failure = None;
        let show = |line: &[u8]| {
            let shown = if self.json { print(line) } else { print(render(line, palette).as_bytes()) };
            left = left.saturating_sub(1);
            failure = shown.err();
            failure.is_none() && left > 0
        };
        runtime()?.block_on(client::stream(&self.daemon.socket(), &target, show))?;
        failure.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
    }
}

fn print(line: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A decision as text: `connect4  steered            shop/frontend  10.77.0.2:0 → 10.96.0.1:80`.
fn render(line: &[u8], palette: Palette) -> String {
    let Ok(decision) = serde_json::from_slice::<serde_json::Value>(line) else {
        return String::from_utf8_lossy(line).into_owned();
    };
    let field = |name: &str| decision.get(name).and_then(serde_json::Value::as_str).unwrap_or("-").to_owned();
    let verdict = format!("{:<22}", field("verdict"));
    let verdict = match verdict.split(['_', ' ']).next() {
        Some("steered") => palette.green(verdict),
        Some("refused") => palette.red(verdict),
        _ => palette.dim(verdict),
    };
    let (hook, pod) = (format!("{:<13}", field("hook")), palette.cyan(format!("{:<24}", field("pod"))));
    format!("{hook} {verdict} {pod} {} → {}", field("source"), field("destination"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_is_one_line_with_its_ends() {
        let line = br#"{"hook":"connect4","verdict":"steered","pod":"shop/web","source":"10.77.0.2:0","destination":"10.96.0.1:80"}"#;
        let text = render(line, Palette::plain());
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(words, ["connect4", "steered", "shop/web", "10.77.0.2:0", "→", "10.96.0.1:80"]);
    }

    #[test]
    fn line_that_is_not_understood_is_shown_as_it_came() {
        assert_eq!(render(b"what", Palette::plain()), "what");
    }
}
