//! What a process may do that carries connections for one tenant: no capability that no connection needs, and no system call.
//!
//! Whoever has taken such a process over has what its tenant has, and no way to anybody else. Both steps are for good. They come
//! after everything was opened: a confined process opens no file.

use std::{collections::BTreeMap, io};

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::netns;

mod calls;

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfinementError {
    /// Capabilities stay that should not.
    #[error("capabilities cannot be given up")]
    Capabilities(#[source] io::Error),
    /// It would see the node's network.
    #[error("no network namespace of its own can be made (sysctl user.max_net_namespaces?)")]
    Network(#[source] io::Error),
    /// There is no filter for this machine, or the kernel does not take it.
    #[error("system calls cannot be restricted: the kernel needs seccomp filters (CONFIG_SECCOMP_FILTER)")]
    Calls(#[source] seccompiler::Error),
}

/// What connections need of the kernel, by how pods are steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// By eBPF hooks.
    Hooks,
    /// By iptables: sockets are marked, and speak as their clients.
    Marks,
}

/// Leaves the node's network for one in which there is nothing: every socket of a cell is made in a pod's.
///
/// Of the calling thread, as [`drop_capabilities`], and before that.
pub fn leave_network() -> Result<(), ConfinementError> {
    netns::leave().map_err(ConfinementError::Network)
}

/// Gives up every capability but those that connections need, also for what is executed later.
///
/// Of the calling thread, and of those that it starts from then on: to be called before there are others.
pub fn drop_capabilities(steered: Steered) -> Result<(), ConfinementError> {
    let kept = needed(steered);
    set_no_new_privs(true).map_err(capabilities)?;
    clear_ambient_capability_set().map_err(capabilities)?;
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know; or who may not shrink the set, which counts for programs that are executed
            // only: none ever is.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(capabilities(errno)),
        }
    }
    // As far as they are there: a daemon that was not given one cannot give it on.
    let had = rustix::thread::capabilities(None).map_err(capabilities)?.permitted;
    let kept = kept & had;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(capabilities)
}

/// Which, each with why.
fn needed(steered: Steered) -> CapabilitySet {
    // To make a socket in a pod's network namespace: `setns` asks for it. What else it would allow is no call of those below.
    let netns = CapabilitySet::SYS_ADMIN;
    match steered {
        // Notes on sockets are read and written through the map's descriptor, for which kernels before 5.19 ask for it where
        // they are set up to (`kernel.unprivileged_bpf_disabled`).
        Steered::Hooks => netns | CapabilitySet::BPF,
        // SO_MARK, IP_TRANSPARENT.
        Steered::Marks => netns | CapabilitySet::NET_ADMIN,
    }
}

/// Restricts the system calls of all threads of the process, for ever, to those of a cell. What is refused fails with EPERM; what
/// only an attacker calls ends the process (SIGSYS).
pub fn restrict_calls() -> Result<(), ConfinementError> {
    let eperm = SeccompAction::Errno(libc::EPERM as u32);
    let enosys = SeccompAction::Errno(libc::ENOSYS as u32);
    // The last one leaves no way to add another. Of what they say of a call, the most severe counts.
    let filters = [
        filter(calls::hostile(), SeccompAction::Allow, SeccompAction::KillProcess),
        filter(calls::absent(), SeccompAction::Allow, enosys),
        filter(calls::allowed(), eperm, SeccompAction::Allow),
    ];
    for filter in filters {
        apply_filter_all_threads(&filter?).map_err(ConfinementError::Calls)?;
    }
    Ok(())
}

/// System calls, each with the rules of which one has to match; without any, it always does.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(
    rules: Result<Rules, seccompiler::BackendError>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, ConfinementError> {
    let program = || {
        let machine = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules?, others, these, machine)?.try_into()
    };
    program().map_err(|error: seccompiler::BackendError| ConfinementError::Calls(error.into()))
}

fn capabilities(errno: Errno) -> ConfinementError {
    ConfinementError::Capabilities(errno.into())
}

#[cfg(test)]
mod tests;
