//! What every path begins with that a regular expression matches, as far as its pattern says so in plain characters.
//!
//! It must never say more than is true: where in doubt, nothing.

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, Look};

/// The whole elements, without the slash after them: `/api/v1` of `/api/v1/users-[0-9]+`, nothing of `.*/v1`.
pub(super) fn elements(regex: &Regex) -> String {
    let Ok(hir) = regex_syntax::parse(regex.as_str()) else { return String::new() };
    let mut reader = Reader::default();
    reader.read(&hir);
    let whole = reader.literal.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    reader.literal.truncate(whole);
    String::from_utf8(reader.literal).unwrap_or_default()
}

/// Reads a pattern from its start for as long as it is plain.
#[derive(Default)]
struct Reader {
    /// Whether the pattern has said that it begins where the path does.
    is_anchored: bool,
    literal: Vec<u8>,
}

impl Reader {
    /// Whether what follows is to be read, too.
    fn read(&mut self, hir: &Hir) -> bool {
        match hir.kind() {
            HirKind::Look(Look::Start) => {
                self.is_anchored = true;
                true
            }
            HirKind::Empty | HirKind::Look(_) => true,
            HirKind::Literal(literal) if self.is_anchored => {
                self.literal.extend_from_slice(&literal.0);
                true
            }
            HirKind::Capture(capture) => self.read(&capture.sub),
            HirKind::Concat(parts) => parts.iter().all(|part| self.read(part)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_elements_that_are_plain_are_the_beginning() {
        let cases = [
            (r"\A(?:/api/v1/users-[0-9]+)\z", "/api/v1"),
            (r"\A(?:/api/v1)\z", "/api"),
            (r"\A(?:/api/v1/)\z", "/api/v1"),
            (r"\A(?:^/(api)/(v1)/.*)\z", "/api/v1"),
            (r"\A(?:/a\.b/\d)\z", "/a.b"),
            (r"\A(?:/a/b?/c)\z", "/a"),
            (r"\A(?:/a/(b/)*c)\z", "/a"),
            (r"\A(?:/a/x|/b/y)\z", ""),
            (r"\A(?:(?i)/api/v1)\z", ""),
            (r"\A(?:.*/v1)\z", ""),
            (r"\A(?:/[ab]/c)\z", ""),
            (r"/not/from/the/start", ""),
            (r"\A(?:/é/x)\z", "/é"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(elements(&Regex::new(pattern).unwrap()), expected, "{pattern}");
        }
    }
}
