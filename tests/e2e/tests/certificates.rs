//! Every workload has a certificate of its own, in its tenant's cell. (That its key is nowhere to be seen is `keys.rs`.)

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use e2e::{HTTP, Stage, built, eventually};
use serde_json::Value;
use testkit::{Daemon, Outcome};

#[test]
fn certificate_of_the_embedded_authority_is_shown_and_outlives_a_change_of_root() -> Outcome {
    let stage = Stage::new()?;
    let _web = stage.pod("shop", "web", &[HTTP])?;
    let daemon = stage.daemon()?;
    eventually("the first certificate is there", || serial(&daemon).is_some())?;
    eventually("the page shows it", || {
        let page = daemon.canopy(&["tree"]).map(|page| String::from_utf8_lossy(&page.stdout).into_owned());
        page.is_ok_and(|page| page.contains("certificate of embedded, valid until 20"))
    })?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let left = daemon.metric("canopy_identity_certificate_expiry_seconds", &["tenant=\"ns/shop\""])? - now;
    assert!((3500.0..=3601.0).contains(&left), "{left}");
    let before = serial(&daemon);
    let step = |step: &str| canopy(&["root", step, "--ca-dir"], &daemon.ca_dir());
    assert!(!step("switch")?.status.success(), "there is no next root yet");
    assert!(step("prepare")?.status.success());
    assert!(step("switch")?.status.success());
    eventually("the certificate was renewed", || serial(&daemon).is_some() && serial(&daemon) != before)?;
    assert!(step("finish")?.status.success());
    Ok(())
}

#[test]
fn root_that_others_could_read_stops_the_start_and_says_what_to_do() -> Outcome {
    let stage = Stage::new()?;
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca").display().to_string();
    drop(stage.daemon_with(&["--ca-dir", &ca])?);
    let root = folder.path().join("ca/root.pem");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o644))?;
    let refused = stage.daemon_with(&["--ca-dir", &ca]).map(drop).unwrap_err().to_string();
    assert!(refused.contains(&format!("chmod 600 {}", root.display())), "{refused}");
    Ok(())
}

/// The number of the first certificate in the forest.
fn serial(daemon: &Daemon) -> Option<String> {
    let output = daemon.canopy(&["tree", "--json"]).ok()?;
    let forest: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(forest["cells"][0]["trees"][0]["certificate"]["serial"].as_str()?.to_owned())
}

fn canopy(arguments: &[&str], directory: &Path) -> std::io::Result<Output> {
    Command::new(built("canopy")).args(arguments).arg(directory).output()
}
