//! Canopy's own control plane and a node of it: one directory, served to the node that obeys it as if it were its own; as a whole, and
//! on demand, also where a tenant's cell is a process.

use std::{path::Path, process::Command};

use e2e::{HTTP, Stage, Traffic, built, eventually};
use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{Daemon, Outcome, Pod, Process, Server, http};

use super::shop::{Failure, at};

/// A caller of one tenant and a server of another, and the control plane that has the directory. Daemons are to be dropped before it.
struct Scene {
    control: Process,
    socket: TempDir,
    caller: Pod,
    server: Pod,
    _answers: Server,
    stage: Stage,
}

const TENANT: &str = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: apart}\n\
    spec: {namespaces: [shop], isolation: process}\n";

impl Scene {
    fn new() -> Result<Self, Failure> {
        let stage = Stage::new()?;
        let (caller, server) = (stage.pod("shop", "caller", &[])?, stage.pod("bank", "server", &[HTTP])?);
        stage.service(("bank", "web"), 10, &[HTTP], &[&server])?;
        stage.service(("bank", "other"), 11, &[HTTP], &[&server])?;
        let answers = Server::nginx(&server, 80)?;
        let socket = tempfile::tempdir()?;
        let control = control(&stage, socket.path())?;
        Ok(Self { control, socket, caller, server, _answers: answers, stage })
    }

    fn daemon(&self, further: &[&str]) -> Result<Daemon, Failure> {
        let url = format!("unix:{}", self.socket.path().join("control.sock").display());
        let given = ["--discovery", &url].into_iter().chain(further.iter().copied());
        Ok(self.stage.daemon_with(&given.collect::<Vec<_>>())?)
    }

    fn answers(&self, host: u8) -> bool {
        http::get(&self.caller, at(host), "web.bank", "/").is_ok_and(|answer| answer.status == 200)
    }
}

fn control(stage: &Stage, socket: &Path) -> Result<Process, Failure> {
    let mut command = Command::new(built("canopy"));
    command.arg("control").arg("--config").arg(stage.manifests.path());
    command.arg("--listen").arg(format!("unix:{}", socket.join("control.sock").display()));
    command.args(["--metrics-addr", "127.0.0.1:15022"]);
    Ok(Process::start(stage.node.netns(), command)?)
}

#[test]
fn a_directory_that_is_served_is_obeyed_and_goes_on_while_nobody_serves_it() -> Outcome {
    let mut scene = Scene::new()?;
    let daemon = scene.daemon(&[])?;
    eventually("the Service answers", || scene.answers(10))?;
    let traffic = Traffic::start(&scene.caller, at(10), "web.bank")?;
    traffic.next(20)?;

    scene.control.signal(Signal::KILL);
    scene.control.wait(std::time::Duration::from_secs(10));
    traffic.next(50)?;
    scene.control = control(&scene.stage, scene.socket.path())?;
    traffic.next(50)?;
    assert_eq!(traffic.tally().failures, 0, "{:?}; {}", traffic.tally(), daemon.output());
    drop(traffic);

    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: nobody, namespace: bank}\n\
        spec: {action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}\n";
    scene.stage.manifests.write("deny.yaml", deny)?;
    eventually("the policy is obeyed", || !scene.answers(10))?;
    scene.stage.manifests.remove("deny.yaml")?;
    eventually("and its end", || scene.answers(10))?;
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: bank}\nspec:\n  \
        parentRefs: [{group: \"\", kind: Service, name: web}]\n  rules:\n  - backendRefs: [{name: nobody, port: 80}]\n";
    scene.stage.manifests.write("route.yaml", route)?;
    eventually("the route is obeyed", || !scene.answers(10))?;
    Ok(())
}

#[test]
fn what_is_dialled_is_asked_for_by_a_tenant_in_a_process_and_refused_where_nobody_answers() -> Outcome {
    let mut scene = Scene::new()?;
    scene.stage.manifests.write("tenant.yaml", TENANT)?;
    let daemon = scene.daemon(&["--discovery-on-demand"])?;
    eventually("the Service answers", || scene.answers(10))?;
    // As the caller's own pods and what they have dialled, and nothing else.
    let known = daemon.metric("canopy_discovery_resources", &["type=\"Address\""]);
    assert_eq!(known?, 3.0, "{}", daemon.output());

    let pod = http::get(&scene.caller, (scene.server.v4(), 81).into(), "x", "/")?;
    assert_eq!(pod.header("canopy-refused"), "connect_refused", "it is known, and nobody listens there");
    scene.control.signal(Signal::KILL);
    scene.control.wait(std::time::Duration::from_secs(10));
    assert!(scene.answers(10), "what is known stays");
    assert!(!scene.answers(11), "what is not known is not passed through");
    eventually("it says why", || {
        daemon.metric("canopy_refused_total", &["reason=\"destination_unknown\""]).unwrap_or_default() >= 1.0
    })?;
    Ok(())
}

#[test]
fn a_control_plane_that_is_told_to_end_sends_its_nodes_to_its_successor_and_none_of_them_waits() -> Outcome {
    let mut scene = Scene::new()?;
    let daemon = scene.daemon(&[])?;
    eventually("the Service answers", || scene.answers(10))?;
    // Streams that have lasted for a second are had anew without a pause.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    scene.control.signal(Signal::TERM);
    let status = scene.control.wait(std::time::Duration::from_secs(10));
    assert!(status.is_some(), "it has ended within its grace");
    assert!(scene.control.output().contains("nobody is let in any more"), "{}", scene.control.output());
    assert!(
        daemon.output().contains("it has ended the stream"),
        "its end is one that is nothing to worry about: {}",
        daemon.output()
    );
    scene.control = control(&scene.stage, scene.socket.path())?;
    eventually("the node is back", || {
        daemon.metric("canopy_discovery_connected", &[]).is_ok_and(|connected| connected == 1.0)
    })?;
    assert!(scene.answers(10));
    Ok(())
}
