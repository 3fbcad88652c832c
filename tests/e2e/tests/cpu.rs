//! Each tenant's cell is in a control group of its own, by its budget; an edit of that changes the group while connections
//! live; and nothing of it is left, neither by a stop nor, after the next start, by a kill.
//!
//! What that does to who gets how much is in node-proxy/tests/cpu.rs and in the benchmarks.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, Traffic, dial, eventually};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{Daemon, Options, Outcome, http};
use tokio::time::Instant;

/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(25);
const INSTANCE: &str = "cpu-groups";

/// Where the groups of the instance are, if anywhere. Looked for where this process is, and the daemon was.
fn groups() -> Vec<PathBuf> {
    let prefix = format!("canopy.{INSTANCE}.");
    let is_ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let hierarchies = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"].map(below);
    let all = hierarchies.into_iter().flatten().filter_map(|path| fs::read_dir(path).ok());
    all.flat_map(|entries| entries.flatten().map(|entry| entry.path())).filter(is_ours).collect()
}

/// The place of this process below where a hierarchy is mounted.
fn below(mount: &str) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = own.lines().find(|line| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        controllers.split(',').any(|one| one == "cpu")
            || (mount == "/sys/fs/cgroup" && controllers.is_empty())
    })?;
    let path = Path::new(mount).join(group.rsplit(':').next()?.trim_start_matches('/'));
    path.is_dir().then_some(path)
}

fn tenant(share: &str, cap: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
         spec: {{namespaces: [shop], budget: {{cpu: {{share: {share}, cap: {cap}}}}}}}\n"
    )
}

/// What a file of the group says whose name ends so.
fn said(group: &Path, tenant: &str, files: [&str; 2]) -> Option<String> {
    let cells = fs::read_dir(group).ok()?.flatten().map(|entry| entry.path());
    let cell = cells.filter(|path| path.to_string_lossy().ends_with(tenant)).last()?;
    let text = files.iter().find_map(|file| fs::read_to_string(cell.join(file)).ok())?;
    Some(text.trim().to_owned())
}

/// How long a cap is watched, and between which two looks.
const WATCHED: Duration = Duration::from_millis(10_500);
const LOOK: Duration = Duration::from_millis(100);
/// Clients that ask as fast as they can.
const CLIENTS: usize = 6;

/// CPU seconds that something had used, by the kernel's word, and between which two moments that was asked.
#[derive(Clone, Copy)]
struct Look {
    used: f64,
    from: Instant,
    until: Instant,
}

impl Look {
    /// The part of a CPU between two looks: at most, whatever held up who looked.
    fn part_since(&self, earlier: &Self) -> f64 {
        (self.used - earlier.used) / (self.until - earlier.from).as_secs_f64()
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        (self.from - earlier.until).as_secs_f64()
    }
}

/// Looks at all threads of a process that have this name.
fn look(pid: u32, name: &str) -> std::io::Result<Look> {
    let from = Instant::now();
    let mut used = 0.0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may end between two looks.
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
        used += nanos.filter(|_| read("comm").trim_end() == name).unwrap_or_default() / 1e9;
    }
    Ok(Look { used, from, until: Instant::now() })
}

/// The most of a CPU that was used over any time of so many seconds.
fn most_over(looks: &[Look], seconds: f64) -> f64 {
    let over = |first: usize| {
        let earlier = looks.get(first)?;
        let later = looks.iter().skip(first).find(|later| later.seconds_since(earlier) >= seconds)?;
        Some(later.part_since(earlier))
    };
    (0..looks.len()).filter_map(over).fold(0.0, f64::max)
}

/// The process of a tenant's cell, where it has one of its own.
fn process(daemon: &Daemon, tenant: &str) -> Option<u32> {
    let tree: Value = serde_json::from_slice(&daemon.canopy(&["tree", "--json"]).ok()?.stdout).ok()?;
    let cell = tree["cells"].as_array()?.iter().find(|cell| cell["tenant"]["tenant"] == tenant)?.clone();
    cell["state"].as_str()?.strip_prefix("running in process ")?.parse().ok()
}

