//! The hooks on the cgroup v2 root: loaded, attached and pinned, or put in the place of a dead process's.

use std::{fs::File, io, os::fd::AsFd as _};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, Program, ProgramError, links::FdLink},
};
use ebpf_redirect_abi::Hook;

use super::{
    instance::{Instance, LinkFailure, place_link},
    object::{chain, load_error, program_names},
};
use crate::RedirectError;

/// The order matters on the first start: what remembers and reports comes before what rewrites.
const ORDER: [Hook; 7] = [
    Hook::GetPeerName4,
    Hook::GetPeerName6,
    Hook::GetSockName4,
    Hook::GetSockName6,
    Hook::SockOps,
    Hook::Connect4,
    Hook::Connect6,
];

/// Attaches all, or none: a failure leaves what is pinned to the instance's drop.
pub(crate) fn attach(ebpf: &mut Ebpf, instance: &Instance, cgroup: &File) -> Result<(), RedirectError> {
    for hook in ORDER {
        load(ebpf, hook)?;
    }
    for hook in ORDER {
        let program = program(ebpf, hook)?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| load_error(hook, &error))?;
        place_link(&instance.link(hook.name()), fd.as_fd(), || link(program, cgroup)).map_err(|failure| {
            match failure {
                LinkFailure::Attach(error) => load_error(hook, &error),
                LinkFailure::Pin(error) => RedirectError::Object { object: hook.name(), why: chain(&error) },
            }
        })?;
    }
    Ok(())
}

/// Gives one program to the kernel and its verifier.
pub(crate) fn load(ebpf: &mut Ebpf, hook: Hook) -> Result<(), RedirectError> {
    let program = program(ebpf, hook)?;
    let mut loaded = try_load(program);
    for _ in 0..INTERRUPTIONS {
        if !loaded.as_ref().is_err_and(was_interrupted) {
            break;
        }
        loaded = try_load(program);
    }
    loaded.map_err(|error| load_error(hook, &error))
}

fn try_load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Whether the verifier gave up because a signal came to this thread (EAGAIN): that says nothing of the kernel, and steering must not
/// fall back to another mechanism for it.
fn was_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::WouldBlock)
}

/// The program of a hook.
pub(crate) fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut Program, RedirectError> {
    let (_, name) = program_names(hook);
    ebpf.program_mut(name).ok_or_else(|| RedirectError::Object {
        object: hook.name(),
        why: format!("it has no program {name}"),
    })
}

/// `Single` is not exclusive: links always stack, and aya's `AllowMultiple` makes `bpf_link_create` fail (aya #1078).
fn link(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            program.take_link(id)?.try_into().map_err(|_| ProgramError::NotAttached)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            program.take_link(id)?.try_into().map_err(|_| ProgramError::NotAttached)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// How often a load is tried again; libbpf does as often.
const INTERRUPTIONS: u32 = 5;

#[cfg(test)]
mod tests {
    use aya_obj::VerifierLog;

    use super::*;

    #[test]
    fn only_a_load_that_a_signal_interrupted_is_tried_again() {
        let refused = |errno| ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(errno),
            verifier_log: VerifierLog::new(String::new()),
        };
        assert!(was_interrupted(&refused(libc::EAGAIN)));
        assert!(!was_interrupted(&refused(libc::EACCES)) && !was_interrupted(&ProgramError::NotLoaded));
    }
}
