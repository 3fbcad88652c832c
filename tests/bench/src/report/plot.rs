//! A plot per scenario: for each metric a panel, for each case its subjects' bars, with the figures beside them.
//!
//! Plain SVG, readable on light and on dark ground. Bars begin at 0, always.

use std::{fmt::Write, fs, path::Path};

use crate::{
    error::BenchError,
    outcome::{Outcome, Row},
};

/// Writes SCENARIO.svg, unless there is nothing to compare.
pub(crate) fn write(outcome: &Outcome, directory: &Path) -> Result<(), BenchError> {
    let path = directory.join(format!("{}.svg", outcome.scenario));
    fs::write(&path, draw(outcome)).map_err(|e| BenchError::io(format!("write {}", path.display()), e))
}

pub(super) struct Panel {
    title: &'static str,
    value: fn(&Row) -> f64,
    show: fn(f64) -> String,
}

const PANELS: [Panel; 7] = [
    Panel { title: "exchanges per second (more is better)", value: |r| r.rps, show: thousands },
    Panel { title: "CPU time of the proxy per exchange, µs", value: |r| r.cpu_us_per_request, show: tenths },
    Panel { title: "p50 at the same rate for all, µs", value: |r| r.p50_us, show: tenths },
    Panel { title: "p99 at the same rate for all, µs", value: |r| r.p99_us, show: tenths },
    Panel {
        title: "resident memory after the load, MiB",
        value: |r| r.rss_bytes / 1_048_576.0,
        show: tenths,
    },
    Panel {
        title: "memory of the proxies of both nodes, with their sockets, MiB",
        value: |r| r.further.memory_bytes / 1_048_576.0,
        show: tenths,
    },
    Panel {
        title: "CPU time of these proxies, ms a second",
        value: |r| r.further.cpu_us_per_second / 1e3,
        show: tenths,
    },
];

/// Of rows whose percentiles are what is above another's.
pub(super) const ADDED: [Panel; 2] = [
    Panel { title: "p50 above direct, µs", value: |r| r.p50_us, show: tenths },
    Panel { title: "p99 above direct, µs", value: |r| r.p99_us, show: tenths },
];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 110.0;
const BAR: f64 = 15.0;
const GAP: f64 = 10.0;
const TITLE: f64 = 30.0;
/// Widest bar; the figure stands to its right.
const LONGEST: f64 = WIDTH - LEFT - 90.0;

fn draw(outcome: &Outcome) -> String {
    let is_load = |row: &Row| row.rps > 0.0 || row.rate_per_second > 0.0;
    let has_loads = outcome.rows.iter().any(is_load);
    // A neighbour's figures stand in the table; the plot is the victim's. So do times beside loads, which are on another scale.
    let is_drawn = |row: &&Row| {
        !row.subject.ends_with("-aggressor") && (is_load(row) || !has_loads || row.p50_us == 0.0)
    };
    let rows: Vec<Row> = outcome.rows.iter().filter(is_drawn).cloned().collect();
    draw_panels(&outcome.scenario, &rows, &PANELS)
}

/// A picture of these rows: of each panel that has a figure of them, its bars.
pub(super) fn draw_panels(title: &str, rows: &[Row], panels: &[Panel]) -> String {
    let (cases, subjects) = (distinct(rows, |r| &r.case), distinct(rows, |r| &r.subject));
    let mut body = String::new();
    let mut y = legend(&mut body, title, &subjects);
    for panel in panels {
        if rows.iter().any(|r| (panel.value)(r) > 0.0) {
            y = draw_panel(&mut body, y, panel, &Rows { rows, cases: &cases, subjects: &subjects });
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" width=\"{WIDTH}\" height=\"{y:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        title
    )
}

struct Rows<'a> {
    rows: &'a [Row],
    cases: &'a [&'a str],
    subjects: &'a [&'a str],
}

