//! The tables of docs/concepts/ownership.md, read as they stand there.

/// The page.
pub(crate) const PAGE: &str = include_str!("../../../../docs/concepts/ownership.md");

/// The table of what an object changes, and that of what nobody may say: by their headings.
pub(crate) const OBJECTS: &str = "What an object changes";
pub(crate) const HOSTILE: &str = "What nobody may say";

/// The table below a heading, row by row; the first has the columns' names.
pub(crate) fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the page has no section {heading:?}"));
    let lines = section.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What is told, as the page has it: `` `SEVERITY: REASON` "MESSAGE" ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) severity: &'static str,
    pub(crate) reason: &'static str,
    /// A part of the message.
    pub(crate) says: &'static str,
}

/// What a cell says is told: several findings with semicolons between them, or `nothing`.
pub(crate) fn told(cell: &'static str) -> Vec<Told> {
    if cell == "nothing" {
        return Vec::new();
    }
    let one = |text: &'static str| {
        let (label, says) = text.trim_start_matches('`').split_once('`')?;
        let (severity, reason) = label.split_once(": ")?;
        let says = says.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some(Told { severity, reason, says })
    };
    let all = cell.split("; `").map(|text| one(text).unwrap_or_else(|| panic!("no finding: {text}")));
    all.collect()
}
