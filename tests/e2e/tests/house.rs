//! The house is in order: sizes, openings and lint tables as CONTRIBUTING.md says, stages that import no later one, every
//! folder on the map, and nothing installed that nobody runs. The checks are able to fail.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::repository;
use testkit::Outcome;

#[test]
fn every_source_has_the_size_and_shape_that_is_promised() -> Outcome {
    let output = Command::new(repository().join("scripts/shape")).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn the_check_finds_a_long_file_a_missing_opening_and_a_crate_without_lints() -> Outcome {
    let tree = tempfile::tempdir()?;
    fs::create_dir_all(tree.path().join("scripts"))?;
    for script in ["shape", "env.sh"] {
        fs::copy(repository().join("scripts").join(script), tree.path().join("scripts").join(script))?;
    }
    fs::write(tree.path().join("long.rs"), format!("//! Long.\n{}", "\n".repeat(400)))?;
    fs::write(tree.path().join("mute.rs"), "fn main() {}\n")?;
    fs::write(tree.path().join("fine.rs"), "#![cfg(unix)]\n//! Fine.\n")?;
    fs::write(tree.path().join("Cargo.toml"), "[package]\nname = \"x\"\n")?;
    Command::new("git").args(["init", "--quiet"]).current_dir(tree.path()).status()?;
    // Read by a program, not run itself: while another thread starts one, what was just written may be held for writing.
    let output = Command::new("bash").arg(tree.path().join("scripts/shape")).output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(!output.status.success());
    assert!(said.contains("long.rs: 401 lines") && said.contains("mute.rs: does not open"), "{said}");
    assert!(said.contains("Cargo.toml: does not inherit") && !said.contains("fine.rs"), "{said}");
    Ok(())
}

/// Where a module of node-proxy/src imports a later one of lib.rs, and why it may: path, what it imports, reason.
const EXCEPTIONS: [(&str, &str, &str); 9] = [
    ("accept/", "cell", "it runs in a cell, by that cell's limits"),
    ("accept/hbone/", "identity", "a tunnel is accepted by the handshake that proves who calls"),
    ("identity/credentials/", "forest", "how certificates are shown is one description of the whole forest"),
    ("upstream/", "cell", "it connects with what a cell's connections share"),
    ("relay/", "cell", "a request is one of its cell's live things"),
    ("cell/live.rs", "forest", "how connections are shown is one description of the whole forest"),
    ("forest/process/", "control", "a cell in a process of its own compiles for itself"),
    ("mode/node", "admin", "it starts the daemon's parts"),
    ("mode/node.rs", "app", "it starts the daemon's parts"),
];

#[test]
fn no_module_of_the_daemon_imports_a_later_one_unless_it_is_named_with_a_reason() -> Outcome {
    let source = repository().join("node-proxy/src");
    let order = order(&fs::read_to_string(source.join("lib.rs"))?);
    let place = |module: &str| order.iter().position(|group| group.iter().any(|other| other == module));
    let stages = ["capture", "accept", "identity", "policy", "route", "balance", "upstream", "relay"];
    let alone: Vec<Vec<String>> = stages.iter().map(|stage| vec![(*stage).to_owned()]).collect();
    let found: Vec<_> =
        order.iter().filter(|group| group.iter().any(|m| stages.contains(&m.as_str()))).collect();
    assert_eq!(found, alone.iter().collect::<Vec<_>>(), "in lib.rs, each stage is a group, in path order");
    let mut used = Vec::new();
    for file in sources(&source)? {
        let path = file.strip_prefix(&source)?.to_string_lossy().into_owned();
        let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(own) = place(module) else { continue };
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        for import in imports(&fs::read_to_string(&file)?) {
            if place(&import).is_none_or(|other| other <= own) {
                continue;
            }
            let exception =
                EXCEPTIONS.iter().position(|(from, to, _)| path.starts_with(from) && *to == import);
            let exception =
                exception.ok_or_else(|| format!("{path} imports crate::{import}, which is later"))?;
            used.push(exception);
        }
    }
    for (number, exception) in EXCEPTIONS.iter().enumerate() {
        assert!(used.contains(&number), "no longer needed: {exception:?}");
    }
    Ok(())
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = "use crate::{\n    accept::{Deep, crate_of},\n    stream::Stream, // crate::relay\n};\n\
                  use crate::forest::describe;\nfn f() -> crate::policy::Permit {}\n\
                  #[cfg(test)]\nmod tests {\n    use crate::cli::Cli;\n}\n";
    assert_eq!(imports(source), ["accept", "stream", "forest", "policy"]);
    assert_eq!(
        order("// One.\npub mod a;\npub mod b;\n\n// Two.\npub mod c;\n"),
        [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]
    );
}

#[test]
fn every_folder_of_the_daemon_and_of_the_tests_is_linked_from_the_architecture() -> Outcome {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md"))?;
    let mut folders = 0;
    for parent in ["node-proxy/src", "tests"] {
        for entry in fs::read_dir(repository().join(parent))?.flatten() {
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let folder = format!("]({parent}/{}/", entry.file_name().to_string_lossy());
            assert!(page.contains(&folder), "ARCHITECTURE.md has no link into {parent}: {folder}");
            folders += 1;
        }
    }
    assert!(folders > 20, "{folders} folders were looked at");
    Ok(())
}

#[test]
fn every_program_that_is_installed_is_one_that_something_runs() -> Outcome {
    let setup = fs::read_to_string(repository().join("scripts/setup"))?;
    let wanted = setup.lines().filter_map(|line| line.trim().strip_prefix("want ")?.split(' ').next());
    // Cargo's linker, libFuzzer's compiler, and the front door itself.
    let wanted: Vec<&str> = wanted.filter(|program| !["cc", "c++", "make"].contains(program)).collect();
    assert!(wanted.len() > 5, "{wanted:?}");
    let mut texts = Vec::new();
    for folder in
        ["node-proxy/src", "ebpf-redirect", "tests/bench", "tests/testkit", "tests/e2e", "tests/demo"]
    {
        let files = sources(&repository().join(folder))?;
        for file in files.iter().filter(|file| !file.ends_with("house.rs")) {
            texts.push(fs::read_to_string(file)?);
        }
    }
    let mut scripts = ["go.sh", "image", "pack-image", "kubernetes", "cluster", "sbom", "shape"]
        .map(|name| fs::read_to_string(repository().join("scripts").join(name)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for entry in fs::read_dir(repository().join("tests/cluster"))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sh") {
            scripts.push(fs::read_to_string(entry.path())?);
        }
    }
    let scripts = scripts.join("\n");
    for program in wanted {
        let in_rust = texts.iter().any(|text| text.contains(&format!("\"{program}\"")));
        let in_scripts = scripts.split_whitespace().any(|word| word == program);
        assert!(in_rust || in_scripts, "scripts/setup installs {program}, which nothing runs");
    }
    Ok(())
}

/// The modules of lib.rs in their groups.
fn order(lib: &str) -> Vec<Vec<String>> {
    let groups = lib.split("\n\n").map(|group| {
        let modules = group.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        modules.map(str::to_owned).collect::<Vec<_>>()
    });
    groups.filter(|group| !group.is_empty()).collect()
}

/// Every Rust file below a folder.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The modules that a file takes from the root of its crate, but for its tests.
fn imports(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut begins = true;
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                _ if begins && depth == 1 && !letter.is_whitespace() => {
                    found.push(word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The identifier that a text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}
