//! `canopy status --objects`: what became of each object, by its conditions.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use config::finding::visible;
use serde_json::{Value, json};

use super::super::{
    Daemon, Outcome, runtime,
    style::{self, Palette},
};
use crate::admin::client;

pub(super) fn run(daemon: &Daemon, json: bool, all: bool) -> Outcome {
    let answer: Value = runtime()?.block_on(client::get(&daemon.socket(), "/objects"))?;
    let objects = answer["objects"].as_array().map_or(&[][..], Vec::as_slice);
    let shown: Vec<&Value> = objects.iter().filter(|object| all || !is_well(object)).collect();
    let text = if json {
        style::json(&json!({ "objects": shown }))?
    } else {
        render(&shown, objects.len(), Palette::of_stdout())
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if objects.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn conditions(object: &Value) -> &[Value] {
    object["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn is_well(object: &Value) -> bool {
    conditions(object).iter().all(is_wanted)
}

/// A conflict is the one condition that nobody wants to hold.
fn is_wanted(condition: &Value) -> bool {
    condition["status"] == if condition["type"] == "Conflicted" { "False" } else { "True" }
}

fn render(shown: &[&Value], of: usize, palette: Palette) -> String {
    let mut out = String::new();
    for object in shown {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        let name = [text("namespace"), text("name")].into_iter().filter(|part| !part.is_empty());
        let name = visible(&name.collect::<Vec<_>>().join("/"));
        let owner = match text("tenant") {
            "" => String::new(),
            tenant => format!(" of {tenant}"),
        };
        let generation =
            object["observedGeneration"].as_u64().map(|generation| format!(", generation {generation}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} {}{owner}{}",
            text("kind"),
            palette.bold(&name),
            generation.unwrap_or_default()
        );
        for condition in conditions(object) {
            let text = |name: &str| condition[name].as_str().unwrap_or_default();
            let status = format!("{:<12} {:<5}", text("type"), text("status"));
            let status = if is_wanted(condition) { palette.green(&status) } else { palette.red(&status) };
            let since = palette.dim(text("lastTransitionTime"));
            let line = format!("  {status} {since} {} {}", text("reason"), visible(text("message")));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    let well = of - shown.iter().filter(|object| !is_well(object)).count();
    let _ = writeln!(out, "{well} of {of} objects are as their authors want them");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(accepted: &str, conflicted: &str) -> Value {
        json!({
            "kind": "Service", "namespace": "shop", "name": "cart", "tenant": "ns/shop", "observedGeneration": 3,
            "conditions": [
                {"type": "Accepted", "status": accepted, "reason": "WrongType", "message": "spec.ports: no", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Conflicted", "status": conflicted, "reason": "NoConflicts", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
        })
    }

    #[test]
    fn an_object_is_shown_with_its_owner_its_generation_and_each_condition() {
        let object = object("False", "False");
        let text = render(&[&object], 4, Palette::plain());
        assert!(text.starts_with("Service shop/cart of ns/shop, generation 3\n"), "{text}");
        assert!(
            text.contains("  Accepted     False 2026-01-01T00:00:00Z WrongType spec.ports: no\n"),
            "{text}"
        );
        assert!(text.ends_with("3 of 4 objects are as their authors want them\n"), "{text}");
    }

    #[test]
    fn a_conflict_is_what_nobody_wants() {
        assert!(is_well(&object("True", "False")));
        assert!(!is_well(&object("True", "True")) && !is_well(&object("False", "False")));
    }
}