pub(super) fn legend(body: &mut String, scenario: &str, subjects: &[&str]) -> f64 {
    text(body, (12.0, 24.0), "bold", scenario);
    // Beside the title, however long it is.
    let mut y = 14.0;
    let mut x = LEFT.max(32.0 + scenario.len() as f64 * 7.0);
    for (index, subject) in subjects.iter().enumerate() {
        let width = 45.0 + subject.len() as f64 * 7.0;
        if x + width > WIDTH {
            (x, y) = (LEFT, y + BAR + 3.0);
        }
        rect(body, (x, y), BAR, index);
        text(body, (x + BAR + 5.0, y + 11.0), "", subject);
        x += width;
    }
    y + 22.0
}

fn draw_panel(body: &mut String, top: f64, panel: &Panel, rows: &Rows<'_>) -> f64 {
    text(body, (12.0, top + 20.0), "bold", panel.title);
    let most = rows.rows.iter().map(panel.value).fold(0.0, f64::max);
    let mut y = top + TITLE;
    for case in rows.cases {
        let start = y;
        for (index, subject) in rows.subjects.iter().enumerate() {
            let Some(row) = rows.rows.iter().find(|r| r.case == *case && r.subject == *subject) else {
                continue;
            };
            let value = (panel.value)(row);
            if value > 0.0 {
                let length = (value / most * LONGEST).max(1.0);
                rect(body, (LEFT, y), length, index);
                text(body, (LEFT + length + 5.0, y + BAR - 4.0), "", &(panel.show)(value));
                y += BAR;
            }
        }
        text(body, (12.0, f64::midpoint(start, y) + 4.0), "", case);
        y += GAP;
    }
    y + GAP
}

/// The class of a subject's colour, by its place in the legend.
pub(super) fn colour(series: usize) -> &'static str {
    ["s0", "s1", "s2", "s3", "s4", "s5"][series % 6]
}

fn rect(body: &mut String, (x, y): (f64, f64), width: f64, series: usize) {
    let height = BAR - 2.0;
    // Writing to a String cannot fail; here and below.
    let _ = writeln!(
        body,
        "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\"/>",
        colour(series)
    );
}

pub(super) fn text(body: &mut String, (x, y): (f64, f64), class: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>");
}

fn distinct(rows: &[Row], get: fn(&Row) -> &String) -> Vec<&str> {
    let mut seen: Vec<&str> = Vec::new();
    for row in rows {
        if !seen.contains(&get(row).as_str()) {
            seen.push(get(row));
        }
    }
    seen
}

fn tenths(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { thousands(value) }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// Grey is the direct way, green Canopy, orange what it is compared with; where there are more, as the legend says.
pub(super) const STYLE: &str = ".ground{fill:#fff}text{fill:#222}.bold{font-weight:600}\
    .s0{fill:#8a8f98}.s1{fill:#2b8a3e}.s2{fill:#d9730d}.s3{fill:#1864ab}.s4{fill:#ae3ec9}.s5{fill:#0b7285}\
    .line{fill:none;stroke-width:2}.line.s0{stroke:#8a8f98}.line.s1{stroke:#2b8a3e}.line.s2{stroke:#d9730d}.line.s3{stroke:#1864ab}.line.s4{stroke:#ae3ec9}.line.s5{stroke:#0b7285}\
    .rule{stroke:#888;stroke-opacity:.35;fill:none}\
    @media(prefers-color-scheme:dark){.ground{fill:#16181d}text{fill:#e6e6e6}.s0{fill:#7d838d}.s1{fill:#51cf66}.s2{fill:#ff922b}.s3{fill:#4dabf7}.s4{fill:#da77f2}.s5{fill:#3bc9db}.line.s0{stroke:#7d838d}.line.s1{stroke:#51cf66}.line.s2{stroke:#ff922b}.line.s3{stroke:#4dabf7}.line.s4{stroke:#da77f2}.line.s5{stroke:#3bc9db}.line{fill:none}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_stands_beside_loads_is_not_drawn_on_their_scale() {
        let row = |case: &str, rps, p50_us| Row { case: case.into(), rps, p50_us, ..Row::default() };
        let draw = |rows| draw(&Outcome { rows, ..Outcome::default() });
        let beside = draw(vec![row("load", 1_000.0, 100.0), row("once", 0.0, 500_000.0)]);
        assert!(beside.contains(">load<") && !beside.contains(">once<"));
        assert!(draw(vec![row("once", 0.0, 500_000.0)]).contains(">once<"));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(thousands(999.0), "999");
    }
}
