//! Regular expressions of routes: one way to compile them, so that what was accepted when lowered compiles
//! again when a snapshot is made.
//!
//! The engine runs in time linear in the input (no backtracking); the size limit bounds what one costs.

use regex::{Regex, RegexBuilder};

/// Bytes a compiled expression may take. The longest that Gateway API admits (1024 characters of path) stay
/// far below unless they multiply counted repetitions.
const SIZE_LIMIT: usize = 128 << 10;

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The engine's syntax does not have it.
    #[error("is not a regular expression (RE2 syntax): {0}")]
    Syntax(String),
    /// It would take too much memory.
    #[error("compiles to more than {SIZE_LIMIT} bytes: make it simpler")]
    TooLarge,
}

/// Compiles an expression that must match the whole of a value.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    // Alone first: "a)(b" is an error, and would be none between the parentheses below.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .nest_limit(64)
        .build()
        .map_err(|error| {
            match error {
                regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
                // The engine draws a picture over several lines; the last one says what is wrong.
                other => PatternError::Syntax(last_line(&other.to_string())),
            }
        })
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_the_whole_value_only() {
        let pattern = compile("a|b+").unwrap();
        assert!(pattern.is_match("bb") && !pattern.is_match("ab") && !pattern.is_match("xa"));
    }

    #[test]
    fn pattern_is_refused_when_it_is_broken_or_grows_without_bound() {
        for broken in ["(", "a)(b", "[z-a]", "(?=x)"] {
            assert!(matches!(compile(broken), Err(PatternError::Syntax(_))), "{broken}");
        }
        assert_eq!(compile("(?:(?:\\pL{100}){100}){100}").unwrap_err(), PatternError::TooLarge);
    }
}
