//! What works for a tenant beside the cell that serves it, or has worked for it, is that tenant's: a cell that makes room for one of
//! another class, the thread that passes messages on to a process, a process that has ended.
//!
//! It must never judge by a clock of the test's own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, Stage, Vip, dial, eventually, port};
use serde_json::Value;
use testkit::{Daemon, Outcome, Pod};

use super::{DRAWN, costs, growth::on_the_kernels_clock, tenant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// CPU seconds that something is made to use before it is judged: far more than a beat or a sample is off.
const ENOUGH: f64 = 0.4;
/// Of what the kernel says, as much is on the ledger at least; and at most so much more.
const MOST_OF: f64 = 0.9;
/// CPU seconds that ledgers and the kernel may be apart: what is used between two looks.
const BETWEEN: f64 = 0.15;

struct Scene {
    _servers: (Origin, Listener),
    client: Pod,
    teller: Pod,
    web: Vip,
    _server: Pod,
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self> {
        let stage = Stage::new()?;
        let (client, teller) = (stage.pod("shop", "client", &[])?, stage.pod("bank", "teller", &[])?);
        let ports = [HTTP, port("tcp", 9000)];
        let server = stage.pod("shop", "web", &ports)?;
        let web = stage.service(("shop", "web"), 10, &ports, &[&server])?;
        let servers = (Origin::start(&server, 80)?, Listener::echo(&server, server.at(9000))?);
        Ok(Self { _servers: servers, client, teller, web, _server: server, stage })
    }

    fn class(&self, class: &str) -> Outcome {
        let tenant = format!(
            "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
             spec: {{namespaces: [shop], isolation: {class}}}\n"
        );
        Ok(self.stage.manifests.write("tenant.yaml", &tenant)?)
    }
}

/// What is on whose ledger, drawn when all is put down.
struct Drawn(Value);

impl Drawn {
    fn of(daemon: &Daemon) -> Result<Self> {
        std::thread::sleep(DRAWN);
        Ok(Self(costs(daemon)?))
    }

    fn of_tenant(&self, name: &str) -> f64 {
        tenant(&self.0, name)["used"]["cpu_seconds"].as_f64().unwrap_or(f64::NAN)
    }

    fn part(&self, part: &str) -> f64 {
        self.0["cpu_seconds"][part].as_f64().unwrap_or(f64::NAN)
    }
}

#[test]
fn what_a_cell_still_uses_that_makes_room_for_another_is_its_tenants() -> Outcome {
    let scene = Scene::new()?;
    scene.class("thread")?;
    let daemon = scene.stage.daemon()?;
    let mut kept = dial(&scene.client, scene.web.at(9000))?;
    echo(&mut kept, 10)?;
    scene.class("process")?;
    eventually("it has a process", || process(&daemon, "shop").is_ok())?;
    let (before, thread_before) = (Drawn::of(&daemon)?, of_threads(&daemon, "shop")?);
    let used =
        || Ok::<_, Box<dyn std::error::Error + Send + Sync>>(of_threads(&daemon, "shop")? - thread_before);
    // By the thread, which goes on until this connection ends.
    while used()? < ENOUGH {
        echo(&mut kept, 100)?;
    }
    let used = used()?;
    let now = Drawn::of(&daemon)?;
    let grown = now.of_tenant("shop") - before.of_tenant("shop");
    assert!(grown >= MOST_OF * used, "{grown} s are on its counter, of {used} s");
    let tenants = now.part("tenants") - before.part("tenants");
    assert!(tenants >= MOST_OF * used, "{tenants} s are the tenants' in the balance, of {used} s");
    drop(kept);
    eventually("the thread ends", || of_threads(&daemon, "shop").is_ok_and(|seconds| seconds == 0.0))?;
    let after = Drawn::of(&daemon)?;
    assert!(after.of_tenant("shop") >= now.of_tenant("shop"), "a counter never goes back");
    assert!(after.part("tenants") >= now.part("tenants"), "nor does the balance");
    let apart = after.part("difference") - before.part("difference");
    assert!(apart.abs() < used / 2.0, "{apart} s are nobody's, or twice somebody's");
    Ok(())
}

#[test]
fn what_passes_messages_on_to_a_process_is_its_tenants_and_what_the_process_used_is_never_the_daemons()
-> Outcome {
    let scene = Scene::new()?;
    scene.class("process")?;
    let daemon = scene.stage.daemon()?;
    eventually("it has a process", || process(&daemon, "shop").is_ok())?;
    let pid = process(&daemon, "shop")?;
    dial(&scene.teller, scene.web.at(9000)).map_err(Into::into).and_then(|mut one| echo(&mut one, 1))?;
    let before = Drawn::of(&daemon)?;
    let (warden, its) = (of_threads(&daemon, "warden")?, of_process(pid)?);
    // Each of these is offered to the process by its warden.
    while of_threads(&daemon, "warden")? - warden < ENOUGH / 2.0 || of_process(pid)? - its < ENOUGH {
        for _ in 0..20 {
            let mut one = dial(&scene.teller, scene.web.at(9000))?;
            echo(&mut one, 1)?;
        }
    }
    let now = Drawn::of(&daemon)?;
    let (warden, its) = (of_threads(&daemon, "warden")? - warden, of_process(pid)? - its);
    let grown = now.of_tenant("shop") - before.of_tenant("shop");
    assert!(
        grown >= its + MOST_OF * warden - 0.02,
        "{grown} s on its counter, of {its} s and its warden's {warden} s"
    );
    let bank = now.of_tenant("ns/bank") - before.of_tenant("ns/bank");
    let tenants = now.part("tenants") - before.part("tenants");
    let wanted = bank + MOST_OF * warden;
    assert!(
        (wanted - 0.02..wanted + BETWEEN + its / 4.0).contains(&tenants),
        "{tenants} s of {bank} s and {warden} s"
    );

    for pod in ["client", "web"] {
        scene.stage.manifests.remove(&format!("shop-{pod}-pod.yaml"))?;
    }
    eventually("its process ends", || process(&daemon, "shop").is_err())?;
    let after = Drawn::of(&daemon)?;
    assert!(
        after.part("tenants") >= now.part("tenants"),
        "what a tenant has used that left stays in the balance"
    );
    for part in ["common", "system", "difference"] {
        let grown = after.part(part) - now.part(part);
        assert!(
            grown.abs() < its / 2.0,
            "{part} grew by {grown} s, when a process ended that had used {its} s"
        );
    }
    Ok(())
}

/// The process that a tenant's cell is.
fn process(daemon: &Daemon, tenant: &str) -> Result<u32> {
    let tree: Value = serde_json::from_slice(&daemon.canopy(&["tree", "--json"])?.stdout)?;
    let cells = tree["cells"].as_array().cloned().unwrap_or_default();
    let states = cells.iter().filter(|cell| cell["tenant"]["tenant"] == tenant).map(|cell| &cell["state"]);
    let number = |state: &Value| state.as_str()?.strip_prefix("running in process ")?.parse().ok();
    Ok(states.into_iter().find_map(number).ok_or("it has none")?)
}

/// What the kernel says that the daemon's threads of this name have used.
fn of_threads(daemon: &Daemon, name: &str) -> Result<f64> {
    Ok(on_the_kernels_clock(daemon.pid())?.get(name).copied().unwrap_or_default())
}

fn of_process(pid: u32) -> Result<f64> {
    Ok(on_the_kernels_clock(pid)?.values().sum())
}

fn echo(stream: &mut TcpStream, times: u32) -> Outcome {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    for _ in 0..times {
        stream.write_all(b"ping")?;
        stream.read_exact(&mut [0; 4])?;
    }
    Ok(())
}
