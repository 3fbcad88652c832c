//! `role:hold SPEC`: opens connections, sends a few bytes there and back on each, says how many stand, and keeps them
//! until it is ended.
//!
//! For what an idle connection costs a proxy; it measures nothing itself.

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// How many, to whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HoldSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    pub connections: usize,
}

pub(super) fn hold(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: HoldSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let mut held = Vec::with_capacity(spec.connections);
    for number in 0..spec.connections {
        let stream = open(spec.target)
            .map_err(|e| BenchError::io(format!("open connection {number} to {}", spec.target), e))?;
        held.push(stream);
    }
    writeln!(std::io::stdout(), "{HOLDING} {}", held.len())
        .map_err(|e| BenchError::io("say that all stand", e))?;
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn open(target: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"anybody?")?;
    stream.read_exact(&mut [0; 8])?;
    Ok(stream)
}

/// What it says when all connections stand.
pub(crate) const HOLDING: &str = "holding";
const LIMIT: Duration = Duration::from_secs(5);
