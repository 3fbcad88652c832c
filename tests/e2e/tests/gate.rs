//! No container of a captured pod starts before the pod is steered and fenced: the plugin, as a container runtime runs it, waits for the
//! daemon's word, and does without it as the pod's namespace says.

use std::{path::Path, process::Output, thread, time::Duration};

use e2e::{HTTP, Stage, eventually, run_plugin};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Daemon, Outcome, Pod};

/// A stage with a gate.
struct Gated {
    stage: Stage,
    directory: TempDir,
}

impl Gated {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self { stage: Stage::new()?, directory: tempfile::tempdir()? })
    }

    fn namespace(&self, name: &str, labels: &str) -> Result<(), testkit::KitError> {
        let text =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n");
        self.stage.manifests.write(&format!("{name}-namespace.yaml"), &text)
    }

    fn daemon(&self) -> Result<Daemon, testkit::KitError> {
        let at = |name: &str| self.directory.path().join(name).to_string_lossy().into_owned();
        self.stage.daemon_with(&["--gate-socket", &at("gate.sock"), "--gate-cache", &at("namespaces.json")])
    }
}

/// The plugin, run for this pod, with so many seconds.
fn plugin(directory: &Path, command: &str, pod: &Pod, seconds: u64) -> Output {
    let network = json!({
        "cniVersion": "1.0.0", "name": "podnet", "type": "canopy-cni", "gate": directory.join("gate.sock"),
        "cache": directory.join("namespaces.json"), "timeoutSeconds": seconds,
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": format!("{}/24", pod.v4())}]},
    });
    run_plugin(command, pod, ("u", "c0"), &network)
}

fn message(output: &Output) -> String {
    let error: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    error["msg"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pod_waits_until_it_is_enrolled_and_is_fenced_when_it_starts() -> Outcome {
    let gated = Gated::new()?;
    gated.namespace("shop", "canopy.mesh/mode: node")?;
    let daemon = gated.daemon()?;
    let pod = gated.stage.node.pod("shop", "web")?;
    let fenced = || daemon.metric("canopy_fence_pods", &["state=\"enforcing\""]).unwrap_or_default();
    let output = thread::scope(|scope| {
        let starting = scope.spawn(|| plugin(gated.directory.path(), "ADD", &pod, 60));
        thread::sleep(Duration::from_millis(300));
        assert!(!starting.is_finished(), "nobody has said anything of the pod yet");
        gated.stage.manifests.pod(&pod, &[HTTP]).expect("a manifest");
        starting.join().expect("the plugin")
    });
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fenced(), 1.0, "before its first container starts");
    assert_eq!(daemon.metric("canopy_gate_pods_total", &["outcome=\"enrolled\""])?, 1.0);
    let page = daemon.scrape("/metrics")?.text();
    assert!(page.contains("# TYPE canopy_gate_wait_seconds histogram"), "{page}");
    assert!(page.contains("canopy_gate_wait_seconds_bucket{le=\"0.1\"} 0"), "it has waited longer:\n{page}");
    assert!(page.contains("canopy_gate_wait_seconds_count 1"), "{page}");
    let tree = daemon.canopy(&["tree"])?;
    assert!(String::from_utf8_lossy(&tree.stdout).contains("shop/web"), "{tree:?}");
    assert!(plugin(gated.directory.path(), "CHECK", &pod, 5).status.success());
    assert!(plugin(gated.directory.path(), "DEL", &pod, 5).status.success());
    Ok(())
}

#[test]
fn a_pod_that_cannot_be_enrolled_does_not_start_and_is_told_why() -> Outcome {
    let gated = Gated::new()?;
    let (web, other) = (gated.stage.node.pod("shop", "web")?, gated.stage.node.pod("shop", "other")?);
    gated.namespace("shop", "canopy.mesh/mode: node")?;
    gated.stage.manifests.pod(&web, &[])?;
    // It names its own namespace, and an address that is another's.
    let text = gated.stage.manifests.read("shop-web-pod.yaml")?;
    let text = text.replace(&web.v4().to_string(), &other.v4().to_string());
    gated.stage.manifests.write("shop-web-pod.yaml", &text)?;
    let _daemon = gated.daemon()?;
    let output = plugin(gated.directory.path(), "ADD", &web, 2);
    assert!(!output.status.success());
    let said = message(&output);
    assert!(said.contains("shop/web is not enrolled") && said.contains("status.podIPs"), "{said}");
    let unknown = message(&plugin(gated.directory.path(), "ADD", &other, 2));
    assert!(unknown.contains("the daemon does not know the pod"), "{unknown}");
    Ok(())
}

#[test]
fn while_the_daemon_is_away_a_pod_starts_as_its_namespace_says_and_nobodys_pod_is_held_up() -> Outcome {
    let gated = Gated::new()?;
    gated.namespace("closed", "canopy.mesh/mode: node")?;
    gated.namespace("open", "canopy.mesh/mode: node, canopy.mesh/on-failure: open")?;
    gated.namespace("nobodys", "")?;
    let daemon = gated.daemon()?;
    let cache = gated.directory.path().join("namespaces.json");
    eventually("it is on disk what namespaces say", || {
        std::fs::read_to_string(&cache).is_ok_and(|text| text.contains("nobodys"))
    })?;
    drop(daemon);
    let pods = ["closed", "open", "nobodys", "unheard"].map(|name| gated.stage.node.pod(name, name));
    for (pod, expected) in pods.into_iter().zip([
        Err("no daemon enrols the pod"),
        Ok("starts uncaptured"),
        Ok(""),
        Err("nobody else knows whose the pod is"),
    ]) {
        let pod = pod?;
        let output = plugin(gated.directory.path(), "ADD", &pod, 1);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        match expected {
            Ok(remark) => assert!(output.status.success() && log.contains(remark), "{output:?}"),
            Err(why) => assert!(!output.status.success() && message(&output).contains(why), "{output:?}"),
        }
    }
    Ok(())
}
