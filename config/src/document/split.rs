//! Cutting a file into its documents before any of them is parsed.
//!
//! A `---` or `...` at the start of a line ends a document whatever surrounds it (YAML 1.2.2, 9.1.2: such
//! lines are forbidden inside scalars), so a document that is broken cannot take its neighbours along.

/// A stretch of the file: the lines of one document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// Lines of the file before this one.
    pub(super) lines_before: u32,
    pub(super) text: &'a str,
}

/// The documents of a text, without those that hold only comments, blank lines or directives.
pub(super) fn split(text: &str) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = Some(text);
    let mut lines = 0;
    std::iter::from_fn(move || {
        let from = rest?;
        let (text, after) = cut(from);
        let chunk = Chunk { lines_before: lines, text };
        lines += u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        rest = (!after.is_empty()).then_some(after);
        Some(chunk)
    })
    .filter(|chunk| chunk.text.split(BREAKS).any(says_something))
}

/// The first document and what follows. An end marker (`...`) still belongs to the first one.
fn cut(text: &str) -> (&str, &str) {
    let mut offset = 0;
    for (number, line) in text.split_inclusive(BREAKS).enumerate() {
        if number > 0 && is_marker(line, "---") {
            return text.split_at(offset);
        }
        offset += line.len();
        if is_marker(line, "...") {
            return text.split_at(offset);
        }
    }
    (text, "")
}

/// What ends a line for YAML, which has the one of old as well.
const BREAKS: [char; 2] = ['\n', '\r'];

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn says_something(line: &str) -> bool {
    let line = if is_marker(line, "---") || is_marker(line, "...") { &line[3..] } else { line };
    let trimmed = line.trim();
    !trimmed.is_empty() && !trimmed.starts_with('#') && !line.starts_with('%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<(u32, &str)> {
        split(text).map(|chunk| (chunk.lines_before, chunk.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_markers_and_know_their_first_line() {
        assert_eq!(documents("a: 1\n---\nb: 2\n"), [(0, "a: 1\n"), (1, "---\nb: 2\n")]);
        assert_eq!(documents("---\na: 1\n...\nb: 2\n"), [(0, "---\na: 1\n...\n"), (3, "b: 2\n")]);
    }

    #[test]
    fn lines_may_end_otherwise() {
        assert_eq!(documents("# b\ra: 1\r---\rb: 2\r"), [(0, "# b\ra: 1\r"), (0, "---\rb: 2\r")]);
        assert_eq!(documents("a: 1\r\n---\r\nb: 2\r\n"), [(0, "a: 1\r\n"), (1, "---\r\nb: 2\r\n")]);
    }

    #[test]
    fn document_of_comments_or_directives_is_no_document() {
        assert_eq!(documents("# hello\n---\n---\n%YAML 1.2\n---\na: 1"), [(4, "---\na: 1")]);
        assert_eq!(documents("# hello\r\n---\r\n"), []);
        assert_eq!(documents(""), []);
    }

    #[test]
    fn dashes_within_a_line_or_a_longer_run_do_not_cut() {
        assert_eq!(documents("a: |\n ---\n----\n").len(), 1);
    }
}
