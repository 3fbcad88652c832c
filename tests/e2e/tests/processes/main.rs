//! A tenant of isolation class *process* is served by a process of its own, which nothing that happens to it makes anybody else's
//! trouble: aborts, overflows, endless loops, signals, the killer of who is out of memory.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, Origin, Stage, Vip, ask, byte, dial, eventually, head, is_reset, port};
use rustix::process::{Pid, Signal};
use testkit::{Outcome, Pod};

mod leaving;
mod network;
mod rows;
mod seen;

use self::seen::{OVERHEAD_BYTES, cell, cells, is_over, places, private_bytes, read, shown, signal, threads};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Nobody's, by RFC 5737; in builds for tests a cell's process has a fault when it is to connect there, one for each port.
const NOBODY: [u8; 4] = [198, 51, 100, 66];
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// `shop` in a process of its own, `bank` in a thread, each with a caller and a server.
struct Scene {
    _servers: (Origin, Origin, Listener),
    client: Pod,
    teller: Pod,
    web: Vip,
    ledger: Vip,
    _pods: [Pod; 2],
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self> {
        let stage = Stage::new()?;
        let (client, server) =
            (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP, port("tcp", 9000)])?);
        let (teller, books) = (stage.pod("bank", "teller", &[])?, stage.pod("bank", "ledger", &[HTTP])?);
        let web = stage.service(("shop", "web"), 10, &[HTTP, port("tcp", 9000)], &[&server])?;
        let ledger = stage.service(("bank", "ledger"), 11, &[HTTP], &[&books])?;
        let servers = (
            Origin::start(&server, 80)?,
            Origin::start(&books, 80)?,
            Listener::echo(&server, server.at(9000))?,
        );
        let scene = Self { _servers: servers, client, teller, web, ledger, _pods: [server, books], stage };
        scene.write("process", "")?;
        Ok(scene)
    }

    fn write(&self, class: &str, budget: &str) -> Result<()> {
        self.stage.manifests.write("tenant.yaml", &tenant(class, budget))?;
        Ok(())
    }
}

fn tenant(class: &str, budget: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
         spec: {{namespaces: [shop], isolation: {class}{budget}}}\n"
    )
}

#[test]
fn a_tenant_of_class_process_is_carried_by_a_process_of_its_own() -> Outcome {
    let scene = Scene::new()?;
    let daemon = scene.stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    assert_eq!(cells(&daemon, "bank")?, Vec::<u32>::new(), "who asks for nothing has a thread");
    assert!(
        !threads(&daemon)?.contains(&"shop".to_owned()) && threads(&daemon)?.contains(&"bank".to_owned())
    );

    ask(&scene.client, scene.web.at(80), 5).map_err(|error| format!("{error}: {}", daemon.output()))?;
    ask(&scene.client, scene.web.at_v6(80), 2)?;
    let mut stream = dial(&scene.client, scene.web.at(9000))?;
    echo(&mut stream, b"bytes")?;
    daemon.wait_metric("canopy_relay_requests_total", &["tenant=\"shop\""], 7.0)?;
    let shop = shown(&daemon, "shop")?;
    let trees = shop["trees"].as_array().cloned().unwrap_or_default();
    assert_eq!(trees.len(), 2, "{shop}");
    let client = trees.iter().find(|tree| tree["pod"]["name"] == "client").ok_or("the caller's tree")?;
    assert_eq!(client["connections"][0]["protocol"], "tcp", "{shop}");
    assert_eq!(cell(&daemon, "shop")?, pid, "it is still the same");

    ask(&scene.teller, scene.ledger.at(80), 3)?;
    scene.stage.manifests.remove("shop-client-pod.yaml")?;
    scene.stage.manifests.remove("shop-web-pod.yaml")?;
    eventually("the process ends with its tenant's last pod", || {
        cells(&daemon, "shop").is_ok_and(|all| all.is_empty())
    })?;
    Ok(())
}

#[test]
fn a_call_between_tenants_is_handed_over_whatever_their_cells_run_in() -> Outcome {
    let scene = Scene::new()?;
    let mut daemon = scene.stage.daemon()?;
    cell(&daemon, "shop")?;
    ask(&scene.client, scene.ledger.at(80), 2)?;
    ask(&scene.teller, scene.web.at(80), 2)?;
    let out = daemon.wait_logged(|line| line["workload"] == "bank/teller" && line["status"] == 200)?;
    assert_eq!(out["delivery"], "handoff", "{out}");
    let mut stream = dial(&scene.teller, scene.web.at(9000))?;
    echo(&mut stream, b"into the process")?;
    drop(stream);
    scene.stage.manifests.write("bank.yaml", &tenant("process", "").replace("shop", "bank"))?;
    eventually("bank has a process, too", || cells(&daemon, "bank").is_ok_and(|all| all.len() == 1))?;
    ask(&scene.client, scene.ledger.at(80), 2)?;
    ask(&scene.teller, scene.web.at(80), 2)?;
    scene.stage.manifests.remove("shop-client-pod.yaml")?;
    let into =
        daemon.wait_logged(|line| line["workload"] == "bank/ledger" && line["direction"] == "inbound")?;
    assert_eq!(
        into["src.workload"], "shop/client",
        "who calls is what the daemon says, not the process: {into}"
    );
    Ok(())
}

