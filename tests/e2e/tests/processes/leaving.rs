//! A cell that leaves for one of another class: it obeys what takes its connections' permissions away, and while classes change,
//! whoever comes is served.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use e2e::{ask, byte, dial, eventually, is_reset};
use testkit::Outcome;

use super::{Scene, cell, cells, echo, tenant, threads};

/// A policy that the same edit brings.
const NOBODY_MAY: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: nobody, namespace: shop}\nspec: {}\n";

#[test]
fn the_edit_that_changes_a_cells_class_and_takes_a_permission_away_ends_what_it_had_allowed() -> Outcome {
    let scene = Scene::new()?;
    scene.write("thread", "")?;
    let mut daemon = scene.stage.daemon()?;
    for (class, next) in [("thread", "process"), ("process", "thread")] {
        let is_there = || match class {
            "process" => cell(&daemon, "shop").is_ok(),
            _ => threads(&daemon).is_ok_and(|all| all.contains(&"shop".to_owned())),
        };
        scene.write(class, "")?;
        eventually("the cell is of its class", is_there)?;
        let mut allowed = None;
        eventually("it is allowed", || {
            allowed = dial(&scene.teller, scene.web.at(9000)).ok();
            allowed.as_mut().is_some_and(|stream| echo(stream, b"allowed").is_ok())
        })?;
        let kept = allowed.ok_or("it is there")?;
        scene.stage.manifests.write("tenant.yaml", &format!("{}{NOBODY_MAY}", tenant(next, "")))?;
        // Far less than it may take to leave.
        kept.set_read_timeout(Some(Duration::from_secs(2)))?;
        let end = byte(&kept);
        assert!(matches!(end, Ok(0)) || is_reset(&end), "as a {class} becomes a {next}: {end:?}");
        let caller = kept.local_addr()?.to_string();
        let is_said = |line: &serde_json::Value| {
            let is_of_it = line["workload"] == "shop/web" && line["src.addr"] == *caller;
            is_of_it && line["reason"] == "no_policy_allows" && line["policy"] == "shop/nobody"
        };
        daemon.wait_logged(is_said)?;
    }
    Ok(())
}

#[test]
fn who_comes_while_a_tenants_class_changes_again_and_again_is_served() -> Outcome {
    let scene = Scene::new()?;
    let daemon = scene.stage.daemon()?;
    ask(&scene.client, scene.web.at(80), 1)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asks = scope.spawn(|| -> Result<u32, String> {
            let mut asked = 0;
            while !is_over.load(Relaxed) {
                for (from, to) in
                    [(&scene.client, scene.web), (&scene.teller, scene.web), (&scene.client, scene.ledger)]
                {
                    ask(from, to.at(80), 1).map_err(|error| format!("after {asked}: {error}"))?;
                    asked += 1;
                }
            }
            Ok(asked)
        });
        let changes = (0..4).try_for_each(|_| {
            ["thread", "process"].into_iter().try_for_each(|class| {
                thread::sleep(Duration::from_millis(60));
                scene.write(class, "")
            })
        });
        thread::sleep(Duration::from_millis(500));
        is_over.store(true, Relaxed);
        changes?;
        let asked = asks.join().map_err(|_| "the asking panicked")??;
        assert!(asked > 20, "{asked}");
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })
    .map_err(|error| format!("{error}: {}", daemon.output()))?;
    eventually("one process is left", || cells(&daemon, "shop").is_ok_and(|all| all.len() == 1))?;
    Ok(())
}
