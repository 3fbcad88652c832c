//! The programs that the build made, and the loading of their objects onto the instance's shared maps.

use std::os::fd::AsFd as _;

use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs::ProgramError};
use ebpf_redirect_abi::Hook;

use super::{fence, hooks, instance::Instance};
use crate::RedirectError;

static FENCE: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/fence.bpf.o"));
static HOOKS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hooks.bpf.o"));
static LOOKUP: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lookup.bpf.o"));

/// Maps that exist once per instance; the pods' own are not among them.
const SHARED: [&str; 12] = [
    "COUNTERS", "FLOWS", "GATED", "GATES", "NETWORKS", "PODS", "PORTS", "RATES", "SOCKETS", "TENANTS",
    "TRACE", "WATCHED",
];

/// As above; of the fence alone.
pub(super) const FENCE_MAPS: [&str; 6] =
    ["DENIALS", "DENIED_PORTS", "DOORS", "EARLIER", "FENCES", "FENCE_COUNTS"];

/// An object file of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// Both sides of a pod's link.
    Fence,
    /// The hooks on the cgroup root.
    Hooks,
    /// The choice of a listener in a pod.
    Lookup,
}

impl Object {
    fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Hooks => "hooks",
            Self::Lookup => "lookup",
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Fence => FENCE,
            Self::Hooks => HOOKS,
            Self::Lookup => LOOKUP,
        }
    }
}

/// Loads objects. Kept, because a new aya loader parses the kernel's own type information, which takes
/// milliseconds and megabytes, and these programs need none of it.
pub(crate) struct Loader(EbpfLoader<'static>);

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loader")
    }
}

impl Loader {
    /// A loader whose objects share the instance's maps, or, without one, share nothing and leave no pin.
    pub(crate) fn new(instance: Option<&Instance>) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        if let Some(instance) = instance {
            for name in SHARED.into_iter().chain(FENCE_MAPS) {
                loader.map_pin_path(name, instance.map(name));
            }
        }
        Self(loader)
    }

    /// Makes the object's maps; its programs are not yet in the kernel.
    pub(crate) fn load(&mut self, object: Object) -> Result<Ebpf, RedirectError> {
        with_programs(object)?;
        self.0.load(object.bytes()).map_err(|error| {
            let why = chain(&error);
            if why.contains("Operation not permitted") {
                return RedirectError::Permission { what: "load eBPF programs" };
            }
            RedirectError::Object { object: object.name(), why }
        })
    }
}

/// Fails where the build was told to leave the programs out.
fn with_programs(object: Object) -> Result<(), RedirectError> {
    if object.bytes().is_empty() { Err(RedirectError::NoPrograms) } else { Ok(()) }
}

/// Whether the build has the programs.
pub(crate) fn built() -> Result<(), RedirectError> {
    with_programs(Object::Hooks)
}

/// Gives programs to the verifier, and nothing more.
pub(crate) struct Probe {
    loader: Loader,
    hooks: Option<Ebpf>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self { loader: Loader::new(None), hooks: None }
    }

    /// Whether the kernel takes a hook's program.
    pub(crate) fn try_hook(&mut self, hook: Hook) -> Result<(), RedirectError> {
        match program_names(hook).0 {
            Object::Lookup => hooks::load(&mut self.loader.load(Object::Lookup)?, hook),
            Object::Fence => {
                let mut ebpf = self.loader.load(Object::Fence)?;
                hooks::load(&mut ebpf, hook)?;
                let fd = hooks::program(&mut ebpf, hook)?.fd().map_err(|error| load_error(hook, &error))?;
                fence::probe(fd.as_fd())
            }
            Object::Hooks => {
                let ebpf = match &mut self.hooks {
                    Some(ebpf) => ebpf,
                    none => none.insert(self.loader.load(Object::Hooks)?),
                };
                hooks::load(ebpf, hook)
            }
        }
    }
}

/// The name of a hook's program in its object.
pub(crate) fn program_names(hook: Hook) -> (Object, &'static str) {
    match hook {
        Hook::SkLookup => (Object::Lookup, "choose_listener"),
        Hook::FenceSend | Hook::FenceReceive => (Object::Fence, hook.name()),
        _ => (Object::Hooks, hook.name()),
    }
}

/// The first kernel that has all a hook uses.
pub(crate) fn minimum_kernel(hook: Hook) -> &'static str {
    match hook {
        Hook::Connect4 | Hook::Connect6 => "5.8",
        Hook::GetPeerName4 | Hook::GetPeerName6 | Hook::GetSockName4 | Hook::GetSockName6 => "5.8",
        Hook::SockOps => "5.15",
        Hook::SkLookup => "5.9",
        Hook::FenceSend | Hook::FenceReceive => "6.6",
    }
}

/// What to say of a program that the kernel did not take.
pub(crate) fn load_error(hook: Hook, error: &ProgramError) -> RedirectError {
    let log = match error {
        ProgramError::LoadError { io_error, verifier_log } => format!("{io_error}\n{verifier_log}"),
        other => chain(other),
    };
    RedirectError::Hook { hook: hook.name(), minimum_kernel: minimum_kernel(hook), log }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    #[test]
    fn a_program_that_the_verifier_refuses_is_named_with_all_that_the_verifier_said() {
        let log = "0: R1=ctx(off=0,imm=0)\nR2 invalid mem access 'inv'\nprocessed 2 insns (limit 1000000)";
        let error = ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: VerifierLog::new(log.to_owned()),
        };
        let error = load_error(Hook::SkLookup, &error);
        assert!(matches!(error, RedirectError::Hook { hook: "sk_lookup", minimum_kernel: "5.9", .. }));
        let said = error.to_string();
        for part in ["sk_lookup", "Linux 5.9", "Permission denied", log] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }

    #[test]
    fn the_kernels_that_the_readme_names_are_what_the_hooks_need() {
        let version = |hook: &Hook| {
            let (major, minor) = minimum_kernel(*hook).split_once('.').unwrap();
            (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap())
        };
        let fences = [Hook::FenceSend, Hook::FenceReceive];
        let steering = Hook::ALL.iter().filter(|hook| !fences.contains(hook)).map(version).max().unwrap();
        let fence = fences.iter().map(version).max().unwrap();
        let said = format!("Linux {}.{}, the fence {}.{};", steering.0, steering.1, fence.0, fence.1);
        assert!(include_str!("../../../README.md").contains(&said), "{said}");
    }

    #[test]
    fn what_else_is_in_the_way_of_a_program_is_said_with_its_causes() {
        let error = ProgramError::IOError(io::Error::from_raw_os_error(libc::ENOMEM));
        let said = load_error(Hook::Connect4, &error).to_string();
        assert!(said.contains("connect4") && said.contains("Cannot allocate memory"), "{said}");
    }
}
