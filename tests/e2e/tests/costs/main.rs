//! Who costs what: with load on one tenant, that tenant's ledger has it, nobody else's does, and all of it adds up to what the
//! kernel says of the process; through handoffs and tunnels too. And how an operator sees it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use e2e::{HTTP, Mesh, Stage, Traffic, Vip, dial, eventually};
use serde_json::Value;
use testkit::{Daemon, KitError, Outcome, Pod, Server, block_on, http::Connection};
use tokio::time::Instant;

use self::growth::{growth, growth_of_both};

mod growth;
mod parted;

/// How long load lasts, and how long it is watched how much the daemon does without any.
const LOAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(5);
/// Clients at a time.
const CLIENTS: usize = 4;
/// By then figures that are drawn once a second are of now.
const DRAWN: Duration = Duration::from_millis(2200);

/// What of a growth has to be on the ledger of who caused it, what may be on another's, and how far all may be from the kernel.
const OWN: f64 = 0.97;
const OTHERS: f64 = 0.01;
const KERNEL: f64 = 0.02;

/// A caller of `shop`, whom it calls, and a tenant that does nothing.
struct Scene {
    _nginx: Server,
    _pods: [Pod; 2],
    client: Pod,
    vip: Vip,
    stage: Stage,
}

impl Scene {
    /// The one that is called is `owner`'s.
    fn new(owner: &str, idle: &str) -> Result<Self, KitError> {
        let stage = Stage::new()?;
        let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod(owner, "web", &[HTTP])?);
        let idle = stage.pod(idle, "idle", &[])?;
        let vip = stage.service((owner, "web"), 10, &[HTTP], &[&web])?;
        let nginx = Server::nginx(&web, 80)?;
        Ok(Self { _nginx: nginx, _pods: [web, idle], client, vip, stage })
    }
}

#[test]
fn load_on_one_tenant_is_on_its_ledger_alone_and_all_adds_up_to_what_the_kernel_says() -> Outcome {
    let scene = Scene::new("shop", "bank")?;
    let daemon = scene.stage.daemon()?;
    let work = || ask(&scene.client, scene.vip.at(80));
    let (grown, requests) = growth(&daemon, work)?;
    grown.is_on("ns/shop", OWN);
    grown.is_not_on("ns/bank");
    grown.adds_up();

    let now = costs(&daemon)?;
    let (cart, other) = (workload(&now, "ns/shop", "shop/client"), workload(&now, "ns/shop", "shop/web"));
    assert_eq!(cart["requests"].as_u64(), Some(requests), "{cart}");
    assert_eq!(other["requests"].as_u64(), Some(0), "it was called straight: {other}");
    // Most of what a cell does is a connection's; the rest is its event loop.
    let shop = tenant(&now, "ns/shop");
    let (part, whole) = (cart["cpu_seconds"].as_f64(), shop["used"]["cpu_seconds"].as_f64());
    let part = part.unwrap_or_default() / whole.unwrap_or(f64::INFINITY);
    assert!((0.5..1.0).contains(&part), "{part} of the cell's CPU time is the workload's");
    let sum = shop["cpu_user_seconds"].as_f64().zip(shop["cpu_system_seconds"].as_f64());
    let apart = sum.map(|(user, system)| user + system).zip(whole).map(|(sum, whole)| (sum - whole).abs());
    assert!(apart.is_some_and(|apart| apart < 0.01), "user and system time are the whole: {shop}");
    Ok(())
}

