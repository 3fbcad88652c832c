//! What each workload has used of a cell in a process of its own is shown as of any other cell, and outlives the process.

use e2e::{ask, eventually};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{Daemon, Outcome};

use super::{Result, Scene, cell, cells, signal};

/// What a workload has used, as `canopy top` drills down to it.
fn used(daemon: &Daemon, name: &str) -> Result<Value> {
    let top: Value = serde_json::from_slice(&daemon.canopy(&["top", "--once", "--json"])?.stdout)?;
    let tenants = top["tenants"].as_array().cloned().unwrap_or_default();
    let workloads = tenants.iter().flat_map(|tenant| tenant["workloads"].as_array()).flatten();
    let found = workloads.into_iter().find(|workload| workload["workload"] == name).cloned();
    Ok(found.ok_or_else(|| format!("no {name} in {top}"))?["used"].clone())
}

#[test]
fn workloads_of_a_process_have_rows_that_go_on_when_it_is_followed_by_another() -> Outcome {
    let scene = Scene::new()?;
    let daemon = scene.stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    let requests = ["tenant=\"shop\"", "workload=\"shop/client\""];
    ask(&scene.client, scene.web.at(80), 5)?;
    daemon.wait_metric("canopy_workload_requests_total", &requests, 5.0)?;
    // Of who was called by a neighbour.
    ask(&scene.teller, scene.web.at(80), 3)?;
    let carried = ["workload=\"shop/web\"", "direction=\"sent\""];
    eventually("what it was sent is in its row", || {
        daemon.metric("canopy_workload_bytes_total", &carried).is_ok_and(|bytes| bytes > 0.0)
    })?;
    let row = used(&daemon, "shop/client")?;
    assert_eq!((&row["requests"], &row["connections"]), (&5.into(), &1.into()), "{row}");
    assert!(row["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{row}");

    signal(pid, Signal::KILL)?;
    eventually("another follows", || {
        cells(&daemon, "shop").is_ok_and(|all| !all.is_empty() && !all.contains(&pid))
    })?;
    ask(&scene.client, scene.web.at(80), 2)?;
    daemon.wait_metric("canopy_workload_requests_total", &requests, 7.0)?;
    Ok(())
}
