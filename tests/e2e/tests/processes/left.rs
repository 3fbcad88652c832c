//! What a cell's process leaves behind when its daemon is killed with it, and that the next daemon removes it.

use std::{path::Path, time::Duration};

use e2e::eventually;
use rustix::process::Signal;
use testkit::Outcome;

use super::{Scene, cell, places, seen::groups};

#[test]
fn what_is_left_of_a_killed_daemons_processes_goes_with_the_next_start_though_nobody_asks_for_a_process_then()
-> Outcome {
    let scene = Scene::new()?;
    let mut daemon = scene.stage.daemon()?;
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
    scene.write("thread", "")?;
    let _next = scene.stage.daemon()?;
    assert_eq!(are_there(), 0, "{left:?}");
    Ok(())
}
