//! Results as Markdown tables.
//!
//! One table of figures, one of bars, per scenario; the same text serves the terminal.

use std::fmt::Write;

use super::compared;
use crate::{
    outcome::{
        Outcome, Row,
        verdict::{self, Verdict},
    },
    scenario::{BLOCK, wire::WireCheck},
};

/// The generated part of the page: what each scenario's is called, and its text. The machine's comes first, and has no name.
pub(crate) fn sections(outcomes: &[Outcome]) -> Vec<(&str, String)> {
    let machine = outcomes.first().map(|outcome| ("", machine(&outcome.machine)));
    let each = outcomes.iter().map(|outcome| (outcome.scenario.as_str(), section(outcome)));
    machine.into_iter().chain(each).collect()
}

fn machine(machine: &serde_json::Value) -> String {
    let word = |key: &str| machine[key].as_str().unwrap_or("").to_owned();
    format!(
        "Machine: {}, {} cores, {:.0} GiB, Linux {}, {}.\n\n",
        word("cpu"),
        machine["cores"],
        machine["memory_bytes"].as_f64().unwrap_or(0.0) / 1_073_741_824.0,
        word("kernel"),
        word("os"),
    )
}

fn section(outcome: &Outcome) -> String {
    let name = &outcome.scenario;
    let mut text = format!("### {name}\n\n");
    line(&mut text, &provenance(outcome));
    if !["memory", "scale", "cluster"].contains(&name.as_str()) {
        line(&mut text, &format!("![{name}](benchmarks/{name}.svg)\n"));
    }
    line(&mut text, &scenario(outcome));
    text
}

/// The tables of one scenario.
pub(crate) fn scenario(outcome: &Outcome) -> String {
    let (sized, others): (Vec<&Row>, Vec<&Row>) = outcome.rows.iter().partition(|row| row.further.pods > 0);
    let (faults, others): (Vec<&Row>, Vec<&Row>) = others.into_iter().partition(|row| row.further.asked > 0);
    let (loads, single): (Vec<&Row>, Vec<&Row>) = others.into_iter().partition(|row| is_load(row));
    let mut text = if loads.is_empty() { String::new() } else { figures(&loads) };
    if !faults.is_empty() {
        text.push_str(&compared::outages(&faults));
    }
    if !sized.is_empty() {
        text.push_str(&compared::resources(&sized));
    }
    let added = compared::added(outcome);
    if !added.is_empty() {
        line(&mut text, "");
        text.push_str(&added);
    }
    if loads.iter().any(|row| row.bytes_each > 0.0) {
        line(&mut text, "");
        text.push_str(&bytes(&loads));
    }
    if !single.is_empty() {
        if !loads.is_empty() {
            line(&mut text, "");
        }
        text.push_str(&memory(&single));
    }
    if !outcome.ratios.is_empty() {
        line(&mut text, "");
        text.push_str(&ratios(outcome));
    }
    if !outcome.verdicts.is_empty() {
        line(&mut text, "");
        text.push_str(&bars(&outcome.verdicts));
    }
    if !outcome.wire.is_empty() {
        line(&mut text, "");
        text.push_str(&wire(&outcome.wire));
    }
    for left in outcome.provenance.settings["left_out"].as_array().into_iter().flatten() {
        line(&mut text, &format!("\nLeft out: {}.", left.as_str().unwrap_or("")));
    }
    let repeated: u32 = outcome.samples.iter().map(|s| s.repeated).sum();
    if repeated > 0 {
        line(
            &mut text,
            &format!("\nPieces measured again, since the hypervisor had taken CPU time away: {repeated}."),
        );
    }
    for sample in outcome.samples.iter().filter(|s| s.errors > 0) {
        let error = sample.first_error.as_deref().unwrap_or("");
        line(
            &mut text,
            &format!(
                "\nVoid: {} of {} in round {}: {} errors, the first: {error}",
                sample.case,
                sample.subject,
                sample.round + 1,
                sample.errors
            ),
        );
    }
    text
}

/// Whether a row is of load: also one of which nothing was served.
fn is_load(row: &Row) -> bool {
    row.rps > 0.0 || row.rate_per_second > 0.0
}

fn provenance(outcome: &Outcome) -> String {
    let p = &outcome.provenance;
    let version = |key: &str| p.versions[key].as_str().unwrap_or("").to_owned();
    format!(
        "{}, commit {}, `{}`, {} rounds{}; {}, Envoy {}, {}, {}; access logs {}.\n",
        p.date,
        p.commit,
        p.command,
        outcome.rounds,
        if p.quick { " (quick: not a measurement)" } else { "" },
        version("canopy"),
        version("envoy"),
        version("nginx"),
        version("rustc"),
        if p.access_log { "on for both proxies" } else { "off for both proxies" },
    )
}

