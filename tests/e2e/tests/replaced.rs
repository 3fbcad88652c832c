//! What a node's pods notice while a daemon is replaced by the next one of its name, as a rolling update does it: how long new connections
//! are not made, and that none is lost before the former has ended. It is a measurement with a bound: there is no hand-over yet.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use e2e::{HTTP, Origin, Stage, eventually};
use rustix::process::Signal;
use testkit::{Daemon, Options, Outcome, http};
use tokio::time::Instant;

/// Between two calls.
const EVERY: Duration = Duration::from_millis(5);
/// An unoptimised daemon on a busy machine starts in less; one that waits for anything else does not.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// More than a busy machine needs for an end without open connections.
const PATIENCE: Duration = Duration::from_secs(25);

#[test]
fn new_connections_fail_between_two_daemons_for_as_long_as_the_next_one_takes_to_start_and_not_before()
-> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let options =
        Options { instance: Some(format!("kit-{}-replaced", std::process::id())), ..Options::default() };
    let start = || Daemon::start_with(&stage.node, stage.manifests.path(), &options);
    let mut former = start()?;
    let (calls, is_over) = (Mutex::new(Vec::<(Instant, bool)>::new()), AtomicBool::new(false));
    let all = || calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (ended, next) = thread::scope(|scope| {
        let (calls, is_over, client) = (&calls, &is_over, &client);
        scope.spawn(move || {
            while !is_over.load(Relaxed) {
                // Each by itself, so that one that hangs holds up no other.
                scope.spawn(move || {
                    let begun = Instant::now();
                    let is_served =
                        http::get(client, vip.at(80), "web", "/").is_ok_and(|answer| answer.status == 200);
                    calls.lock().unwrap_or_else(PoisonError::into_inner).push((begun, is_served));
                });
                thread::sleep(EVERY);
            }
        });
        let replaced = (|| {
            eventually("calls are served", || all().len() > 50)?;
            former.process().signal(Signal::TERM);
            former.process().wait(PATIENCE).ok_or("it ends")?;
            let ended = Instant::now();
            let next = start()?;
            let so_far = all().len();
            eventually("calls are served by the next", || all().len() > so_far + 50)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((ended, next))
        })();
        is_over.store(true, Relaxed);
        replaced
    })?;
    let mut calls = all();
    calls.sort_by_key(|(begun, _)| *begun);
    let failed: Vec<Instant> =
        calls.iter().filter(|(_, is_served)| !is_served).map(|(begun, _)| *begun).collect();
    let (Some(first), Some(last)) = (failed.first(), failed.last()) else {
        return Err(
            "nothing failed between two daemons: write down in docs/operations/kubernetes.md how".into()
        );
    };
    let gap = last.saturating_duration_since(*first);
    println!("new connections failed for {gap:?}: {} of {}", failed.len(), calls.len());
    assert!(gap < LONGEST_GAP, "{gap:?}");
    // Whoever begins while the former ends may be met by its end, and nobody before that.
    let early = ended.saturating_duration_since(*first);
    assert!(early < Duration::from_secs(1), "calls failed {early:?} before the former daemon had ended");
    assert!(calls.iter().any(|(begun, is_served)| *is_served && begun > last), "the next one serves");
    drop(next);
    Ok(())
}
