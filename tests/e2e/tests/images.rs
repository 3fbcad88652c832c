//! What `scripts/pack-image` makes is an image: with the libraries of what is in it, and the same whoever makes it and when.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use e2e::repository;
use testkit::Outcome;

#[test]
fn the_same_files_make_the_same_image_whatever_their_dates_and_the_umask_are() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
    let text = folder.path().join("text");
    fs::write(&text, "hello")?;
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644))?;
    let entries = [format!("/etc/text={}", text.display()), "/bin/a=@/bin/b".to_owned()];
    must(&image("022", &first, &entries)?);
    // An archive counts in seconds.
    thread::sleep(Duration::from_millis(1100));
    fs::write(&text, "hello")?;
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600))?;
    fs::File::open(&text)?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    must(&image("077", &second, &entries)?);
    assert_eq!(fs::read(&first)?, fs::read(&second)?);
    assert!(listing(&first)?.contains("./bin/a -> /bin/b"), "{}", listing(&first)?);
    Ok(())
}

#[test]
fn a_program_is_brought_with_its_libraries_and_runs_with_nothing_else() -> Outcome {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    // Linked with the C library, as everything on this machine is that is not linked statically.
    must(&image("022", &archive, &["/usr/bin/program=/usr/bin/env".to_owned()])?);
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    let unpack = r#"tar -xOf "$1" layer.tar | tar -xC "$2""#;
    must(&Command::new("sh").args(["-c", unpack, "sh"]).arg(&archive).arg(&root).output()?);
    let ran = Command::new("chroot").arg(&root).args(["/usr/bin/program", "--version"]).output()?;
    must(&ran);
    let config =
        Command::new("tar").args(["--wildcards", "-xOf"]).arg(&archive).arg("[0-9a-f]*.json").output()?;
    let config: serde_json::Value = serde_json::from_slice(&config.stdout)?;
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/program", "{config}");
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named_and_no_image_is_left() -> Outcome {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    let output = image("022", &archive, &["/a=/no/such/file".to_owned()])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/no/such/file is not there"), "{said}");
    assert!(!archive.exists());
    Ok(())
}

fn image(umask: &str, archive: &Path, entries: &[String]) -> std::io::Result<Output> {
    let script = r#"umask "$1"; shift; exec scripts/pack-image "$@""#;
    let mut command = Command::new("sh");
    command
        .current_dir(repository())
        .args(["-c", script, "sh", umask])
        .arg(archive)
        .arg("canopy.mesh/test:1");
    command.args(entries).output()
}

fn listing(archive: &Path) -> std::io::Result<String> {
    let list = r#"tar -xOf "$1" layer.tar | tar -tv"#;
    let output = Command::new("sh").args(["-c", list, "sh"]).arg(archive).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn must(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
