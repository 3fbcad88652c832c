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

use e2e::{HTTP, Origin, Stage, dial, eventually};
use rustix::process::Signal;
use testkit::{Daemon, Options, Outcome, http};

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
