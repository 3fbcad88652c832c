//! Whether a cluster is fit: before anything is installed, and after. Facts are read first, then judged.
//!
//! It must never change the cluster, and never call fit what it could not look at.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use config::finding::visible;
use serde::Serialize;

use super::{Outcome, complain, kubectl, kubectl::Reach, runtime, style, style::Palette, with_causes};

mod after;
mod before;
mod facts;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// As it should be.
    Ok,
    /// Works, with less or with something to do.
    Warn,
    /// Does not work.
    Fail,
    /// Could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    grade: Grade,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), grade: Grade::Ok, found: found.into(), remedy: None }
    }

    fn warn(what: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self { grade: Grade::Warn, remedy: Some(remedy.to_owned()), ..Self::ok(what, found) }
    }

    fn fail(what: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self { grade: Grade::Fail, remedy: Some(remedy.to_owned()), ..Self::ok(what, found) }
    }

    fn unknown(what: &str, why: impl Into<String>) -> Self {
        Self { grade: Grade::Unknown, ..Self::ok(what, why) }
    }
}

/// Before anything is installed.
pub(super) fn before(reach: &Reach, as_json: bool) -> Outcome {
    let found = runtime()?.block_on(async {
        let (asking, _) = reach.ask().await?;
        Ok(before::judge(&facts::read(&asking, reach.canopy_namespace()).await))
    });
    told(found, as_json)
}

/// After.
pub(super) fn after(reach: &Reach, as_json: bool) -> Outcome {
    let found = runtime()?.block_on(async {
        let (asking, _) = reach.ask().await?;
        let namespace = reach.canopy_namespace();
        let mut found = after::roles(&facts::roles(&asking, namespace).await);
        match kubectl::every(reach, &asking, &["tree", "--json"]).await {
            Ok(answers) => {
                let trees: Vec<_> = answers.iter().map(|it| (it.node.clone(), it.json())).collect();
                found.extend(after::daemons(&trees, env!("CARGO_PKG_VERSION"), now()));
                found.push(after::captured(&facts::opted_in(&asking).await, &trees));
            }
            Err(error) => found.push(Finding::unknown("daemons", error.to_string())),
        }
        found.push(after::accepted(&facts::refused(&asking).await));
        Ok(found)
    });
    told(found, as_json)
}

fn told(found: Result<Vec<Finding>, crate::control::kubernetes::AskError>, as_json: bool) -> Outcome {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            complain(&with_causes(&error));
            return Ok(ExitCode::from(2));
        }
    };
    let text = if as_json { style::json(&found)? } else { render(&found, Palette::of_stdout()) };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::from(code(&found)))
}

/// Seconds since the epoch.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// 0 fit, 1 not fit, 2 not known; what is known to be unfit stays so, whatever else is unknown.
fn code(found: &[Finding]) -> u8 {
    let has = |grade| found.iter().any(|finding| finding.grade == grade);
    if has(Grade::Fail) {
        1
    } else if has(Grade::Unknown) {
        2
    } else {
        0
    }
}

fn render(found: &[Finding], palette: Palette) -> String {
    let mut out = String::new();
    let width = found.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    for Finding { what, grade, found, remedy } in found {
        let grade = match grade {
            Grade::Ok => palette.green("ok     "),
            Grade::Warn => palette.yellow("warn   "),
            Grade::Fail => palette.red("fail   "),
            Grade::Unknown => palette.yellow("unknown"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{grade}  {:<width$}  {}", visible(what), visible(found));
        if let Some(remedy) = remedy {
            let _ = writeln!(out, "         {:<width$}  → {}", "", palette.bold(visible(remedy)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfit_stays_so_and_what_could_not_be_looked_at_is_never_fit() {
        let (ok, unknown) = (Finding::ok("a", ""), Finding::unknown("b", ""));
        let (warn, fail) = (Finding::warn("c", "", ""), Finding::fail("d", "", ""));
        assert_eq!(code(&[ok.clone(), warn]), 0);
        assert_eq!(code(&[ok, unknown.clone()]), 2);
        assert_eq!(code(&[unknown, fail]), 1);
    }
}
