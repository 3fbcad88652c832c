//! Every workload has a certificate of its own, in its tenant's cell; its key is nowhere else to be seen.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use e2e::{HTTP, Origin, Stage, built, eventually};
use serde_json::Value;
use testkit::{Daemon, Outcome, http::get};

#[test]
fn certificate_of_the_embedded_authority_is_shown_and_outlives_a_change_of_root() -> Outcome {
    let stage = Stage::new()?;
    let _web = stage.pod("shop", "web", &[HTTP])?;
    let daemon = stage.daemon()?;
    eventually("the first certificate is there", || serial(&daemon).is_some())?;
    let page = daemon.canopy(&["tree"])?;
    assert!(String::from_utf8_lossy(&page.stdout).contains("certificate of embedded, valid until 20"));
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
fn no_key_is_on_any_surface() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("files/shop/client");
    let written = Command::new(built("canopy"))
        .args(["certificate", "--identity", "spiffe://cluster.local/ns/shop/sa/client", "--out"])
        .arg(&own)
        .arg("--ca-dir")
        .arg(folder.path().join("ca"))
        .output()?;
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let files = folder.path().join("files").display().to_string();
    let mut daemon =
        stage.daemon_with(&["--ca", "files", "--certificates", &files, "--log-level", "trace"])?;
    eventually("the certificate was read", || serial(&daemon).is_some())?;
    let answer = get(&client, vip.at(80), "web.shop", "/")?;
    assert_eq!(answer.status, 200);
    let line = daemon.wait_logged(|line| line["path"] == "/")?;
    let mut surfaces = vec![("access log", line.to_string()), ("own log", daemon.output())];
    for verb in [&["tree"][..], &["tree", "--json"], &["status"], &["status", "--json"]] {
        let output = daemon.canopy(verb)?;
        surfaces.push(("verb", String::from_utf8_lossy(&output.stdout).into_owned()));
        surfaces.push(("verb", String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    for path in ["/metrics", "/readyz", "/livez", "/certificates", "/config_dump", "/tree", "/"] {
        surfaces.push(("metrics port", daemon.scrape(path)?.text()));
    }
    let key = fs::read_to_string(own.join("tls.key"))?;
    let secret: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    for (what, text) in surfaces {
        assert!(!text.contains("PRIVATE KEY"), "{what}: {text}");
        for part in secret.as_bytes().windows(12).skip(40) {
            let part = String::from_utf8_lossy(part);
            assert!(!text.contains(&*part), "{part} is in {what}: {text}");
        }
    }
    // That the search would have found it.
    assert!(key.contains("PRIVATE KEY") && secret.len() > 100);
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
