//! What can go wrong with a benchmark, each with what to do about it.
//!
//! One closed set; nothing here is retried.

/// Why the bench stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A file or process operation.
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// A tool that the bench needs.
    #[error("`{command}` failed: {output}")]
    Tool { command: String, output: String },
    /// Namespaces and processes.
    #[error(transparent)]
    Lab(Box<testkit::KitError>),
    /// Nothing was measured because the load could not run.
    #[error("the load generator stopped: {0}")]
    Load(String),
    /// The subject did not carry what was sent.
    #[error(
        "{subject} counted {counted} {what} while {sent} were sent: something passed around it, the run is void"
    )]
    Bypassed { subject: String, what: &'static str, counted: u64, sent: u64 },
    /// Exchanges shared a connection that each was to make for itself.
    #[error("{subject} made {begun} connections for {sent} exchanges that need two each: the run is void")]
    Reused { subject: String, begun: u64, sent: u64 },
    /// A subject that does not tell broken changes from others.
    #[error("{subject} refused {refused} changes while {broken} were broken: the run is void")]
    Refused { subject: String, refused: u64, broken: u64 },
    /// What crosses the wire is not what it should be.
    #[error(
        "on the wire between the nodes, the payload must be readable without a proxy and unreadable with one; \
         {subject}: {seen}"
    )]
    Wire { subject: String, seen: String },
    /// Connections that were to be held are not there.
    #[error("{what}: {counted} instead of {expected}")]
    Held { what: &'static str, counted: u64, expected: u64 },
    /// The daemon does not carry what its memory is to be measured with.
    #[error(
        "the daemon enrolled {counted} workloads of {expected}; see what it says of the others in its log"
    )]
    Enrolled { counted: u64, expected: u64 },
    /// A subject's own figures could not be had.
    #[error("cannot read what {subject} counted: {why}")]
    Counters { subject: String, why: String },
    /// Results that cannot be read.
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; everything was cleaned up")]
    Interrupted,
    /// Wrong arguments.
    #[error("{0}")]
    Usage(String),
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    pub(crate) fn os(what: impl Into<String>, source: rustix::io::Errno) -> Self {
        Self::io(what, source.into())
    }
}

impl From<testkit::KitError> for BenchError {
    fn from(error: testkit::KitError) -> Self {
        Self::Lab(Box::new(error))
    }
}