#[test]
fn memory_that_one_tenants_clients_hold_is_on_its_ledger_alone() -> Outcome {
    let scene = Scene::new("shop", "bank")?;
    let daemon = scene.stage.daemon()?;
    std::thread::sleep(DRAWN);
    let before = costs(&daemon)?;
    // Begun and never finished: each holds a connection, its task and its buffers.
    let held: Vec<TcpStream> =
        (0..600).map(|_| begun(&scene.client, scene.vip.at(80))).collect::<Result<_, _>>()?;
    let open = ["tenant=\"ns/shop\""];
    daemon.wait_metric("canopy_accept_connections_open", &open, 600.0)?;
    std::thread::sleep(DRAWN);
    let now = costs(&daemon)?;
    let all = |costs: &Value| costs["allocated_bytes"]["process"].as_f64().unwrap_or_default();
    let of = |costs: &Value, name: &str| {
        let tenant = tenant(costs, name);
        let part = |what: &str| tenant[what].as_f64().unwrap_or_default();
        tenant["used"]["memory_bytes"].as_f64().unwrap_or_default() + part("memory_cached_bytes")
    };
    let grown = all(&now) - all(&before);
    let (shop, bank) =
        (of(&now, "ns/shop") - of(&before, "ns/shop"), of(&now, "ns/bank") - of(&before, "ns/bank"));
    assert!(grown > 600.0 * 4096.0, "{grown} bytes for 600 connections");
    assert!(shop >= OWN * grown, "{shop} of {grown} bytes are shop's");
    assert!(bank.abs() <= OTHERS * grown, "{bank} of {grown} bytes are bank's");
    let row = workload(&now, "ns/shop", "shop/client")["memory_bytes"].as_f64().unwrap_or_default();
    // The task itself is made before its first turn, and is the cell's.
    assert!((0.7 * shop..1.1 * shop).contains(&row), "{row} of {shop} bytes are its client's");
    let difference = now["allocated_bytes"]["difference"].as_f64().unwrap_or(f64::INFINITY);
    assert!(difference.abs() <= KERNEL * all(&now), "{difference} of {} bytes are nobody's", all(&now));
    drop(held);
    daemon.wait_metric("canopy_accept_connections_open", &open, 0.0)?;
    eventually("what they held is given back", || {
        let row = costs(&daemon).map(|now| workload(&now, "ns/shop", "shop/client")["memory_bytes"].as_f64());
        row.is_ok_and(|bytes| bytes.is_some_and(|bytes| bytes < grown / 10.0))
    })?;
    Ok(())
}

#[test]
fn a_handoff_is_paid_by_its_two_ends_and_by_nobody_else() -> Outcome {
    let scene = Scene::new("bank", "other")?;
    let daemon = scene.stage.daemon()?;
    let (grown, _) = growth(&daemon, || ask(&scene.client, scene.vip.at(80)))?;
    grown.is_on_both(["ns/shop", "ns/bank"], OWN);
    grown.is_not_on("ns/other");
    grown.adds_up();
    // The caller's end reads and routes requests, the receiver's carries their bytes to its own app.
    let (caller, receiver) = (grown.of("ns/shop"), grown.of("ns/bank"));
    assert!(receiver > 0.05 * caller && caller > 0.5 * receiver, "{caller} s, {receiver} s");
    Ok(())
}

#[test]
fn a_tunnel_is_paid_at_each_end_by_whose_pod_is_there() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, web) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "web", &[HTTP])?);
    let (_here, _there) = (mesh.here("other", "idle", &[])?, mesh.there("other", "idle-too", &[])?);
    let vip = mesh.stage.service(("bank", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let (here, there) = mesh.daemons()?;
    let ((near, far), _) = growth_of_both([&here, &there], || ask(&client, vip.at(80)))?;
    for (grown, payer) in [(near, "ns/shop"), (far, "ns/bank")] {
        grown.is_on(payer, OWN);
        grown.is_not_on("ns/other");
        grown.adds_up();
    }
    let (here, there) = (costs(&here)?, costs(&there)?);
    let made = workload(&here, "ns/shop", "shop/client")["handshakes_made"].as_u64();
    let accepted = workload(&there, "ns/bank", "bank/web")["handshakes_accepted"].as_u64();
    assert!(made.is_some_and(|made| made > 0) && made == accepted, "{made:?} {accepted:?}");
    Ok(())
}

#[test]
fn a_workloads_series_go_with_its_pod_and_its_totals_stay_its_tenants() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let daemon = stage.daemon()?;
    assert_eq!(testkit::http::get(&client, vip.at(80), "any", "/")?.status, 200);
    let of = |pod: &str| format!("workload=\"{pod}\"");
    daemon.wait_metric("canopy_workload_requests_total", &[&of("shop/client")], 1.0)?;
    daemon.wait_metric("canopy_workload_requests_total", &[&of("")], 0.0)?;
    stage.manifests.remove("shop-client-pod.yaml")?;
    eventually("its series are gone", || {
        daemon.scrape("/metrics").is_ok_and(|page| !page.text().contains(&of("shop/client")))
    })?;
    daemon.wait_metric("canopy_workload_requests_total", &[&of("")], 1.0)?;
    daemon.wait_metric("canopy_relay_requests_total", &["tenant=\"ns/shop\""], 1.0)?;
    Ok(())
}

