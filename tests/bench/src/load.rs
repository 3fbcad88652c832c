//! The load generator: what to send, for how long, and what came of it.
//!
//! It runs as a process of its own, in the client pod's network namespace and on the load's CPU, and is lean enough
//! to saturate a proxy from one core that it shares with the server. It must never count what it did not receive.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use connection::is_answering;
pub(crate) use engine::run;
pub(crate) use places::Places;

mod connection;
mod engine;
pub(crate) mod histogram;
mod http1;
pub(crate) mod http2;
mod patience;
mod places;
mod raw;

/// One piece of load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadSpec {
    /// The CPU to stay on.
    pub cpu: usize,
    /// Whom to send to.
    pub target: SocketAddr,
    /// What one exchange is.
    pub exchange: Exchange,
    /// Connections, kept open except by [`Exchange::Connect`].
    pub connections: usize,
    /// Exchanges per second at fixed times; `None`: each connection sends as soon as it has its answer.
    pub rate: Option<f64>,
    /// Time before counting starts.
    pub warm_up_ms: u64,
    /// Time that is counted.
    pub measure_ms: u64,
    /// The processes whose CPU time, added up, is read at both ends of the counted time.
    pub watch: Vec<u32>,
    /// What else is special about it.
    #[serde(default)]
    pub manner: Manner,
}

/// What is special about a piece of load; by default nothing is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Manner {
    /// An exchange that was not sent in the counted time, or not answered within so many milliseconds, is no error: it
    /// counts as unserved, and as one that took so long.
    pub unserved_ms: Option<u64>,
    /// Whether it goes before other load on its CPU.
    pub favoured: bool,
    /// Where the connections are made, in turns; none: where the process is, to its target.
    pub places: Vec<Place>,
}

/// A network namespace, and whom to dial there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub netns: PathBuf,
    pub target: SocketAddr,
}

/// One exchange.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Exchange {
    /// HTTP/1.1 GET on a kept-alive connection.
    Http1 { path: String, body: usize },
    /// The same, each of another of so many routes' paths.
    Routes { count: usize, body: usize },
    /// HTTP/2 GET, with prior knowledge, this many at a time on each connection.
    Http2 { path: String, body: usize, streams: usize },
    /// A unary call of gRPC with a message of so many bytes, prefix included, and the like of it back; this many at a time.
    Grpc { body: usize, streams: usize },
    /// So many bytes there and back.
    Echo { bytes: usize },
    /// A short request for so many bytes; they are discarded in the kernel.
    Bulk { bytes: usize },
    /// Connect, so many bytes there and back, close.
    Connect { bytes: usize },
}

impl Exchange {
    /// Exchanges that one connection has under way at most.
    pub(crate) fn concurrency(&self) -> usize {
        match self {
            Self::Http2 { streams, .. } | Self::Grpc { streams, .. } => *streams,
            _ => 1,
        }
    }

    /// Whether a connection serves one exchange only.
    pub(crate) fn is_one_shot(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// What came of a piece of load.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// Exchanges answered in the counted time.
    pub exchanges: u64,
    /// Exchanges answered at all, warm-up included.
    pub exchanges_in_all: u64,
    /// Connections opened at all.
    pub connections_in_all: u64,
    /// Failures at any time.
    pub errors: u64,
    /// What the first failure said.
    pub first_error: Option<String>,
    /// Exchanges of the counted time that were not served in time, where that is no failure.
    #[serde(default)]
    pub unserved: u64,
    /// The counted time.
    pub elapsed_ns: u64,
    /// From the intended send time to the last byte of the answer.
    pub p50_ns: u64,
    /// Likewise.
    pub p99_ns: u64,
    #[serde(default)]
    pub p90_ns: u64,
    #[serde(default)]
    pub p999_ns: u64,
    /// Of the histogram's buckets that are not empty, the number and the count.
    #[serde(default)]
    pub latencies: Vec<(usize, u64)>,
    /// CPU time of the watched processes in the counted time.
    pub watched_cpu_ns: u64,
    /// CPU time of the generator itself in the counted time.
    pub own_cpu_ns: u64,
    /// Pieces that were measured again, since the machine was taken away meanwhile.
    #[serde(default)]
    pub repeated: u32,
}

impl LoadReport {
    /// Exchanges per second.
    pub(crate) fn per_second(&self) -> f64 {
        if self.elapsed_ns == 0 { 0.0 } else { self.exchanges as f64 * 1e9 / self.elapsed_ns as f64 }
    }

    /// CPU time of the watched processes per exchange, in µs.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.per_exchange(self.watched_cpu_ns)
    }

    /// CPU time of the generator per exchange, in µs.
    pub(crate) fn own_cpu_us(&self) -> f64 {
        self.per_exchange(self.own_cpu_ns)
    }

    fn per_exchange(&self, ns: u64) -> f64 {
        if self.exchanges == 0 { 0.0 } else { ns as f64 / 1e3 / self.exchanges as f64 }
    }
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{0}")]
    Os(#[from] rustix::io::Errno),
    #[error("the server closed the connection before it had answered")]
    Closed,
    #[error("the answer is not HTTP/1.1: {0}")]
    NotHttp(httparse::Error),
    #[error("status {0} instead of 200")]
    Status(u16),
    #[error("a body of {got} bytes instead of {want}")]
    Body { want: usize, got: u64 },
    #[error("an answer without Content-Length")]
    NoLength,
    #[error("more bytes came than were asked for")]
    Surplus,
    #[error("HTTP/2: {0}")]
    Http2(&'static str),
    #[error("not answered within {0} ms of running time after the end")]
    Late(u64),
}
