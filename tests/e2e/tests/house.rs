//! The house is in order: sizes, openings and lint tables as CONTRIBUTING.md says, and the check of them is
//! able to fail.

use std::{fs, process::Command};

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
    let output = Command::new(tree.path().join("scripts/shape")).output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(!output.status.success());
    assert!(said.contains("long.rs: 401 lines") && said.contains("mute.rs: does not open"), "{said}");
    assert!(said.contains("Cargo.toml: does not inherit") && !said.contains("fine.rs"), "{said}");
    Ok(())
}
