//! `role:knock SPEC`: dials at a steady rate whoever is going to refuse it, and says what that took its own CPU.
//!
//! On this kind of link the dialler's CPU does the receiving kernel's work, too. A socket that is neither answered nor refused is given
//! up before it would ask again; it never measures a connection that was let in.

use std::{collections::VecDeque, ffi::OsString, io::Write, net::SocketAddr, thread, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt::set_socket_linger};
use serde::{Deserialize, Serialize};

use crate::{clock, error::BenchError};

/// Whom, how often, how fast.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnockSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    pub knocks: u64,
    pub per_second: u64,
}

/// What it took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Knocked {
    /// Of all knocks, with making and closing the sockets.
    pub cpu_ns: u64,
    pub wall_ns: u64,
}

pub(super) fn knock(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: KnockSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let text = serde_json::to_string(&knocks(&spec).map_err(|e| BenchError::io("knock", e))?)?;
    writeln!(std::io::stdout(), "{text}").map_err(|e| BenchError::io("write what it took", e))
}

fn knocks(spec: &KnockSpec) -> std::io::Result<Knocked> {
    let held_at_most = usize::try_from(spec.per_second / HELD_PARTS).unwrap_or(1).max(1);
    let mut held = VecDeque::with_capacity(held_at_most + 1);
    let (begun, used) = (clock::now(), clock::own_cpu());
    for number in 0..spec.knocks {
        let due = begun + number * 1_000_000_000 / spec.per_second;
        if let Some(early) = due.checked_sub(clock::now()) {
            thread::sleep(Duration::from_nanos(early));
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // Leaves nothing behind in TIME_WAIT, so that ports do not run out.
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        // It is under way when this returns; how it ends is the other side's to count.
        let _under_way = connect(&socket, &spec.target);
        held.push_back(socket);
        if held.len() > held_at_most {
            held.pop_front();
        }
    }
    thread::sleep(Duration::from_secs(1) / HELD_PARTS as u32);
    drop(held);
    Ok(Knocked { cpu_ns: clock::own_cpu() - used, wall_ns: clock::now() - begun })
}

/// A socket is held for a twentieth of a second: a refusal takes less, and asking again is a second later (RFC 6298, section 2).
const HELD_PARTS: u64 = 20;
