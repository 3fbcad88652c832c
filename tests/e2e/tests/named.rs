//! Nothing that an operator is told of is untested: some test names each reason, metric, event of a hook and reason of the
//! fence that docs/operations.md lists. That it lists what the code has, no more and no less, is held elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use e2e::repository;
use testkit::Outcome;

#[test]
fn every_reason_is_named_by_a_test() -> Outcome {
    let (page, tests) = (operations()?, tests()?);
    let reasons = first_cells(section(&page, "Reasons"));
    assert!(reasons.len() > 40, "{reasons:?}");
    for reason in reasons {
        let variant = format!("Reason::{}", camel_case(reason));
        assert!(
            quotes(&tests, reason) || names(&tests, &variant),
            "no test names the reason {reason}: neither \"{reason}\" nor {variant}"
        );
    }
    Ok(())
}

#[test]
fn every_metric_is_named_by_a_test() -> Outcome {
    let (page, tests) = (operations()?, tests()?);
    let metrics = first_cells(section(&page, "Metrics"));
    assert!(metrics.len() > 20, "{metrics:?}");
    for metric in metrics {
        assert!(names(&tests, metric), "no test names the metric {metric}");
    }
    Ok(())
}

#[test]
fn every_event_of_a_hook_and_every_reason_of_the_fence_is_named_by_a_test() -> Outcome {
    let (page, tests) = (operations()?, tests()?);
    let events = first_cells(section(&page, "The hooks"));
    let (_, fence) = section(&page, "The fence").split_once("| reason |").ok_or("the fence's table")?;
    let reasons = first_cells(fence);
    assert!(events.len() > 15 && reasons.len() > 10, "{events:?} {reasons:?}");
    for counted in events.into_iter().chain(reasons) {
        assert!(quotes(&tests, counted), "no test names what a hook counts as \"{counted}\"");
    }
    Ok(())
}

#[test]
fn a_name_is_found_as_a_whole_and_in_quotes_only() {
    let tests = "refusals(Reason::NoRouteAtAll); \"no_route_at_all\" no_route {reason=\\\"draining\\\"}";
    assert!(!quotes(tests, "no_route") && !names(tests, "Reason::NoRoute"));
    assert!(quotes(tests, "draining") && names(tests, "Reason::NoRouteAtAll"));
    assert_eq!(camel_case("no_route_at_all"), "NoRouteAtAll");
    assert_eq!(
        tests_of("node-proxy/src/x.rs", "code\n#[cfg(test)]\nmod tests {\n    a\n}\n"),
        "\n    a\n}\n"
    );
    assert_eq!(tests_of("node-proxy/src/x.rs", "code\n#[cfg(test)]\nmod tests;\n"), "");
    assert_eq!(tests_of("node-proxy/src/x/tests.rs", "all"), "all");
}

fn operations() -> io::Result<String> {
    fs::read_to_string(repository().join("docs/operations.md"))
}

fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let mut sections = page.split("\n## ");
    sections.find(|section| section.starts_with(heading)).expect("a section of that heading")
}

/// First cells, in backquotes, of a text's tables.
fn first_cells(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// All that tests say, but for this file.
fn tests() -> io::Result<String> {
    let mut all = String::new();
    for folder in ["node-proxy", "ebpf-redirect", "tests/e2e"] {
        gather(&repository().join(folder), folder, &mut all)?;
    }
    assert!(all.len() > 500_000, "{} bytes of tests", all.len());
    Ok(all)
}

fn gather(folder: &Path, name: &str, all: &mut String) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name}/{own}");
        if path.is_dir() && own != "target" {
            gather(&path, &name, all)?;
        } else if own.ends_with(".rs") && name != "tests/e2e/tests/named.rs" {
            all.push_str(tests_of(&name, &fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// What of a file is tests.
fn tests_of<'a>(name: &str, source: &'a str) -> &'a str {
    if name.contains("/tests/") || name.ends_with("/tests.rs") {
        return source;
    }
    source.split_once("#[cfg(test)]\nmod tests {").map_or("", |(_, tests)| tests)
}

/// Whether a name stands in quotes, which may themselves be in quotes.
fn quotes(text: &str, name: &str) -> bool {
    text.contains(&format!("\"{name}\"")) || text.contains(&format!("\"{name}\\\""))
}

/// Whether a name stands there, and is not the beginning of another.
fn names(text: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(name).any(|(at, _)| !text[at + name.len()..].starts_with(is_part))
}

/// `no_route` as the code has it: `NoRoute`.
fn camel_case(label: &str) -> String {
    let words = label.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}