fn figures(rows: &[&Row]) -> String {
    let mut text = String::from(
        "| case | subject | per second | CPU µs each | proxy's CPU busy | p50 µs | p99 µs | at rate | closed p50 µs | closed p99 µs | RSS MiB | errors |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for r in rows {
        let rps = if r.case.ends_with("bulk") {
            format!("{:.0} ({:.2} GiB/s)", r.rps, r.rps * BLOCK as f64 / 1_073_741_824.0)
        } else {
            format!("{:.0}", r.rps)
        };
        line(
            &mut text,
            &format!(
                "| {} | {} | {rps} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} |",
                r.case,
                r.subject,
                unless_zero(r.cpu_us_per_request, |v| format!("{v:.1}")),
                unless_zero(r.proxy_busy, |v| format!("{:.0} %", v * 100.0)),
                r.p50_us,
                r.p99_us,
                r.rate_per_second,
                r.p50_closed_us,
                r.p99_closed_us,
                unless_zero(r.rss_bytes, mebibytes),
                r.errors,
            ),
        );
    }
    text
}

/// What control planes sent.
fn bytes(rows: &[&Row]) -> String {
    let mut text = String::from("| case | subject | bytes received for each |\n|---|---|--:|\n");
    for row in rows.iter().filter(|row| row.bytes_each > 0.0) {
        line(&mut text, &format!("| {} | {} | {:.0} |", row.case, row.subject, row.bytes_each));
    }
    text
}

/// Of a subject to itself: the A/A run.
fn ratios(outcome: &Outcome) -> String {
    let mut text =
        String::from("| ratio | per second | CPU | p50 | p99 | RSS |\n|---|--:|--:|--:|--:|--:|\n");
    let mut pairs: Vec<(&str, &str, &str)> = Vec::new();
    for ratio in &outcome.ratios {
        let pair = (ratio.case.as_str(), ratio.of.as_str(), ratio.to.as_str());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    for (case, of, to) in pairs {
        let cells = ["rps", "cpu_us_per_request", "p50_us", "p99_us", "rss_bytes"].map(|metric| {
            outcome
                .ratio(case, of, to, metric)
                .map_or("–".into(), |r| format!("{:.2} ({:.2}–{:.2})", r.median, r.min, r.max))
        });
        let to = if of == to { "itself" } else { to };
        line(&mut text, &format!("| {case}: {of} to {to} | {} |", cells.join(" | ")));
    }
    text
}

fn memory(rows: &[&Row]) -> String {
    let mut text = String::from("| what | measured |\n|---|--:|\n");
    for r in rows {
        let what = match r.case.as_str() {
            "idle" => "idle daemon, one tenant, two workloads",
            "workload" => "each further workload",
            "tenant" => "each further tenant, with one workload",
            "idle-tenant" => "each further tenant of 99, with one workload",
            "further-thread" => "each further tenant of 10, a thread: private memory",
            "further-process" => "each further tenant of 10, a process of its own: private memory",
            "start" => "start to first captured request",
            "one-more" => "one route more of 10,000: from its file's appearance to the first answer",
            "control-start" => "50,000 Services of 20 endpoints: start of the control plane, until it serves",
            "control-memory" => "its memory then",
            "change" => "one endpoint that no node has asked for: CPU time of the control plane",
            "change-interested" => "for each node that has asked for it: CPU time beside that",
            "change-node" => "the same at that node: CPU time of the daemon",
            "node-200" => "a node that uses 200 of the Services: memory above what it has before",
            "one-more-envoy" => "the same of Envoy, whose file is all of its routes",
            "tunnel-client" => "each idle tunnel, the client's daemon",
            "tunnel-server" => "each idle tunnel, the server's daemon",
            "idle-client" => "10 000 idle connections through a pair, the client's daemon",
            "idle-server" => "10 000 idle connections through a pair, the server's daemon",
            "pod-start" => {
                "a pod of an opted-in namespace starts: how long the gate has it wait, by the bounds of its histogram"
            }
            "label" => "a namespace is labelled: until its pod is carried",
            "ready" => "an endpoint becomes ready: until a request arrives there",
            "pods-104" => "a node with 104 pods of 30 tenants: memory of its daemon",
            "pods-104-idle" => "the same, idle: CPU time of the daemon each second",
            other => other,
        };
        let figure = match r {
            Row { rss_bytes, .. } if *rss_bytes > 0.0 => size(*rss_bytes),
            Row { cpu_us_per_request, .. } if *cpu_us_per_request > 0.0 => {
                format!("{cpu_us_per_request:.0} µs")
            }
            Row { p50_us, p99_us, .. } if *p99_us > 0.0 => {
                format!("p50 {:.0} ms, p99 {:.0} ms", p50_us / 1e3, p99_us / 1e3)
            }
            Row { p50_us, .. } => format!("{:.0} ms", p50_us / 1e3),
        };
        line(&mut text, &format!("| {what} | {figure} |"));
    }
    text
}

fn bars(verdicts: &[Verdict]) -> String {
    let mut text =
        String::from("| bar | required | measured | A/A spread | verdict |\n|---|--:|--:|--:|---|\n");
    for v in verdicts {
        let sign = if v.at_least { "≥" } else { "≤" };
        let (what, show) = figure_of(v);
        let aa = v.aa.map_or(String::from("–"), |(low, high)| format!("{low:.2}–{high:.2}"));
        let (bar, median) = (show(v.bar), v.median.map_or(String::from("–"), show));
        let said = format!("**{}** {}", v.verdict.word(), v.why);
        line(&mut text, &format!("| {what} | {sign} {bar} | {median} | {aa} | {} |", said.trim_end()));
    }
    text
}

/// What a verdict is about, and how its figures are written.
fn figure_of(v: &Verdict) -> (String, fn(f64) -> String) {
    let single = if v.to.is_empty() { v.metric.as_str() } else { "" };
    match single {
        verdict::ERRORS => (format!("{}: {}, errors", v.case, v.of), |value| format!("{value:.0}")),
        "rss_bytes" => (v.case.clone(), size),
        "cpu_us_per_request" => (format!("{}: CPU time", v.case), |value| format!("{value:.0} µs")),
        "p99_us" => (format!("{}: {}, p99", v.case, v.of), |value| format!("{:.1} ms", value / 1e3)),
        "" if v.difference => {
            (format!("{}: {} above {}, {}", v.case, v.of, v.to, v.metric), |value| format!("{value:.1} µs"))
        }
        "" => (format!("{}: {} to {}, {}", v.case, v.of, v.to, v.metric), |value| format!("{value:.2} ×")),
        _ => (v.case.clone(), |value| format!("{:.0} ms", value / 1e3)),
    }
}

/// In the unit that shows it best.
fn size(bytes: f64) -> String {
    if bytes < 128.0 * 1024.0 {
        format!("{:.1} KiB", bytes / 1024.0)
    } else {
        format!("{} MiB", mebibytes(bytes))
    }
}

/// What captures between the nodes have shown.
fn wire(checks: &[WireCheck]) -> String {
    let mut text = String::from(
        "| on the wire | segments by port | bytes | TLS records begun | payload readable | TLS |\n|---|---|--:|--:|---|---|\n",
    );
    for check in checks {
        let ports: Vec<String> =
            check.segments_by_port.iter().map(|(port, count)| format!("{port}: {count}")).collect();
        let readable = if check.payload_readable { "yes" } else { "no" };
        let tls: Vec<&str> = check.tls.iter().map(String::as_str).collect();
        let tls = tls.join("; ");
        let (bytes, records) = (check.payload_bytes, check.tls_records);
        line(
            &mut text,
            &format!(
                "| {} | {} | {bytes} | {records} | {readable} | {} |",
                check.subject,
                ports.join(", "),
                if tls.is_empty() { "–" } else { &tls }
            ),
        );
    }
    text
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1_048_576.0)
}

