//! From one image to another while requests are made: what fails, for how long, and whom it never touches.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use e2e::repository;
use testkit::{Cluster, Outcome, Tally, Traffic, eventually};
use tokio::time::Instant;

use super::{install, rolled_out};
use crate::{
    faults::web,
    lab::{OPTED_IN, ask, finally, installed, load, running, until_carried},
};

/// A node's pods are refused from its daemon's end to the next one's readiness; a tenth of it is usual.
const LONGEST: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn an_upgrade_under_load_refuses_a_nodes_calls_for_a_moment_and_touches_nobody_else() -> Outcome {
    let cluster = running();
    let program = repository().join("target/images/canopy").to_string_lossy().into_owned();
    load("canopy:0.1.1", &[&format!("/usr/bin/canopy={program}")])?;
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let (outside, other) = web(&cluster, &[])?;
    let carried = ["client-1", "client-2"]
        .map(|client| Traffic::start(&space.inside(client)?, address.parse()?, "web").map_err(Into::into));
    let carried: Vec<Traffic> =
        carried.into_iter().collect::<Result<_, Box<dyn std::error::Error + Send + Sync>>>()?;
    let undisturbed = Traffic::start(&outside.inside("client-1")?, other.parse()?, "web")?;
    for traffic in &carried {
        traffic.next(100)?;
    }

    let back = finally(|| drop(install(&cluster, "base")));
    let gaps = gaps_while(&carried, || upgrade(&cluster))?;
    for (traffic, gap) in carried.iter().zip(&gaps) {
        let tally = traffic.tally();
        eprintln!(
            ">> {} answered, {} failed, at most {gap:?} without an answer",
            tally.total(),
            tally.failures
        );
        assert!(*gap < LONGEST, "{gap:?} without an answer: {tally:?}");
    }
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    for client in ["client-1", "client-2"] {
        eventually("served by the new daemon", || ask(&space, client, &address).is_ok())?;
    }
    drop(back);
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("served after the way back", || ask(&space, "client-1", &address).is_ok())?;
    let Tally { failures, .. } = undisturbed.tally();
    assert_eq!(failures, 0, "{:?}", undisturbed.tally());
    Ok(())
}

fn upgrade(cluster: &Cluster) -> Outcome {
    for (part, container) in [
        ("deployment/canopy-control", "control"),
        ("daemonset/canopy-cni", "install"),
        ("daemonset/canopy-node", "node"),
    ] {
        installed(cluster, &["set", "image", part, &format!("{container}=canopy:0.1.1")])?;
    }
    rolled_out(cluster)?;
    let images =
        installed(cluster, &["get", "pods", "--output=jsonpath={.items[*].spec.containers[*].image}"])?;
    assert!(images.split(' ').all(|image| image == "canopy:0.1.1"), "{images}");
    Ok(())
}

/// The longest time in which none of a client's requests was answered, of each, while `act` goes on.
fn gaps_while(
    clients: &[Traffic],
    act: impl FnOnce() -> Outcome + Send,
) -> Result<Vec<Duration>, Box<dyn std::error::Error + Send + Sync>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let outcome = act();
            done.store(true, Ordering::Relaxed);
            outcome
        });
        let mut seen: Vec<(u64, Instant, Duration)> =
            clients.iter().map(|client| (client.tally().total(), Instant::now(), Duration::ZERO)).collect();
        while !done.load(Ordering::Relaxed) {
            for (client, (total, since, longest)) in clients.iter().zip(&mut seen) {
                let now = client.tally().total();
                *longest = (*longest).max(since.elapsed());
                if now > *total {
                    (*total, *since) = (now, Instant::now());
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        acting.join().map_err(|_panicked| "the upgrade panicked")??;
        Ok(seen.into_iter().map(|(_, _, longest)| longest).collect())
    })
}
