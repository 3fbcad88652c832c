//! The lookup program of one pod: a copy of its own, because the kernel does not tell such a program which
//! network namespace it runs in.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    programs::{Program, ProgramError, SkLookup},
};
use ebpf_redirect_abi::Hook;

use super::{
    hooks,
    instance::{LinkFailure, place_link},
    listeners::ListenerSlots,
    object::{chain, load_error},
    state::State,
};
use crate::{RedirectError, sys::bpf::Table};

/// A loaded program with the pod's own maps, not yet attached.
pub(crate) struct Lookup {
    ebpf: Ebpf,
    pub(crate) slots: ListenerSlots,
}

impl Lookup {
    /// Loads a copy for a network namespace.
    pub(crate) fn load(state: &State, netns: u64) -> Result<Self, RedirectError> {
        let mut ebpf = state.load_lookup()?;
        let identity: Table<u32, u64> = Table::new(own_map(&ebpf, "IDENTITY")?);
        let written = identity.set(&0, &netns);
        written.map_err(|error| RedirectError::syscall("write", "a lookup program's identity", error))?;
        let slots = ListenerSlots::new(Table::new(own_map(&ebpf, "LISTENERS")?));
        hooks::load(&mut ebpf, Hook::SkLookup)?;
        Ok(Self { ebpf, slots })
    }

    /// Puts it in charge, in the place of the one that a dead process left, or first. The pin keeps it.
    pub(crate) fn attach(
        mut self,
        state: &State,
        netns: u64,
        namespace: BorrowedFd<'_>,
    ) -> Result<ListenerSlots, RedirectError> {
        let Program::SkLookup(program) = hooks::program(&mut self.ebpf, Hook::SkLookup)? else {
            return Err(load_error(Hook::SkLookup, &ProgramError::UnexpectedProgramType));
        };
        let fd = program
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(|error| load_error(Hook::SkLookup, &error))?;
        let placed = place_link(&state.instance.pod(netns), fd.as_fd(), || link(program, namespace));
        placed.map_err(|failure| match failure {
            LinkFailure::Attach(error) => load_error(Hook::SkLookup, &error),
            LinkFailure::Pin(error) => RedirectError::Object { object: "lookup", why: chain(&error) },
        })?;
        Ok(self.slots)
    }
}

fn link(
    program: &mut SkLookup,
    namespace: BorrowedFd<'_>,
) -> Result<aya::programs::links::FdLink, ProgramError> {
    let id = program.attach(namespace)?;
    Ok(program.take_link(id)?.into())
}

/// The descriptor of a map that belongs to this copy alone.
fn own_map(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, RedirectError> {
    let missing = || RedirectError::Object { object: "lookup", why: format!("it has no map {name}") };
    let data = match ebpf.map(name).ok_or_else(missing)? {
        aya::maps::Map::Array(data) | aya::maps::Map::SockMap(data) => data,
        _ => return Err(missing()),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|error| RedirectError::syscall("dup", name, error))
}
