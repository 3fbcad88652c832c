//! A cell in a process of its own (isolation class *process*): the daemon's side of it, and its own.
//!
//! To the supervisor it is a lane like any other: it takes the same messages, beats the same ledger, ends with the same words. Behind
//! it is a thread, the *warden*, that passes messages on as [frames](super::wire) and the process's counts back. The process is this
//! same binary (`canopy cell`); in it the same lane runs. It must never be believed: it may be anything by now.

use std::{io, os::fd::OwnedFd, sync::Arc, thread};

use config::name::TenantId;

use super::lane::{Apart, Clock, Lane, LaneParts};
use crate::{
    handoff::{
        Inbox,
        courier::{self, Courier},
    },
    telemetry::access::Writer,
};

pub use self::boundary::{CellError, serve};

mod bill;
mod boundary;
mod cells;
mod child;
#[cfg(debug_assertions)]
mod faults;
mod finding;
mod group;
mod lines;
mod page;
mod questions;
mod rows;
mod warden;
mod words;

/// What passes messages on, and nothing else.
const STACK_BYTES: usize = 512 * 1024;

/// What a cell's process is given besides messages, and the daemon's end of it.
#[derive(Debug)]
pub(super) struct Ways {
    /// By which handoffs come out of it, and into it.
    letters: Arc<OwnedFd>,
    /// Its end of that.
    its_letters: OwnedFd,
    /// Its end of the way to the access log, if there is one.
    its_log: Option<OwnedFd>,
}

impl Ways {
    /// For a tenant's cell, with the inbox that leads there.
    pub(super) fn open(tenant: &TenantId, access_log: &Writer) -> io::Result<(Inbox, Self)> {
        let (letters, its_letters) = courier::socket()?;
        let (letters, its_log) = (Arc::new(letters), access_log.for_process(tenant)?);
        let inbox = Inbox::elsewhere(Courier::to_a_cell(Arc::clone(&letters)));
        Ok((inbox, Self { letters, its_letters, its_log }))
    }
}

/// Removes the control groups of processes whose daemon was killed. At the start, before there is a process.
pub(super) fn clear() {
    group::sweep_all();
}

/// Starts a lane whose cell is a process. Returns at once: whether the process could be started, its end tells.
pub(super) fn start(parts: LaneParts) -> io::Result<Lane> {
    let process = Apart::default();
    let warden = warden::Warden(process.clone());
    let builder = thread::Builder::new().name("warden".to_owned()).stack_size(STACK_BYTES);
    let clock = Arc::new(Clock::default());
    let begins = Arc::clone(&clock);
    let thread = builder.spawn(move || {
        let _running = begins.begins();
        warden.run(parts)
    })?;
    Ok(Lane { thread, id: Arc::default(), clock, process: Some(process) })
}
