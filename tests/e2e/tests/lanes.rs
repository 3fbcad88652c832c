//! A tenant whose connections fill one thread has further lanes: they serve the same listeners and obey the same configuration, what
//! they use adds up to the tenant's, and one that is to end lets its connections finish.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, dial, eventually, port};
use serde_json::Value;
use testkit::{
    Daemon, KitError, Options, Outcome, Pod, block_on,
    http::{self, Connection, RequestError},
};

const LISTED: &str =
    "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: shop}\nspec: {namespaces: [shop]";

fn with_lanes(lanes: &str) -> Options {
    Options { arguments: vec!["--lanes".into(), lanes.into()], ..Options::default() }
}

/// The tenant's part of `canopy tree`.
fn cell(daemon: &Daemon) -> Value {
    let Ok(output) = daemon.canopy(&["tree", "--json"]) else { return Value::Null };
    let tree: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let cells = tree["cells"].as_array().cloned().unwrap_or_default();
    cells.into_iter().find(|cell| cell["tenant"].to_string().contains("shop")).unwrap_or_default()
}

fn lanes(daemon: &Daemon) -> String {
    cell(daemon)["state"].as_str().unwrap_or_default().to_owned()
}

/// Connections that are open, as the trees of the tenant say.
fn shown(daemon: &Daemon) -> u64 {
    let trees = cell(daemon)["trees"].as_array().cloned().unwrap_or_default();
    trees.iter().filter_map(|tree| tree["connections_open"].as_u64()).sum()
}

/// Threads of the daemon that have the tenant's name.
fn threads(daemon: &Daemon) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid()));
    let names = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "shop").count()
}

/// Connections that have been made and have had one answer.
fn keep_alive(client: &Pod, at: SocketAddr, number: usize) -> std::io::Result<Vec<std::net::TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..number {
        let mut one = dial(client, at)?;
        one.write_all(b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n")?;
        e2e::head(&mut one)?;
        all.push(one);
    }
    Ok(all)
}

#[test]
fn lanes_serve_the_same_listeners_add_up_to_their_tenant_and_end_when_its_budget_counts_something() -> Outcome
{
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    stage.manifests.write("tenant.yaml", &format!("{LISTED}}}\n"))?;
    let daemon = Daemon::start_with(&stage.node, stage.manifests.path(), &with_lanes("2-2"))?;
    eventually("the tenant has two lanes", || lanes(&daemon) == "running in 2 lanes")?;
    assert_eq!(threads(&daemon), 2);

    let caller = Caller::start(&client, vip.at(80))?;
    let held = keep_alive(&client, vip.at(80), 40)?;
    eventually("both lanes' connections are shown as the tenant's", || shown(&daemon) >= 40)?;
    eventually("the metrics add them up", || {
        daemon.metric("canopy_accept_connections_open", &["tenant=\"shop\""]).is_ok_and(|open| open >= 40.0)
    })?;

    // A tree that is planted later is in both.
    let http_81 = port("http", 81);
    let late = stage.pod("shop", "late", &[http_81])?;
    let late_vip = stage.service(("shop", "late"), 11, &[http_81], &[&late])?;
    let _late = Origin::start(&late, 81)?;
    eventually("the later pod is served", || {
        http::get(&client, late_vip.at(81), "late.shop", "/").is_ok_and(|answer| answer.status == 200)
    })?;
    for _ in 0..20 {
        assert_eq!(http::get(&client, late_vip.at(81), "late.shop", "/")?.status, 200);
        assert_eq!(http::get(&late, vip.at(80), "web.shop", "/")?.status, 200);
    }
    // And so is what forbids it.
    stage.put(&daemon, "deny.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: nobody, namespace: shop}\nspec: {action: DENY, rules: [{to: [{operation: {ports: [\"81\"]}}]}]}\n")?;
    eventually("no lane lets anybody in any more", || {
        (0..20).all(|_| {
            !http::get(&client, late_vip.at(81), "late.shop", "/").is_ok_and(|answer| answer.status == 200)
        })
    })?;

    let before = daemon.metric("canopy_relay_requests_total", &["tenant=\"shop\""])?;
    stage.put(&daemon, "tenant.yaml", &format!("{LISTED}, budget: {{connections: 1000}}}}\n"))?;
    eventually("what is counted is counted in one lane", || lanes(&daemon) == "running")?;
    drop(held);
    eventually("the lane ends with its connections", || threads(&daemon) == 1)?;
    let answers = caller.end()?;
    let after = daemon.metric("canopy_relay_requests_total", &["tenant=\"shop\""])?;
    assert!(
        answers > 0 && after >= before,
        "what an ended lane has counted stays: {before} and then {after}"
    );
    Ok(())
}

/// Asks all the time, and comes on a new connection when it is asked to.
struct Caller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<u64, String>, KitError>>,
}

impl Caller {
    fn start(client: &Pod, at: SocketAddr) -> Result<Self, KitError> {
        let stop = Arc::<AtomicBool>::default();
        let its_stop = Arc::clone(&stop);
        let thread = client.spawn(move || block_on(ask(at, &its_stop)).map_err(|error| error.to_string()))?;
        Ok(Self { stop, thread })
    }

    /// How many answers it had; an error if a request had none.
    fn end(self) -> Result<u64, String> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join().map_err(|_panic| "it panicked".to_owned())?;
        ended.map_err(|error| error.to_string())?
    }
}

async fn ask(at: SocketAddr, stop: &AtomicBool) -> Result<u64, RequestError> {
    let (mut connection, mut answers) = (Connection::http1(at).await?, 0);
    while !stop.load(Relaxed) {
        let answer = connection.get("web.shop", "/").await?;
        answers += u64::from(answer.status == 200);
        if answer.header("connection") == "close" {
            connection = Connection::http1(at).await?;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(answers)
}
