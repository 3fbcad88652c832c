//! Where the pods of a cluster are, the container runtime and the gate say, and no pod's author: a pod is enrolled before it starts and
//! before anybody else can know it, is found again by a daemon that starts after it, and none is captured where its annotation points.

mod cluster;
mod runtime;

use std::{
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use e2e::{PodSandbox, built, eventually, run_plugin_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{KitError, Node, Outcome, Pod, Process};
use tokio::time::Instant;

use self::{
    cluster::{Cluster, pod_file},
    runtime::{Runtime, Sandbox},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";

/// A node of a cluster, its container runtime, and a control plane.
struct World {
    node: Node,
    cluster: Cluster,
    runtime: Runtime,
    directory: TempDir,
    instance: String,
}

/// A daemon of it.
struct Daemon<'a> {
    world: &'a World,
    process: Process,
}

impl World {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let node = Node::new()?;
        let cluster = Cluster::start(&node)?;
        let directory = tempfile::tempdir()?;
        let runtime = Runtime::start(&directory.path().join("cri.sock"))?;
        let shop = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": { "canopy.mesh/mode": "node" } },
        });
        cluster.put(NAMESPACES, shop.clone());
        std::fs::create_dir(directory.path().join("manifests"))?;
        std::fs::write(directory.path().join("manifests/shop.json"), shop.to_string())?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("places-{}-{number}", std::process::id());
        Ok(Self { node, cluster, runtime, directory, instance })
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    fn control(&self) -> Result<Process, KitError> {
        let mut command = Command::new(built("canopy"));
        command.args(["control", "--config", &self.at("manifests"), "--metrics-addr", "127.0.0.1:15022"]);
        command.args(["--listen", &format!("unix:{}", self.at("control.sock"))]);
        Process::start(self.node.netns(), command)
    }

    fn daemon(&self, further: &[&str]) -> Result<Daemon<'_>, KitError> {
        let mut command = Command::new(built("canopy"));
        command.args(["run", "--kubernetes", "--node", "here", "--redirect", "ebpf", "--on-stop", "open"]);
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig());
        command.args(["--container-runtime", &format!("unix://{}", self.at("cri.sock"))]);
        command.args(["--gate-socket", &self.at("gate.sock"), "--admin-socket", &self.at("admin.sock")]);
        command.args([
            "--metrics-addr",
            "127.0.0.1:15020",
            "--ca-dir",
            &self.at("ca"),
            "--access-log",
            "off",
        ]);
        command.args(["--owners-dir", &self.at("owners"), "--instance", &self.instance]).args(further);
        let process = Process::start(self.node.netns(), command)?.stopped_by(Signal::TERM);
        let daemon = Daemon { world: self, process };
        eventually("the daemon is ready", || daemon.says("status").is_some())?;
        Ok(daemon)
    }
}

impl Daemon<'_> {
    /// What a verb says, if it is answered.
    fn says(&self, verb: &str) -> Option<String> {
        let mut command = Command::new(built("canopy"));
        command.args([verb, "--admin-socket", &self.world.at("admin.sock")]);
        let output = self.world.node.netns().run(|| command.output()).ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn has(&self, pod: &str) -> bool {
        self.says("tree").is_some_and(|tree| tree.contains(pod))
    }
}

/// A pod as the API server has it.
fn object(pod: &Pod, uid: &str, status: Value) -> Value {
    named(pod.name(), pod, uid, status)
}

/// The same, by a name that is not that of where it is.
fn named(name: &str, pod: &Pod, uid: &str, status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": pod.namespace(), "uid": uid },
        "spec": { "nodeName": "here", "containers": [{ "name": "c" }] },
        "status": status,
    })
}

fn sandbox(pod: &Pod, name: &'static str, uid: &'static str, kind: &'static str) -> Sandbox {
    let (netns, address) = (pod.netns_path().to_string_lossy().into_owned(), pod.v4().to_string());
    Sandbox { namespace: "shop", name, uid, netns, address, kind }
}

const RUNC: &str = "io.containerd.runc.v2";

