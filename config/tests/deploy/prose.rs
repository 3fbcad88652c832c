//! What the pages on running it say in figures and links is so.

use crate::manifests::{files, repository, text};

#[test]
fn figures_of_sizing_are_those_of_the_benchmarks() {
    let benchmarks = text("docs/benchmarks.md");
    let mut seen = 0;
    for row in
        text("docs/operations/sizing.md").lines().filter(|line| line.starts_with("| ") && line.contains("]("))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let line = format!("\n| {} | {} |\n", cells[1], cells[2]);
        assert!(benchmarks.contains(&line), "docs/benchmarks.md has no such line:{line}");
        seen += 1;
    }
    assert!(seen >= 6, "{seen} figures were looked at");
}

#[test]
fn every_anchor_of_a_link_between_these_pages_is_a_heading() {
    let slug = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    let mut seen = 0;
    for page in files("docs/operations") {
        let folder = repository().join(&page);
        for target in text(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((path, anchor)) = target.split_once('#').filter(|(path, _)| !path.contains("://"))
            else {
                continue;
            };
            let at = if path.is_empty() { folder.clone() } else { folder.parent().unwrap().join(path) };
            let text =
                std::fs::read_to_string(&at).unwrap_or_else(|error| panic!("{page}: {target}: {error}"));
            let headings = text
                .lines()
                .filter(|line| line.starts_with('#'))
                .map(|line| line.trim_start_matches('#').trim());
            assert!(
                headings.map(slug).any(|heading| heading == anchor),
                "{page}: {target} leads to no heading"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} links were looked at");
}

/// On a cluster nothing is released yet: each page says so before anything else.
#[test]
fn each_page_says_what_is_not_released() {
    for page in files("docs/operations") {
        let text = text(&page);
        let first = text.lines().filter(|line| !line.is_empty()).nth(1).unwrap_or_default();
        assert!(first.starts_with("> **Not released yet"), "{page}");
    }
}
