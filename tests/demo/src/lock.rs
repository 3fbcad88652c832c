//! One demo at a time: its namespaces have fixed names, because the shipped manifests name them.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use testkit::Node;

use crate::{cast::NODE, error::DemoError};

/// Held while the demo runs; the kernel lets go of it whatever ends the process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the lock, and removes what a killed demo has left.
    pub(crate) fn take() -> Result<Self, DemoError> {
        let file =
            File::create(PATH).map_err(DemoError::io("cannot make /run/canopy-demo.lock (not root?)"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                Node::reclaim(NODE)?;
                Ok(Self(file))
            }
            Err(_) => Err(DemoError::AlreadyRunning { path: PATH }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nothing is to be left behind; whoever takes it next makes it anew.
        let _ = std::fs::remove_file(PATH);
    }
}

const PATH: &str = "/run/canopy-demo.lock";
