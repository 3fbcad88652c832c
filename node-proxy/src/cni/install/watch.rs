//! Keeps what is installed as it should be: looks when a directory changes, and every few seconds besides.
//!
//! What cannot be done is said once and tried again. It must never take anything away: an end of it, as in an upgrade, leaves pods gated.

use std::{path::Path, time::Duration};

use notify::{RecursiveMode, Watcher};
use tokio::{sync::Notify, time::Instant};

use super::{Options, install_again, program::Compared};
use crate::identity::authority::report;

/// How often it is looked in any case: tokens are renewed by then, and a directory that cannot be watched is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long after a change: an installer that writes several files has written them.
const SETTLES: Duration = Duration::from_millis(100);
/// Between two repairs: two installers that undo each other do so in no hurry.
const LEAST: Duration = Duration::from_secs(1);

/// Looks after it until dropped.
pub async fn keep(options: &Options) {
    let changed = std::sync::Arc::new(Notify::new());
    let watcher = watcher(options, std::sync::Arc::clone(&changed));
    if let Err(error) = &watcher {
        tracing::warn!(%error, every = ?EVERY, "the directories cannot be watched; they are looked at from time to time");
    }
    let (mut said, mut first, mut compared) = (None, true, Compared::default());
    loop {
        match install_again(options, &mut compared) {
            Ok(changes) => {
                let is_repaired = !changes.is_empty() && !first;
                for change in changes {
                    tracing::info!(repaired = is_repaired, "{change}");
                }
                if said.take().is_some() || first {
                    tracing::info!(conf_dir = %options.conf_dir.display(), "the CNI plugin is installed, and kept so");
                }
                first = false;
            }
            Err(error) => {
                let problem = report(&error);
                if said.as_ref() != Some(&problem) {
                    tracing::error!(problem, "the CNI plugin is not as it should be; it is tried again");
                    said = Some(problem);
                }
            }
        }
        let next = Instant::now() + LEAST;
        if tokio::time::timeout(EVERY, changed.notified()).await.is_ok() {
            tokio::time::sleep(SETTLES).await;
        }
        tokio::time::sleep_until(next).await;
    }
}

fn watcher(options: &Options, changed: std::sync::Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is no change, and is what is done here.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    })?;
    for directory in [options.conf_dir.as_path(), options.bin_dir.as_path()] as [&Path; 2] {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