#[test]
fn top_shows_tenants_beside_their_budgets_as_a_table_and_as_json() -> Outcome {
    let scene = Scene::new("shop", "bank")?;
    let budget = "cpu: {share: 500m, cap: \"2\"}, memory: {soft: 32Mi, hard: 64Mi}, connections: 100";
    scene.stage.manifests.write("tenant.yaml", &with_budget("shop", budget))?;
    let daemon = scene.stage.daemon()?;
    let traffic = Traffic::start(&scene.client, scene.vip.at(80), "any")?;
    eventually("requests are answered", || traffic.tally().failures + traffic.tally().total() > 0)?;
    let shown = costs(&daemon)?;
    let (shop, bank) = (tenant(&shown, "shop"), tenant(&shown, "ns/bank"));
    assert_eq!(shop["budget"]["cpu_cap_millis"], 2000, "{shop}");
    assert_eq!((&shop["budget"]["connections"], &bank["budget"]["connections"]), (&100.into(), &Value::Null));
    let rate = shop["rates"]["requests_per_second"].as_f64();
    assert!(rate.is_some_and(|rate| rate > 1.0), "{shop}");
    assert!(shown["interval_seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{shown}");
    let output = daemon.canopy(&["top", "--once", "--sort", "requests"])?;
    let table = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("TENANT") && lines[1].starts_with("shop "), "{table}");
    assert!(lines[1].contains("/2.00") && lines[1].contains("/64M") && lines[1].contains("1/100"), "{table}");
    assert!(lines[2].starts_with("ns/bank ") && lines[2].contains("/–"), "{table}");
    let output = daemon.canopy(&["top", "--once", "--tenant", "shop"])?;
    let table = String::from_utf8(output.stdout)?;
    assert!(table.starts_with("WORKLOAD") && table.contains("\nshop/client "), "{table}");
    for (arguments, said) in [
        (&["top", "--once", "--tenant", "nobody"][..], "no tenant nobody has a workload on this node"),
        (&["top"], "standard output is no terminal"),
    ] {
        let output = daemon.canopy(arguments)?;
        let why = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && why.contains(said), "{why}");
    }
    Ok(())
}

fn with_budget(name: &str, budget: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{namespaces: [{name}], budget: {{{budget}}}}}\n"
    )
}

/// What `canopy top` says, once.
fn costs(daemon: &Daemon) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let output = daemon.canopy(&["top", "--once", "--json"])?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn tenant<'a>(costs: &'a Value, name: &str) -> &'a Value {
    let tenants = costs["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = tenants.iter().find(|tenant| tenant["tenant"] == name);
    found.unwrap_or_else(|| panic!("no tenant {name} in {costs}"))
}

/// What a workload has used.
fn workload<'a>(costs: &'a Value, of: &str, name: &str) -> &'a Value {
    let workloads = tenant(costs, of)["workloads"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = workloads.iter().find(|workload| workload["workload"] == name);
    &found.unwrap_or_else(|| panic!("no workload {name} in {costs}"))["used"]
}

/// Asks on one connection for as long as load lasts. All have to be answered with 200.
fn ask(from: &Pod, to: SocketAddr) -> Result<u64, String> {
    let ask = || {
        block_on(async {
            let mut connection = Connection::http1(to).await.map_err(|error| error.to_string())?;
            let until = Instant::now() + LOAD;
            let mut answered = 0;
            while Instant::now() < until {
                let answer = connection.get("any", "/").await.map_err(|error| error.to_string())?;
                if answer.status != 200 {
                    return Err(format!("{to}: {}", answer.status));
                }
                answered += 1;
            }
            Ok(answered)
        })
    };
    from.run(ask).map_err(|error| error.to_string())?
}

/// A request that is begun and not finished.
fn begun(from: &Pod, to: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = dial(from, to)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: any\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: any\r\ncontent-length: 100\r\n\r\nhalf")?;
    Ok(stream)
}