fn unless_zero(value: f64, show: impl Fn(f64) -> String) -> String {
    if value == 0.0 { "–".into() } else { show(value) }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::verdict::Judgement;

    fn verdict(metric: &str, median: Option<f64>) -> Verdict {
        Verdict {
            case: "connect".into(),
            of: "canopy-node".into(),
            to: String::new(),
            metric: metric.into(),
            bar: 0.0,
            at_least: false,
            median,
            difference: false,
            aa: None,
            verdict: Judgement::Missed,
            why: "317 in envoy-node".into(),
        }
    }

    #[test]
    fn a_case_with_errors_says_so_among_the_bars() {
        let text = bars(&[Verdict { of: "every subject".into(), ..verdict(verdict::ERRORS, Some(317.0)) }]);
        let row = "| connect: every subject, errors | ≤ 0 | 317 | – | **missed** 317 in envoy-node |\n";
        assert!(text.ends_with(row), "{text}");
    }

    #[test]
    fn a_victim_that_nothing_was_served_of_stands_among_the_loads() {
        let (case, subject) = ("aggressor-256".to_owned(), "envoy-node".to_owned());
        let starved = Row { case, subject, rate_per_second: 500.0, rss_bytes: 1e8, ..Row::default() };
        let text = scenario(&Outcome { rows: vec![starved], ..Outcome::default() });
        assert!(text.contains("| aggressor-256 | envoy-node | 0 |"), "{text}");
    }

    #[test]
    fn what_a_control_plane_sent_stands_below_the_figures_of_those_it_was_sent_to() {
        let (case, subject) = ("change".to_owned(), "canopy-node".to_owned());
        let told = Row { case, subject, rps: 100.0, bytes_each: 856.4, ..Row::default() };
        let quiet = Row { subject: "canopy-node-quiet".into(), bytes_each: 0.0, ..told.clone() };
        let text = scenario(&Outcome { rows: vec![told, quiet.clone()], ..Outcome::default() });
        assert!(text.ends_with("|--:|\n| change | canopy-node | 856 |\n"), "{text}");
        let text = scenario(&Outcome { rows: vec![quiet], ..Outcome::default() });
        assert!(!text.contains("bytes received"), "{text}");
    }

    #[test]
    fn a_bar_that_errors_left_without_a_figure_is_shown() {
        let text =
            bars(&[Verdict { to: "envoy-node".into(), bar: 1.3, at_least: true, ..verdict("rps", None) }]);
        let row =
            "| connect: canopy-node to envoy-node, rps | ≥ 1.30 × | – | – | **missed** 317 in envoy-node |\n";
        assert!(text.ends_with(row), "{text}");
    }
}
