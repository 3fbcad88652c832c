//! What a cell's process leaves behind when its daemon is killed with it, and that the next daemon removes it.
//!
//! By itself: whichever daemon starts first removes it, so none of another test may.

use std::{path::Path, time::Duration};

use e2e::{HTTP, Stage, eventually};
use rustix::process::Signal;
use testkit::Outcome;

#[path = "processes/seen.rs"]
#[expect(dead_code, reason = "more is seen of processes by those tests")]
mod seen;

use self::seen::{cell, groups, places};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn tenant(class: &str) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: shop}}\n\
         spec: {{namespaces: [shop], isolation: {class}}}\n"
    )
}

#[test]
fn what_is_left_of_a_killed_daemons_processes_goes_with_the_next_start_though_nobody_asks_for_a_process_then()
-> Outcome {
    let stage = Stage::new()?;
    let _web = stage.pod("shop", "web", &[HTTP])?;
    stage.manifests.write("tenant.yaml", &tenant("process"))?;
    let mut daemon = stage.daemon()?;
    let pid = cell(&daemon, "shop")?;
    let left: Vec<String> = groups(pid)?.iter().flat_map(|group| places(group)).collect();
    if left.is_empty() {
        println!("not tried: {}", daemon.output());
        return Ok(());
    }
    daemon.process().signal(Signal::KILL);
    daemon.process().wait(Duration::from_secs(10)).ok_or("a killed process ends")?;
    eventually("its process ends with it", || !Path::new(&format!("/proc/{pid}")).exists())?;
    let are_there = || left.iter().filter(|group| Path::new(group).exists()).count();
    assert_eq!(are_there(), left.len(), "what is killed leaves its groups, or this test shows nothing");
    stage.manifests.write("tenant.yaml", &tenant("thread"))?;
    let _next = stage.daemon()?;
    assert_eq!(are_there(), 0, "{left:?}");
    Ok(())
}