/// The plugin, as a runtime runs it before it starts a pod.
fn plugin(world: &World, pod: &Pod, uid: &str, seconds: u64) -> Output {
    let sandbox = PodSandbox { name: pod.name(), uid, container: uid, place: pod };
    plugin_for(world, &sandbox, pod, seconds)
}

/// The same for a sandbox that got the addresses of `network`.
fn plugin_for(world: &World, sandbox: &PodSandbox<'_>, network: &Pod, seconds: u64) -> Output {
    let addresses = [format!("{}/24", network.v4()), format!("{}/64", network.v6())];
    let network = json!({
        "cniVersion": "1.0.0", "name": "podnet", "type": "canopy-cni", "gate": world.at("gate.sock"), "timeoutSeconds": seconds,
        "prevResult": { "cniVersion": "1.0.0", "ips": addresses.map(|address| json!({ "address": address })) },
    });
    run_plugin_for("ADD", sandbox, &network)
}

/// A pod whose sandbox is made anew has another address, and its former one by all that is known of it outside its node.
fn is_carried_in_its_next_sandbox(has_control_plane: bool) -> Outcome {
    let world = World::new()?;
    let (web, next, other) =
        (world.node.pod("shop", "web")?, world.node.pod("shop", "next")?, world.node.pod("shop", "other")?);
    let running = |pod: &Pod| json!({ "phase": "Running", "podIP": pod.v4().to_string() });
    let known = object(&web, "u", running(&web));
    world.cluster.put(PODS, known.clone());
    pod_file(&world.directory.path().join("manifests"), &known)?;
    world.runtime.runs(&[sandbox(&web, "web", "u", RUNC)]);
    let (control, url) = (world.control()?, format!("unix:{}", world.at("control.sock")));
    let further = ["--discovery", url.as_str()];
    let daemon = world.daemon(if has_control_plane { &further } else { &[] })?;
    eventually("it is carried", || daemon.has("shop/web"))?;

    // Its sandbox ends, and the kubelet goes on saying its address.
    world.runtime.runs(&[]);
    eventually("it is carried no longer", || !daemon.has("shop/web"))?;
    // Another pod's sandbox is no place for it.
    let at = |container, place| PodSandbox { name: "web", uid: "u", container, place };
    let output = plugin_for(&world, &at("elsewhere", &other), &next, 2);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("is on no interface"), "{output:?}");
    let output = plugin_for(&world, &at("anew", &next), &next, 30);
    assert!(output.status.success(), "{output:?}; {}", daemon.process.output());
    assert!(daemon.has("shop/web"), "before its first container starts");
    // By now everybody knows.
    world.runtime.runs(&[sandbox(&next, "web", "u", RUNC)]);
    let started = named("web", &next, "u", running(&next));
    world.cluster.put(PODS, started.clone());
    pod_file(&world.directory.path().join("manifests"), &started)?;
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.has("shop/web"));
    drop((daemon, control));
    Ok(())
}

#[test]
fn a_pod_whose_sandbox_is_made_anew_is_enrolled_by_the_address_of_that_one() -> Outcome {
    is_carried_in_its_next_sandbox(false)
}

#[test]
fn a_pod_whose_sandbox_is_made_anew_is_enrolled_though_the_control_plane_knows_its_former_address() -> Outcome
{
    is_carried_in_its_next_sandbox(true)
}

#[test]
fn a_pod_is_enrolled_before_it_starts_though_the_api_server_has_no_address_of_it_and_the_control_plane_has_no_pod()
-> Outcome {
    let world = World::new()?;
    let web = world.node.pod("shop", "web")?;
    world.cluster.put(PODS, object(&web, "u", json!({ "phase": "Pending" })));
    let _control = world.control()?;
    let url = format!("unix:{}", world.at("control.sock"));
    let further = ["--discovery", url.as_str()];
    let daemon = world.daemon(&further)?;
    assert!(!daemon.has("shop/web"), "nobody has said where it is");
    let begun = Instant::now();
    let output = plugin(&world, &web, "u", 30);
    assert!(output.status.success(), "{output:?}; {}", daemon.process.output());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(daemon.has("shop/web"), "before its first container starts");
    // It has started: now everybody knows it.
    world.runtime.runs(&[sandbox(&web, "web", "u", RUNC)]);
    let started = object(&web, "u", json!({ "phase": "Running", "podIP": web.v4().to_string() }));
    world.cluster.put(PODS, started.clone());
    pod_file(&world.directory.path().join("manifests"), &started)?;
    // And a daemon that starts after it finds it where it is.
    drop(daemon);
    let next = world.daemon(&further)?;
    eventually("it is taken up again", || next.has("shop/web"))?;
    Ok(())
}

