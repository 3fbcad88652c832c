//! The line that a finding is about, taken from the text while it is at hand.

use std::{collections::BTreeMap, path::PathBuf};

use super::FileText;
use crate::{
    document::shorten_line,
    finding::{Finding, Severity},
};

/// Gives findings their lines, of those files whose texts are here. Findings are sorted by file, so each text is cut into lines once.
pub fn fill(findings: &mut [Finding], files: &BTreeMap<PathBuf, FileText>) {
    for of_one_file in findings.chunk_by_mut(|one, other| one.file == other.file) {
        let Some(FileText::Bytes(bytes)) = of_one_file.first().and_then(|finding| files.get(&*finding.file))
        else {
            continue;
        };
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let mut current: Option<(u32, &[u8])> = None;
        let mut number = 0;
        for finding in of_one_file {
            while number < finding.position.line {
                number += 1;
                current = lines.next().map(|line| (number, line));
            }
            let worth_it = matches!(finding.severity, Severity::Rejected | Severity::Warning);
            let line = current.filter(|(line, _)| worth_it && *line == finding.position.line);
            finding.excerpt = line.map(|(_, bytes)| shorten_line(&String::from_utf8_lossy(bytes)));
        }
    }
}