#[test]
fn a_cap_holds_over_any_second_and_over_ten_whatever_the_cell_runs_in() -> Outcome {
    let stage = Stage::new()?;
    let mut called = Vec::new();
    for (number, name) in (10..).zip(["shop", "bank"]) {
        let [caller, server] = ["caller", "web"].map(|role| format!("{name}-{role}"));
        let (client, web) = (stage.pod(name, &caller, &[])?, stage.pod(name, &server, &[HTTP])?);
        let vip = stage.service((name, "web"), number, &[HTTP], &[&web])?;
        called.push((Origin::start(&web, 80)?, client, web, vip));
    }
    let (thread, apart) = (tenant("100m", "300m"), tenant("100m", "200m").replace("shop", "bank"));
    stage.manifests.write("shop.yaml", &thread)?;
    stage.manifests.write("bank.yaml", &apart.replace("budget:", "isolation: process, budget:"))?;
    let daemon = stage.daemon()?;
    let output = daemon.output();
    if ["no weights for the cells' CPU", "run without all or some"].iter().any(|said| output.contains(said)) {
        println!("not tried: {output}");
        return Ok(());
    }
    eventually("the one has a process", || process(&daemon, "bank").is_some())?;
    let pid = process(&daemon, "bank").ok_or("it has one")?;
    let flood: Vec<_> = called
        .iter()
        .flat_map(|(_, client, _, vip)| (0..CLIENTS).map(|_| Traffic::start(client, vip.at(80), "any")))
        .collect::<Result<_, _>>()?;
    let held_back = |tenant: &str| {
        let label = format!("tenant=\"{tenant}\"");
        daemon.metric("canopy_tenancy_cpu_throttled_seconds_total", &[&label]).unwrap_or_default()
    };
    eventually("both are held back", || held_back("shop") > 0.1 && held_back("bank") > 0.1)?;
    let (mut shop, mut bank) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        shop.push(look(daemon.pid(), "shop")?);
        bank.push(look(pid, "bank")?);
        std::thread::sleep(LOOK);
    }
    drop(flood);
    for (looks, tenant, cap) in [(shop, "shop", 0.3), (bank, "bank", 0.2)] {
        let (ten, one) = (most_over(&looks, 10.0), most_over(&looks, 1.0));
        assert!(ten > 0.1 * cap, "{tenant} is not watched: {ten}");
        assert!(ten <= 1.05 * cap, "{tenant} has {ten} of a CPU over ten seconds, capped at {cap}");
        assert!(one <= 1.2 * cap, "{tenant} has {one} of a CPU over a second, capped at {cap}");
    }
    Ok(())
}

fn quota(group: &Path, tenant: &str) -> Option<i64> {
    said(group, tenant, ["cpu.cfs_quota_us", "cpu.max"])?.split(' ').next()?.parse().ok()
}

fn weight(group: &Path, tenant: &str) -> Option<u64> {
    said(group, tenant, ["cpu.shares", "cpu.weight"])?.parse().ok()
}

fn threads(group: &Path, tenant: &str) -> usize {
    said(group, tenant, ["tasks", "cgroup.threads"]).map_or(0, |text| text.lines().count())
}

#[test]
fn each_cell_has_its_group_by_its_budget_and_none_is_left() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let _other = stage.pod("bank", "teller", &[])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    stage.manifests.write("tenant.yaml", &tenant("200m", "300m"))?;
    let options = Options { instance: Some(INSTANCE.into()), ..Options::default() };
    let start = || Daemon::start_with(&stage.node, stage.manifests.path(), &options);
    let mut daemon = start()?;
    if daemon.output().contains("no weights for the cells' CPU") {
        println!("not tried: {}", daemon.output());
        return Ok(());
    }
    let group = groups().pop().ok_or("the daemon has a group")?;
    eventually("the cell is in its group", || {
        threads(&group, "-shop") == 1 && threads(&group, "-bank") == 1
    })?;
    eventually("the cap is there", || quota(&group, "-shop") == Some(3_000))?;
    assert!(threads(&group, "system") > 4, "the daemon's own threads are in theirs");
    let weights = || weight(&group, "-shop").zip(weight(&group, "-bank"));
    // 200 m beside the 100 m of who has said nothing.
    eventually("weights are as shares", || weights().is_some_and(|(shop, bank)| shop == 2 * bank))?;

    let mut living = dial(&client, vip.at(80))?;
    stage.put(&daemon, "tenant.yaml", &tenant("400m", "600m"))?;
    eventually("the new cap is there", || quota(&group, "-shop") == Some(6_000))?;
    eventually("and the new weight", || weights().is_some_and(|(shop, bank)| shop == 4 * bank))?;
    living.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    living.read_to_end(&mut answer)?;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "a connection of before is served");

    daemon.process().signal(Signal::KILL);
    daemon.process().wait(PATIENCE).ok_or("a killed process ends")?;
    assert_eq!(groups(), vec![group.clone()], "what is killed leaves its groups, or this test shows nothing");
    let mut daemon = start()?;
    assert!(!group.exists() && groups().len() == 1, "{:?}", groups());
    assert_eq!(http::get(&client, vip.at(80), "web", "/")?.status, 200);
    daemon.process().signal(Signal::TERM);
    daemon.process().wait(PATIENCE).ok_or("it ends")?;
    assert_eq!(groups(), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn with_budgets_off_there_are_no_groups_no_bounds_and_no_rows() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    stage
        .manifests
        .write("tenant.yaml", &tenant("200m", "300m").replace("cpu: ", "requestsPerSecond: 1, cpu: "))?;
    let arguments = vec!["--budgets".to_owned(), "off".to_owned()];
    let daemon = Daemon::start_with(
        &stage.node,
        stage.manifests.path(),
        &Options { arguments, ..Options::default() },
    )?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", daemon.pid()))?, own);
    for _ in 0..20 {
        assert_eq!(http::get(&client, vip.at(80), "web", "/")?.status, 200);
    }
    let of = |workload: &str| {
        let labels = &["tenant=\"shop\"", workload];
        daemon.metric("canopy_workload_requests_total", labels).unwrap_or_default()
    };
    daemon.wait_metric("canopy_relay_requests_total", &["tenant=\"shop\""], 20.0)?;
    assert_eq!(of("workload=\"shop/client\""), 0.0, "nobody pays");
    Ok(())
}
