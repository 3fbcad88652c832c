//! The wrong identity in every position, between two daemons: refused by the one that sees it, with its own reason in its log
//! and its metrics; the other says that it was refused. (Certificates that a daemon itself would never show are Envoy's to
//! show, in `wrong_identity_envoy.rs`; what is revoked while it is used is in `hbone_trust.rs`.)

use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use e2e::{Listener, Mesh, end_of, eventually, is_reset, port};
use serde_json::Value;
use testkit::{
    Daemon, Outcome,
    manifests::Manifests,
    pki::{Authority, Leaf},
};

/// A client calls; this is what each end says of it.
struct Scene {
    mesh: Mesh,
    ours: Authority,
    /// What the calling daemon has its certificates from, and what it is told.
    here: Vec<String>,
    lies: Option<Manifests>,
    /// The other daemon's.
    there: Vec<String>,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (mesh, ours) = (Mesh::new()?, Authority::new()?);
        ours.issue("shop", "client")?;
        ours.issue("bank", "ledger")?;
        let files = || files(ours.path());
        Ok(Self { here: files(), there: files(), lies: None, mesh, ours })
    }

    /// Calls, is refused, and finds the reasons: of the caller's daemon, of the receiver's if it was asked at all.
    fn refused(self, by_caller: &str, by_receiver: Option<&str>) -> Outcome {
        let ports = [port("tcp-echo", 7000)];
        let mesh = &self.mesh;
        let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &ports)?);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let _app = Listener::start(&ledger, ledger.at(7000), move |mut stream| {
            count.fetch_add(1, Relaxed);
            stream.write_all(b"welcome")
        })?;
        let there = mesh.daemon_there(&words(&self.there))?;
        let here = match &self.lies {
            Some(lies) => {
                for entry in std::fs::read_dir(mesh.stage.manifests.path())?.flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let text = mesh.stage.manifests.read(&name)?;
                    let lie = text.replace("serviceAccountName: ledger", "serviceAccountName: default");
                    lies.write(&name, &lie)?;
                }
                mesh.daemon_misled(lies, &words(&self.here))?
            }
            None => mesh.daemon_here(&words(&self.here))?,
        };
        // One that has no certificate waits five seconds for it.
        let end = end_of(&client, ledger.at(7000));
        assert!(is_reset(&end), "{end:?}");
        for (daemon, pod, reason) in
            [(&here, "shop/client", Some(by_caller)), (&there, "bank/ledger", by_receiver)]
        {
            let Some(reason) = reason else {
                assert!(daemon.access_log().is_empty(), "{pod}: {:?}", daemon.access_log());
                continue;
            };
            let said = || says(daemon, pod, reason);
            let found = eventually(reason, || said() == 1);
            assert!(found.is_ok(), "{pod}: not {reason}: {:?}\n{}", daemon.access_log(), daemon.output());
            daemon.wait_metric("canopy_refused_total", &[&format!("reason=\"{reason}\"")], 1.0)?;
            assert_eq!(daemon.metric("canopy_refused_total", &[])?, 1.0, "{pod}: and no other reason");
            daemon.wait_metric("canopy_hbone_tunnels_open", &[], 0.0)?;
        }
        assert_eq!(asked.load(Relaxed), 0, "the app was reached");
        Ok(())
    }
}

/// How often a daemon's log says this of the tunnel, or of what was to go through it.
fn says(daemon: &Daemon, pod: &str, reason: &str) -> usize {
    let is_it = |line: &&Value| line["workload"] == pod && line["reason"] == reason;
    daemon.access_log().iter().filter(is_it).count()
}

fn files(directory: &Path) -> Vec<String> {
    ["--ca", "files", "--certificates", &directory.display().to_string()].map(str::to_owned).to_vec()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_server_that_is_not_who_was_called_is_refused() -> Outcome {
    let scene = Scene { lies: Some(Manifests::new()?), ..Scene::new()? };
    scene.refused("identity_mismatch", Some("certificate_refused"))
}

#[test]
fn a_server_of_an_authority_that_the_caller_does_not_know_is_refused() -> Outcome {
    let stranger = Authority::new()?;
    stranger.issue("bank", "ledger")?;
    let scene = Scene { there: files(stranger.path()), ..Scene::new()? };
    scene.refused("unknown_authority", Some("certificate_refused"))
}

#[test]
fn a_client_of_an_authority_that_the_receiver_does_not_know_is_refused() -> Outcome {
    let (scene, stranger) = (Scene::new()?, Authority::new()?);
    stranger.issue("shop", "client")?;
    stranger.trusts(("shop", "client"), &scene.ours)?;
    let scene = Scene { here: files(stranger.path()), ..scene };
    scene.refused("certificate_refused", Some("unknown_authority"))
}

#[test]
fn a_server_of_another_trust_domain_is_refused_though_its_authority_is_known() -> Outcome {
    let mut scene = Scene::new()?;
    let uris = ["spiffe://other.test/ns/bank/sa/ledger"];
    scene.ours.issue_odd(("bank", "ledger"), &Leaf { uris: &uris, ..Leaf::default() })?;
    scene.there.extend(["--trust-domain", "other.test"].map(str::to_owned));
    scene.refused("trust_domain_mismatch", Some("certificate_refused"))
}

#[test]
fn a_workload_without_a_certificate_calls_nobody_on_another_node() -> Outcome {
    let mut scene = Scene::new()?;
    let nothing = tempfile::tempdir()?;
    scene.here = files(nothing.path());
    scene.refused("certificate_unavailable", None)
}

#[test]
fn a_workload_without_a_certificate_is_reached_by_nobody() -> Outcome {
    let mut scene = Scene::new()?;
    let nothing = tempfile::tempdir()?;
    scene.there = files(nothing.path());
    scene.refused("tls_failed", Some("certificate_unavailable"))
}
