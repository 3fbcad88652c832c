//! `role:first SPEC`: dials until one GET is answered, and says when that was.
//!
//! For the time from a daemon's start to its first captured request; it never measures anything else.

use std::{ffi::OsString, io::Write, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{clock, error::BenchError, load};

/// Whom to dial, from where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FirstSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    /// What is to be answered with 200.
    pub path: String,
    pub limit_ms: u64,
}

pub(super) fn wait_for_answer(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: FirstSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let answered = clock::wait_until(Duration::from_millis(spec.limit_ms), || {
        load::is_answering(spec.target, &spec.path, Duration::from_millis(20))
    });
    if !answered {
        return Err(BenchError::Load(format!("{} did not answer within {} ms", spec.target, spec.limit_ms)));
    }
    writeln!(std::io::stdout(), "{}", clock::now()).map_err(|e| BenchError::io("write the time", e))
}
