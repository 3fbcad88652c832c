//! How a node stands with its control plane: for `/status`, the metrics and the log.
//!
//! Written by the threads of discovery, read by anybody.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use config::discovery::Kind;

use crate::telemetry::{access::rfc3339, metrics};

/// How it stands.
#[derive(Debug)]
pub struct Standing {
    server: String,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    is_connected: bool,
    since: SystemTime,
    error: Option<String>,
    /// What is waited for before anything is served.
    waits_for: Vec<Kind>,
    is_serving: bool,
    counts: [Counts; Kind::ALL.len()],
    /// Streams that ended since a message was too large: a request, a response.
    oversized: [u64; 2],
}

/// What is too large for who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// What this node says.
    Request,
    /// What the control plane says.
    Response,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    acked: u64,
    nacked: u64,
    resources: u64,
    /// Whether a response was ever taken in.
    is_known: bool,
}

impl Standing {
    /// Of a node that has not connected yet.
    pub fn new(server: String, now: SystemTime) -> Self {
        let known = Known {
            is_connected: false,
            since: now,
            error: None,
            waits_for: Vec::new(),
            is_serving: false,
            counts: <[Counts; Kind::ALL.len()]>::default(),
            oversized: [0; 2],
        };
        Self { server, known: Mutex::new(known) }
    }

    /// The stream is there.
    pub(super) fn connected(&self, now: SystemTime) {
        let mut known = self.known();
        let was_away = now.duration_since(known.since).unwrap_or_default();
        tracing::info!(server = self.server, after = ?was_away, "connected to the control plane");
        (known.is_connected, known.since, known.error) = (true, now, None);
    }

    /// The stream has ended, or could not be had. Said in the log once for each way in which it fails.
    pub(super) fn away(&self, error: &str, now: SystemTime) {
        let mut known = self.known();
        if known.is_connected || known.error.as_deref() != Some(error) {
            tracing::warn!(
                server = self.server,
                error,
                "the control plane is away: what it said last stays in force; trying again"
            );
        }
        if known.is_connected {
            (known.is_connected, known.since) = (false, now);
        }
        known.error = Some(error.to_owned());
    }

    /// A stream has ended since a message was too large.
    pub(super) fn oversized(&self, what: Oversized) {
        self.known().oversized[what as usize] += 1;
    }

    /// A response was answered.
    pub(super) fn answered(&self, kind: Kind, is_taken: bool, resources: usize) {
        let mut known = self.known();
        let counts = &mut known.counts[kind as usize];
        if is_taken {
            counts.acked += 1;
        } else {
            counts.nacked += 1;
        }
        counts.is_known = true;
        counts.resources = u64::try_from(resources).unwrap_or(u64::MAX);
    }

    /// What was in the cache.
    pub(super) fn held(&self, kind: Kind, resources: usize) {
        let counts = &mut self.known().counts[kind as usize];
        (counts.is_known, counts.resources) = (true, u64::try_from(resources).unwrap_or(u64::MAX));
    }

    /// What is waited for; `is_serving` when there is something to serve.
    pub(in crate::control::discovery) fn waits(&self, waits_for: Vec<Kind>, is_serving: bool) {
        let mut known = self.known();
        (known.waits_for, known.is_serving) = (waits_for, is_serving);
    }

    /// All of it, as `/status` has it.
    pub fn to_json(&self, now: SystemTime) -> serde_json::Value {
        let known = self.known();
        let since = known.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let count = |kind: Kind| {
            let Counts { acked, nacked, resources, .. } = known.counts[kind as usize];
            serde_json::json!({"type": label(kind), "resources": resources, "acked": acked, "nacked": nacked})
        };
        let of_known = Kind::ALL.into_iter().filter(|kind| known.counts[*kind as usize].is_known);
        serde_json::json!({
            "server": self.server,
            "connected": known.is_connected,
            "since": rfc3339(since.as_secs()),
            "seconds": now.duration_since(known.since).unwrap_or(Duration::ZERO).as_secs(),
            "error": known.error,
            "serving": known.is_serving,
            "waitsFor": known.waits_for.iter().copied().map(label).collect::<Vec<_>>(),
            "types": of_known.map(count).collect::<Vec<_>>(),
        })
    }

    /// For the metrics.
    pub fn to_metrics(&self) -> metrics::Discovery {
        let known = self.known();
        let of = |kind: Kind| {
            let Counts { acked, nacked, resources, .. } = known.counts[kind as usize];
            metrics::Discovered { of: label(kind), acked, nacked, resources }
        };
        let [requests, responses] = known.oversized;
        metrics::Discovery {
            connected: known.is_connected,
            types: Kind::ALL.into_iter().map(of).collect(),
            oversized: [("request", requests), ("response", responses)],
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Oversized {
    /// What is done about it, and what is to be done.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Request => {
                "it takes no request so large; it is told less of what this node has from now on, and sends more, and of another make cannot \
                 say what of that is gone: raise its limit (istiod: ISTIO_GPRC_MAXRECVMSGSIZE), or set --discovery-on-demand"
            }
            Self::Response => {
                "it says more at once than goes into a message, and what it said last stays in force: set --discovery-on-demand, or \
                 let it send more, or give it fewer objects"
            }
        }
    }
}

/// The last part of its URL.
pub fn label(kind: Kind) -> &'static str {
    let url = kind.type_url();
    url.rsplit('.').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_said_whether_the_control_plane_is_there_and_since_when() {
        let standing = Standing::new("unix:/x".to_owned(), at(0));
        standing.away("nobody listens", at(1));
        standing.away("nobody listens", at(5));
        let said = standing.to_json(at(7));
        assert_eq!((&said["connected"], &said["seconds"]), (&false.into(), &7.into()), "away from the start");
        assert_eq!(said["error"], "nobody listens");
        standing.connected(at(10));
        standing.answered(Kind::Route, false, 3);
        standing.answered(Kind::Route, true, 4);
        let said = standing.to_json(at(12));
        assert_eq!((&said["connected"], &said["seconds"]), (&true.into(), &2.into()));
        assert_eq!(said["error"], serde_json::Value::Null);
        let route = serde_json::json!({"type": "Route", "resources": 4, "acked": 1, "nacked": 1});
        assert_eq!(said["types"], serde_json::json!([route]));
        standing.away("it ended", at(20));
        standing.away("nobody listens", at(30));
        let said = standing.to_json(at(31));
        assert_eq!((&said["seconds"], &said["error"]), (&11.into(), &"nobody listens".into()));
    }

    #[test]
    fn the_metrics_have_every_type() {
        let standing = Standing::new("unix:/x".to_owned(), at(0));
        standing.connected(at(1));
        standing.answered(Kind::Address, true, 7);
        let metrics = standing.to_metrics();
        assert!(metrics.connected);
        let address = metrics.types.iter().find(|found| found.of == "Address").unwrap();
        assert_eq!((address.acked, address.nacked, address.resources), (1, 0, 7));
        assert_eq!(metrics.types.len(), Kind::ALL.len());
    }
}
