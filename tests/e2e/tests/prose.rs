//! What the README and its neighbours say is so: their links lead somewhere, their commands exist, their
//! manifests are accepted, and the verbs they name are the binary's.

use std::{fs, path::Path, process::Command};

use e2e::{built, repository};
use testkit::Outcome;

#[test]
fn every_relative_link_leads_to_a_file() -> Outcome {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page)?;
        let folder = page.parent().ok_or("a page is in a folder")?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            links += 1;
            assert!(folder.join(path).exists(), "{}: {target} leads nowhere", page.display());
        }
    }
    assert!(links > 0, "no link was looked at");
    Ok(())
}

#[test]
fn every_make_target_that_is_named_is_in_the_makefile() -> Outcome {
    let makefile = fs::read_to_string(repository().join("Makefile"))?;
    for page in pages() {
        for line in commands(&fs::read_to_string(&page)?).iter().filter(|line| line.starts_with("make ")) {
            let target = line.split_ascii_whitespace().nth(1).unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}: ##")), "{}: {line}", page.display());
        }
    }
    Ok(())
}

#[test]
fn every_canopy_command_that_is_shown_is_one() -> Outcome {
    let mut shown = 0;
    for page in pages() {
        for line in commands(&fs::read_to_string(&page)?) {
            let Some(arguments) = line.split_once("canopy ").map(|(_, rest)| rest) else { continue };
            let arguments: Vec<&str> =
                arguments.split(['#', '|']).next().unwrap_or_default().split_ascii_whitespace().collect();
            // With --help at its end, a command line is checked as far as its verb, and does nothing.
            let output = Command::new(built("canopy")).args(&arguments).arg("--help").output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: {line}\n{said}", page.display());
            let help = String::from_utf8(output.stdout)?;
            for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
                assert!(help.contains(flag), "{}: {line}: no such flag: {flag}", page.display());
            }
            shown += 1;
        }
    }
    assert!(shown > 0, "no command was looked at");
    Ok(())
}

#[test]
fn shipped_examples_and_manifests_in_the_prose_are_accepted() -> Outcome {
    let shown = tempfile::tempdir()?;
    for page in pages() {
        for (number, block) in blocks(&fs::read_to_string(&page)?, "yaml").into_iter().enumerate() {
            let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            fs::write(shown.path().join(format!("{name}-{number}.yaml")), block)?;
        }
    }
    let examples = fs::read_dir(repository().join("examples"))?.flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = examples.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty(), "no example was looked at");
    if fs::read_dir(shown.path())?.next().is_some() {
        folders.push(shown.path().to_path_buf());
    }
    for folder in folders {
        let output = Command::new(built("canopy")).arg("validate").arg(&folder).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "canopy validate {}:\n{said}", folder.display());
    }
    Ok(())
}

/// The pages that say how things are and are done.
fn pages() -> Vec<std::path::PathBuf> {
    let names = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/cluster.md",
        "docs/conformance.md",
        "docs/control-plane.md",
        "docs/operations.md",
        "docs/security.md",
    ];
    let folders = ["docs/concepts", "docs/operations"].map(|folder| repository().join(folder));
    let concepts = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let concepts =
        concepts.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    names
        .into_iter()
        .map(|name| repository().join(name))
        .filter(|path| Path::is_file(path))
        .chain(concepts)
        .collect()
}

/// The command lines of a page's `sh` blocks.
fn commands(text: &str) -> Vec<String> {
    let lines = blocks(text, "sh").join("\n");
    lines.lines().map(|line| line.trim().trim_start_matches("sudo ").to_owned()).collect()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let starts = text.split(&fence).skip(1);
    starts.filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}
