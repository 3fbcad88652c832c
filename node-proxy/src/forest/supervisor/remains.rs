//! What is left of a pod's steering when its tree is gone: the way back from its app, until the last connection has ended.
//!
//! It must never be kept for longer than connections may go on: by then their cell has ended them.

use std::time::Duration;

use config::name::PodName;
use ebpf_redirect::WayBack;
use tokio::time::Instant;

use crate::{capture::Presence, forest::planting::Planting};

/// How long after their grace connections have to be gone: their cell ends them then, and may be busy.
const LAST: Duration = Duration::from_secs(1);

/// The way back of one pod.
#[derive(Debug)]
pub(super) struct Remains {
    pod: PodName,
    presence: Presence,
    until: Instant,
    _way_back: Box<dyn WayBack>,
}

impl Remains {
    /// Stops steering a pod. Where something has to stay for its connections, this is it.
    pub(super) fn of(tree: &mut Planting, until: Instant) -> Option<Self> {
        let (way_back, presence) = tree.release()?;
        let pod = tree.workload.pod.clone();
        Some(Self { pod, presence, until: until + LAST, _way_back: way_back })
    }

    /// Its connections may go on until then.
    pub(super) fn stay_until(&mut self, until: Instant) {
        self.until = until + LAST;
    }

    /// Whether anybody may still need it.
    pub(super) fn are_needed(&self, now: Instant) -> bool {
        if self.presence.is_last() {
            return false;
        }
        if now >= self.until {
            tracing::warn!(pod = %self.pod, "a cell does not let go of a pod that is gone: what is left of its steering goes");
        }
        now < self.until
    }
}
