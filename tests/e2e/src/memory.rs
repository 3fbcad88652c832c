//! A daemon's memory by the kernel's account. Never by its own.

use std::{fs, io};

use testkit::Daemon;

/// What is resident now, in bytes.
///
/// # Errors
/// The daemon has ended, or the kernel does not say.
pub fn resident(daemon: &Daemon) -> io::Result<u64> {
    said(daemon, "VmRSS:")
}

/// The most that was resident since [`forget_peak`], in bytes.
///
/// # Errors
/// As [`resident`].
pub fn peak(daemon: &Daemon) -> io::Result<u64> {
    said(daemon, "VmHWM:")
}

/// From now on, [`peak`] begins at what is resident; which is what this gives.
///
/// # Errors
/// As [`resident`].
pub fn forget_peak(daemon: &Daemon) -> io::Result<u64> {
    // proc(5): 5 resets the peak.
    fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5")?;
    peak(daemon)
}

fn said(daemon: &Daemon, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other(format!("the kernel says no {name}")))? << 10)
}
