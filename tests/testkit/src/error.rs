//! What can go wrong while a node is set up. Messages name the thing and the remedy; nothing here is about
//! the code under test.

use std::{io, path::PathBuf, time::Duration};

/// Why a part of the test node could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A program ended with a failure.
    #[error("`{command}` failed ({status}): {output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error("cannot enter the network namespace {netns}: {source}")]
    Enter {
        /// Its name.
        netns: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program is not installed.
    #[error("`{program}` is not installed; {remedy}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// What to do about it.
        remedy: String,
    },
    /// A namespace of this name exists and its maker is alive.
    #[error("a network namespace called {name} is there already; `ip netns delete {name}` if nobody uses it")]
    NameTaken {
        /// Its name.
        name: String,
    },
    /// Network namespaces need root.
    #[error("making network namespaces needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN); run with sudo")]
    NotRoot,
    /// Something did not come about in time.
    #[error("{what} did not happen within {limit:?}; the end of its output:\n{output}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// What the process had printed by then.
        output: String,
    },
    /// A process ended while it was needed.
    #[error("{what} ended early ({status}); the end of its output:\n{output}")]
    EndedEarly {
        /// Which process.
        what: String,
        /// How it ended.
        status: String,
        /// What it had printed.
        output: String,
    },
    /// A process could not be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What was to be started.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl KitError {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}