#[test]
fn a_cells_process_speaks_to_other_nodes_with_certificates_of_its_own() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, web) = (mesh.here("shop", "client", &[])?, mesh.there("shop", "web", &[HTTP])?);
    let (there, here) = (mesh.there("shop", "away", &[])?, mesh.here("shop", "api", &[HTTP])?);
    let to_web = mesh.stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let to_api = mesh.stage.service(("shop", "api"), 11, &[HTTP], &[&here])?;
    let _origins = (Origin::start(&web, 80)?, Origin::start(&here, 80)?);
    mesh.stage.manifests.write("tenant.yaml", &tenant("process", ""))?;
    let (first, second) = mesh.daemons()?;
    let (one, other) = (cell(&first, "shop")?, cell(&second, "shop")?);
    ask(&client, to_web.at(80), 3)?;
    ask(&there, to_api.at(80), 3)?;
    for daemon in [&first, &second] {
        let tunnels = || daemon.metric("canopy_hbone_tunnels_open", &["tenant=\"shop\""]);
        eventually("there is a tunnel each way", || tunnels().is_ok_and(|open| open >= 2.0))?;
        let shop = shown(daemon, "shop")?;
        assert!(
            shop["trees"]
                .as_array()
                .into_iter()
                .flatten()
                .all(|tree| tree["certificate"]["serial"].is_string()),
            "{shop}"
        );
    }
    assert_eq!((cell(&first, "shop")?, cell(&second, "shop")?), (one, other));
    Ok(())
}

/// What ends a process, by its number.
type End<'a> = Box<dyn Fn(u32) -> Result<()> + 'a>;

#[test]
fn whatever_ends_a_cells_process_no_other_tenant_notices_and_its_own_new_connections_wait() -> Outcome {
    let scene = Scene::new()?;
    scene.write("process", ", budget: {memory: {hard: 96Mi}}")?;
    let daemon = scene.stage.daemon()?;
    let mut others = dial(&scene.teller, scene.ledger.at(80))?;
    exchange(&mut others)?;
    let fault = |port: u16| SocketAddr::from((NOBODY, port));
    let client = &scene.client;
    let dials = |port: u16| -> End<'_> {
        Box::new(move |_| {
            drop(dial(client, fault(port))?);
            Ok(())
        })
    };
    let ends: [(&str, End<'_>); 7] = [
        ("SIGKILL", Box::new(|pid| signal(pid, Signal::KILL))),
        // The first one is taken by the runtime, which looks whether a stack has overflowed.
        (
            "SIGSEGV",
            Box::new(|pid| {
                while signal(pid, Signal::SEGV).is_ok() && !is_over(pid) {}
                Ok(())
            }),
        ),
        ("SIGABRT", Box::new(|pid| signal(pid, Signal::ABORT))),
        ("an endless loop", dials(1)),
        ("a stack overflow", dials(2)),
        ("too much memory", dials(3)),
        ("an abort", dials(4)),
    ];
    for (restarts, (what, end)) in (1..).zip(ends) {
        let pid = cell(&daemon, "shop")?;
        let mut own = dial(&scene.client, scene.web.at(80))?;
        exchange(&mut own).map_err(|error| format!("before {what}: {error}"))?;
        end(pid)?;
        let gone = byte(&own);
        // The kernel closes what a process held that is gone, and resets what was not read to its end.
        assert!(matches!(gone, Ok(0)) || is_reset(&gone), "{what}: {gone:?}");
        exchange(&mut others).map_err(|error| format!("{what}: {error}"))?;
        // Not refused, though nobody is there to take it yet.
        let mut next =
            dial(&scene.client, scene.web.at(80)).map_err(|error| format!("after {what}: {error}"))?;
        exchange(&mut next).map_err(|error| format!("after {what}: {error}\n{}", daemon.output()))?;
        assert_ne!(cell(&daemon, "shop")?, pid, "{what}");
        assert_eq!(shown(&daemon, "shop")?["restarts"], restarts, "{what}");
    }
    exchange(&mut others)?;
    Ok(())
}

