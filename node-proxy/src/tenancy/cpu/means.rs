//! By what means shares are held here: tried, not guessed.

use std::{path::PathBuf, thread};

use super::{
    hierarchy::{self, Hierarchy},
    layout::Version,
};
use crate::sys::clock::{Class, ThreadId};

/// How cells that have more than their part are put behind the others.
#[derive(Debug)]
pub enum Means {
    /// By weights in one parent control group.
    Weights(Hierarchy),
    /// By the scheduling class.
    Classes,
    /// By pauses of their own.
    Governor,
}

/// What this machine allows.
#[derive(Debug)]
pub struct Found {
    /// Weights in control groups, and where; or why not.
    pub weights: Result<(Version, PathBuf), String>,
    /// Whether a thread can leave the class of those that run only when nobody else wants to.
    pub classes: bool,
    /// Whether the kernel says how long a thread has waited.
    pub waits: bool,
}

impl Means {
    /// The best that can be had, for an instance of the daemon.
    pub fn choose(instance: &str, system_weight: u64) -> Self {
        match Hierarchy::open(instance, system_weight) {
            Ok(hierarchy) => Self::Weights(hierarchy),
            Err(error) => {
                let means = if can_leave_idle_class() { Self::Classes } else { Self::Governor };
                let problem = hierarchy::report(&error);
                tracing::warn!(problem, "no weights for the cells' CPU: {means}; see `canopy check`");
                means
            }
        }
    }
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Weights(_) => "cells are weighed in control groups",
            Self::Classes => "cells over their share get the idle scheduling class",
            Self::Governor => "cells over their share pause by themselves",
        })
    }
}

/// Tries everything; leaves nothing.
pub fn probe() -> Found {
    Found {
        weights: Hierarchy::probe().map_err(|error| hierarchy::report(&error)),
        classes: can_leave_idle_class(),
        waits: ThreadId::current().waited().is_some(),
    }
}

/// Tried on a thread of its own, which may not come back.
fn can_leave_idle_class() -> bool {
    let attempt = thread::Builder::new().name("probe".to_owned()).spawn(|| {
        let own = ThreadId::current();
        own.change_class(Class::Idle).and_then(|()| own.change_class(Class::Normal)).is_ok()
    });
    attempt.is_ok_and(|thread| thread.join().unwrap_or(false))
}
