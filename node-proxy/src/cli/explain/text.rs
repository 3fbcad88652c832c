//! An explanation for people: a stage per paragraph, the object that decides below it, the verdict in the last line.
//!
//! Nothing of what it is told may write more than text to the terminal, wherever it comes from.

use std::fmt::Write as _;

use config::finding::visible;

use super::super::style::Palette;
use crate::explain::told::{Detail, Explanation, Object, Outcome, Stage, Verdict};

/// Columns of a stage's name.
const NAME: usize = 12;

/// The explanation as text.
pub(super) fn render(explanation: &Explanation, palette: Palette) -> String {
    let Explanation { asked, configuration_version, stages, verdict } = explanation;
    let mut out = String::new();
    let version = palette.dim(format!("(configuration {configuration_version})"));
    line(&mut out, &format!("{}  {version}\n", palette.bold(visible(asked))));
    for Stage { stage, says, object, details } in stages {
        line(&mut out, &format!("{} {}", palette.cyan(format!("{:<NAME$}", stage.as_str())), visible(says)));
        below(&mut out, object.as_ref(), palette);
        let mut shown = vec![object.as_ref()];
        for Detail { says, object } in details {
            line(&mut out, &format!("{:NAME$} {}", "", visible(says)));
            // Once is enough.
            if !shown.contains(&object.as_ref()) {
                below(&mut out, object.as_ref(), palette);
                shown.push(object.as_ref());
            }
        }
    }
    out.push('\n');
    line(&mut out, &sentence(verdict, palette));
    out
}

/// An object, its owner and its place, in a line of its own.
fn below(out: &mut String, object: Option<&Object>, palette: Palette) {
    if let Some(object) = object {
        line(out, &format!("{:NAME$}   {}", "", palette.dim(visible(&told(object)))));
    }
}

fn told(object: &Object) -> String {
    let mut text = format!("{object} of {}", object.owner);
    if let (Some(file), Some(number)) = (&object.file, object.line) {
        let _ = write!(text, ", {file}:{number}");
    }
    text
}

fn sentence(verdict: &Verdict, palette: Palette) -> String {
    let Verdict { outcome, reason, says, by, remedy } = verdict;
    let word = outcome.as_str();
    let word = match outcome {
        Outcome::Carried | Outcome::Answered => palette.green(word),
        Outcome::Passed | Outcome::Partly => palette.yellow(word),
        Outcome::Refused => palette.red(word),
    };
    let mut text = format!("{} {word}", palette.bold(format!("{:<NAME$}", "verdict")));
    if let Some(reason) = reason {
        let _ = write!(text, " ({})", visible(reason));
    }
    let _ = write!(text, ": {}", visible(says));
    if let Some(by) = by {
        let _ = write!(text, ". By {}", visible(&told(by)));
    }
    if let Some(remedy) = remedy {
        let _ = write!(text, ". To have it carried, {}", visible(remedy));
    }
    text
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::told::Name;

    fn explanation() -> Explanation {
        let object = Object {
            kind: "AuthorizationPolicy".to_owned(),
            namespace: Some("bank".to_owned()),
            name: "callers".to_owned(),
            owner: "bank".to_owned(),
            file: Some("conf/bank.yaml".to_owned()),
            line: Some(12),
        };
        Explanation {
            asked: "shop/web → ledger.bank:80  GET /".to_owned(),
            configuration_version: 4,
            stages: vec![Stage {
                stage: Name::Receiver,
                says: "refuses it".to_owned(),
                object: Some(object.clone()),
                details: vec![Detail { says: "asked first: nobody".to_owned(), object: None }],
            }],
            verdict: Verdict {
                outcome: Outcome::Refused,
                reason: Some("policy_denied".to_owned()),
                says: "bank/ledger does not let it in".to_owned(),
                by: Some(object),
                remedy: Some("bank would have to change it".to_owned()),
            },
        }
    }

    #[test]
    fn the_verdict_is_the_last_line_with_its_reason_its_object_and_what_to_do() {
        let expected = "\
shop/web → ledger.bank:80  GET /  (configuration 4)

receiver     refuses it
               AuthorizationPolicy bank/callers of bank, conf/bank.yaml:12
             asked first: nobody

verdict      refused (policy_denied): bank/ledger does not let it in. By AuthorizationPolicy bank/callers of bank, conf/bank.yaml:12. To have it carried, bank would have to change it
";
        assert_eq!(render(&explanation(), Palette::plain()), expected);
    }

    #[test]
    fn nothing_that_is_told_writes_more_than_text() {
        let evil = "\u{1b}[2J\u{9b}31m\r\u{7}".to_owned();
        let mut told = explanation();
        told.asked.clone_from(&evil);
        told.stages[0].says.clone_from(&evil);
        told.stages[0].details[0].says.clone_from(&evil);
        for object in [&mut told.stages[0].object, &mut told.verdict.by].into_iter().flatten() {
            (object.name, object.owner, object.file) = (evil.clone(), evil.clone(), Some(evil.clone()));
        }
        told.verdict.says.clone_from(&evil);
        told.verdict.remedy = Some(evil.clone());
        told.verdict.reason = Some(evil);
        let text = render(&told, Palette::plain());
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
    }
}