#[test]
fn a_change_of_class_takes_effect_at_once_and_cuts_nothing() -> Outcome {
    let scene = Scene::new()?;
    scene.write("thread", "")?;
    let daemon = scene.stage.daemon()?;
    let mut kept = dial(&scene.client, scene.web.at(9000))?;
    echo(&mut kept, b"by the thread")?;
    scene.write("process", "")?;
    eventually("it has a process", || cell(&daemon, "shop").is_ok())?;
    echo(&mut kept, b"still by the thread")?;
    ask_anew(&scene, 3)?;
    drop(kept);
    let mut kept = dial(&scene.client, scene.web.at(9000))?;
    echo(&mut kept, b"by the process")?;
    scene.write("thread", "")?;
    eventually("it has a thread again", || {
        threads(&daemon).is_ok_and(|all| all.contains(&"shop".to_owned()))
    })?;
    echo(&mut kept, b"still by the process")?;
    ask_anew(&scene, 3)?;
    drop(kept);
    eventually("its process ends", || cells(&daemon, "shop").is_ok_and(|all| all.is_empty()))?;
    Ok(())
}

#[test]
fn a_cells_process_ends_with_a_daemon_that_is_killed() -> Outcome {
    let scene = Scene::new()?;
    let mut daemon = scene.stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    // Nor does one that cannot run stay behind.
    signal(pid, Signal::STOP)?;
    daemon.process().signal(Signal::KILL);
    daemon.process().wait(Duration::from_secs(10)).ok_or("a killed process ends")?;
    eventually("nothing of it is left", || !Path::new(&format!("/proc/{pid}")).exists())?;
    let released = daemon.release()?;
    assert!(released.status.success(), "{released:?}");
    Ok(())
}

#[test]
fn what_stops_the_daemon_and_all_its_processes_at_once_cuts_nothing_under_way() -> Outcome {
    let scene = Scene::new()?;
    let mut daemon = scene.stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    let mut kept = dial(&scene.client, scene.web.at(9000))?;
    echo(&mut kept, b"before")?;
    let group = |pid: u32| rustix::process::getpgid(Pid::from_raw(i32::try_from(pid).ok()?)).ok();
    assert_ne!(group(pid), group(daemon.pid()), "Ctrl-C is for the daemon alone");
    for stop in [Signal::HUP, Signal::INT, Signal::TERM] {
        signal(pid, stop)?;
    }
    daemon.process().signal(Signal::TERM);
    eventually("it drains", || daemon.output().contains("draining"))?;
    echo(&mut kept, b"while it drains")?;
    drop(kept);
    daemon.process().wait(Duration::from_secs(30)).ok_or("it ends when its last connection has")?;
    Ok(())
}

#[test]
fn a_cells_process_has_a_control_group_by_its_budget_which_goes_with_it() -> Outcome {
    let scene = Scene::new()?;
    scene.write("process", ", budget: {memory: {hard: 64Mi}, cpu: {share: 500m}}")?;
    let daemon = scene.stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    let groups = || seen::groups(pid);
    if groups()?.is_empty() {
        assert!(daemon.output().contains("run without all or some of their limits"), "{}", daemon.output());
        return Ok(());
    }
    let limit = |file: &str| groups().ok().and_then(|groups| read(&groups, file));
    let memory = || limit("memory.limit_in_bytes").or_else(|| limit("memory.max"));
    // With what the process needs for itself, of which one that is idle uses a part.
    let own = private_bytes(pid)?;
    assert!(own < OVERHEAD_BYTES, "an idle process has {own} bytes of its own");
    let with_overhead = |hard: u64| Some((hard + OVERHEAD_BYTES).to_string());
    assert_eq!(memory(), with_overhead(64 << 20));
    let weight = limit("cpu.shares").or_else(|| limit("cpu.weight")).ok_or("it has a weight")?;
    assert!(["512", "50"].contains(&&*weight), "{weight}");
    assert_eq!(limit("pids.max").as_deref(), Some("64"));
    scene.write("process", ", budget: {memory: {hard: 80Mi}}")?;
    eventually("a change of the budget is obeyed while it lives", || memory() == with_overhead(80 << 20))?;
    assert_eq!(cell(&daemon, "shop")?, pid);
    let directories: Vec<_> = groups()?.iter().flat_map(|group| places(group)).collect();
    assert!(!directories.is_empty());
    drop(daemon);
    assert!(directories.iter().all(|directory| !Path::new(directory).exists()), "{directories:?}");
    Ok(())
}

/// One request on a connection that stays.
fn exchange(stream: &mut std::net::TcpStream) -> Result<()> {
    stream.write_all(REQUEST)?;
    let head = head(stream)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(format!("answered {head:?}").into()) }
}

fn echo(stream: &mut std::net::TcpStream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    if back == bytes { Ok(()) } else { Err(format!("{back:?} came back").into()) }
}

/// Each on a connection of its own: those of a cell that is on its way out are closed after their answer.
fn ask_anew(scene: &Scene, requests: u32) -> Outcome {
    (0..requests).try_for_each(|_| ask(&scene.client, scene.web.at(80), 1))
}