#[test]
fn a_pod_is_where_its_sandbox_is_and_not_where_its_annotation_points_and_one_with_its_own_kernel_is_refused()
-> Outcome {
    let world = World::new()?;
    let (web, late, own) =
        (world.node.pod("shop", "web")?, world.node.pod("shop", "late")?, world.node.pod("shop", "own")?);
    let running = |pod: &Pod| json!({ "phase": "Running", "podIP": pod.v4().to_string() });
    world.cluster.put(PODS, object(&web, "w", running(&web)));
    world.cluster.put(PODS, object(&own, "o", running(&own)));
    let mut annotated = object(&late, "l", running(&late));
    annotated["metadata"]["annotations"] = json!({ "canopy.mesh/netns": own.netns_path() });
    world.cluster.put(PODS, annotated);
    let found = [sandbox(&web, "web", "w", RUNC), sandbox(&own, "own", "o", "io.containerd.runsc.v1")];
    world.runtime.runs(&found);
    let daemon = world.daemon(&[])?;
    eventually("the pod that runs is taken up", || daemon.has("shop/web"))?;
    assert!(!daemon.has("shop/late") && !daemon.has("shop/own"), "{:?}", daemon.says("tree"));
    let status = daemon.says("status").unwrap_or_default();
    assert!(status.contains("io.containerd.runsc.v1"), "{status}");
    // Its owner is told where he looks, and of nobody who is carried.
    eventually("an Event", || world.cluster.told_of("own").iter().any(|event| event[0] == "NotCaptured"))?;
    assert_eq!(world.cluster.told_of("own")[0], ["NotCaptured", "o", "here"]);
    assert!(world.cluster.told_of("web").iter().all(|event| event[0] == "NodeDaemon"));
    let [web_runs, own_runs] = found;
    world.runtime.runs(&[web_runs, own_runs, sandbox(&late, "late", "l", RUNC)]);
    eventually("it is taken the moment the runtime tells of it", || daemon.has("shop/late"))?;
    Ok(())
}

#[test]
fn a_static_pod_is_found_by_its_file_which_its_mirror_names() -> Outcome {
    let world = World::new()?;
    let (fixed, liar) = (world.node.pod("shop", "fixed")?, world.node.pod("shop", "liar")?);
    let with = |pod: &Pod, uid: &str, said: Value| {
        let mut pod = object(pod, uid, json!({ "phase": "Running", "podIP": pod.v4().to_string() }));
        pod["metadata"]["annotations"] = said;
        world.cluster.put(PODS, pod);
    };
    with(&fixed, "m", json!({ "kubernetes.io/config.mirror": "4f", "kubernetes.io/config.hash": "4f" }));
    // What no mirror says is no word for anything.
    with(&liar, "l", json!({ "kubernetes.io/config.hash": "5a" }));
    world.runtime.runs(&[sandbox(&fixed, "fixed", "4f", RUNC), sandbox(&liar, "liar", "5a", RUNC)]);
    let daemon = world.daemon(&[])?;
    eventually("it is taken up", || daemon.has("shop/fixed"))?;
    assert!(!daemon.has("shop/liar"), "{:?}", daemon.says("tree"));
    Ok(())
}

#[test]
fn who_waits_at_the_gate_for_too_long_is_told_by_an_event() -> Outcome {
    let world = World::new()?;
    let web = world.node.pod("shop", "web")?;
    let daemon = world.daemon(&[])?;
    // Nobody has told the daemon of this pod.
    let output = plugin(&world, &web, "u", 3);
    assert!(!output.status.success(), "{output:?}; {}", daemon.process.output());
    eventually("an Event", || {
        world.cluster.told_of("web").contains(&["NotEnrolled", "u", "here"].map(str::to_owned))
    })?;
    Ok(())
}
