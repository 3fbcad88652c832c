//! What can go wrong while steering; one closed enum, each variant with what to do about it.

use std::{io, path::PathBuf};

use crate::Mechanism;

/// Why steering failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// A system call failed.
    #[error("{call} for {subject} failed")]
    Syscall {
        /// The call, for example `setns`.
        call: &'static str,
        /// What it was for.
        subject: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A connection reached an outbound listener without having been steered there: a pod dialled it directly.
    #[error("the connection was not steered: a pod dialled the listener directly")]
    NotSteered,
    /// This process may not do what it has to.
    #[error("not permitted to {what}: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Permission {
        /// What was tried.
        what: &'static str,
    },
    /// The binary was built without eBPF programs.
    #[error(
        "this binary was built without eBPF programs (CANOPY_SKIP_EBPF=1): build it without that variable, or use iptables"
    )]
    NoPrograms,
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 is mounted, where the connect hooks belong: mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with systemd.unified_cgroup_hierarchy=1)"
    )]
    NoCgroup2,
    /// What is mounted of cgroup v2 is a part of it, as a container has it.
    #[error(
        "of cgroup v2 a part is mounted alone ({path}), and the connect hooks belong at the root of the machine's: in a container, mount \
         the host's /sys/fs/cgroup (hostPath) over it, or give it the host's cgroup namespace"
    )]
    PartOfCgroup2 {
        /// Where a part is mounted.
        path: PathBuf,
    },
    /// There is no bpf file system to keep steering alive in, and none could be mounted.
    #[error(
        "no bpf file system at {path}, and it cannot be mounted: mount -t bpf bpf {path}, in a container mount the host's"
    )]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The name of an instance cannot be a directory of the bpf file system.
    #[error("{name:?} cannot name an instance: 1 to 64 of a-z, 0-9, - and _")]
    InstanceName {
        /// The name.
        name: String,
    },
    /// Another process steers under this name.
    #[error("another process steers as instance {name:?}: stop it, or choose another instance name")]
    InstanceInUse {
        /// The name.
        name: String,
    },
    /// The kernel does not take a hook.
    #[error(
        "the kernel refuses the hook {hook} (it needs Linux {minimum_kernel}): update the kernel, or use iptables\n{log}"
    )]
    Hook {
        /// The hook.
        hook: &'static str,
        /// The first kernel that has all it uses.
        minimum_kernel: &'static str,
        /// What the kernel, or its verifier, said.
        log: String,
    },
    /// The programs' object or its maps could not be set up.
    #[error(
        "the eBPF object {object} cannot be loaded: {why}; see `canopy check` for what the kernel lacks, or steer by iptables (--redirect iptables)"
    )]
    Object {
        /// Which.
        object: &'static str,
        /// What aya said, with its causes.
        why: String,
    },
    /// The descriptor is not a network namespace.
    #[error(
        "what {pod} names as its network namespace is none: give a path such as /run/netns/NAME or /proc/PID/ns/net"
    )]
    NotANetns {
        /// The pod.
        pod: String,
    },
    /// The network namespace is the proxy's own, or the host's.
    #[error(
        "{pod} is in the host's (or the proxy's own) network namespace: steering it would steer the host; leave host-network pods out"
    )]
    HostNetns {
        /// The pod.
        pod: String,
    },
    /// The network namespace is not the proxy's own, which alone a sidecar steers.
    #[error("{pod} is in another network namespace than this process: a sidecar steers its own pod alone")]
    NotOwnNetns {
        /// The pod.
        pod: String,
    },
    /// The pod cannot be fenced.
    #[error("{pod} cannot be fenced: {why}. With --fence auto it runs without")]
    NoFence {
        /// The pod.
        pod: String,
        /// What is in the way.
        why: String,
    },
    /// The network namespace is enrolled already.
    #[error("{pod} is in the network namespace of {by}, which is steered already: one pod per namespace")]
    AlreadyEnrolled {
        /// The pod that came second.
        pod: String,
        /// The pod that came first.
        by: String,
    },
    /// A listener cannot take connections.
    #[error("the {listener} listener of {pod} {why}")]
    Listener {
        /// The pod.
        pod: String,
        /// Which of the four.
        listener: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A program that iptables steering runs is not installed.
    #[error("{tool} is not installed, and steering by iptables needs it: install the package {package}")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// A program that iptables steering runs said no.
    #[error("in the network namespace of {pod}, `{command}` failed: {said}")]
    Tool {
        /// The pod.
        pod: String,
        /// What was run.
        command: String,
        /// Its standard error.
        said: String,
    },
    /// What was delegated to this process cannot be used.
    #[error("what the daemon delegated cannot be used: {why}")]
    Delegation {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A process that carries connections tried what is the daemon's alone.
    #[error("a process of a cell may not {what}: that is the daemon's to do")]
    NotDelegated {
        /// What was tried.
        what: &'static str,
    },
    /// The mechanism has nothing to delegate.
    #[error("steering by {mechanism} cannot be shared with another process: run its cells as threads")]
    CannotDelegate {
        /// Which.
        mechanism: Mechanism,
    },
    /// A table of the kernel is full.
    #[error("the kernel's table of {table} is full ({limit}): enrol fewer pods, or give them fewer {table}")]
    TableFull {
        /// Which.
        table: &'static str,
        /// How many it takes.
        limit: u32,
    },
}

impl RedirectError {
    /// A short constant for metrics and access logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syscall { .. } => "redirect_syscall",
            Self::NotSteered => "not_steered",
            Self::Permission { .. } => "redirect_permission",
            Self::NoPrograms => "redirect_no_programs",
            Self::NoCgroup2 => "redirect_no_cgroup2",
            Self::PartOfCgroup2 { .. } => "redirect_part_of_cgroup2",
            Self::NoBpffs { .. } => "redirect_no_bpffs",
            Self::InstanceName { .. } => "redirect_instance_name",
            Self::InstanceInUse { .. } => "redirect_instance_in_use",
            Self::Hook { .. } => "redirect_hook",
            Self::Object { .. } => "redirect_object",
            Self::NotANetns { .. } => "redirect_not_a_netns",
            Self::HostNetns { .. } => "redirect_host_netns",
            Self::NotOwnNetns { .. } => "redirect_not_own_netns",
            Self::NoFence { .. } => "redirect_no_fence",
            Self::AlreadyEnrolled { .. } => "redirect_already_enrolled",
            Self::Listener { .. } => "redirect_listener",
            Self::ToolMissing { .. } => "redirect_tool_missing",
            Self::Tool { .. } => "redirect_tool",
            Self::Delegation { .. } => "redirect_delegation",
            Self::NotDelegated { .. } => "redirect_not_delegated",
            Self::CannotDelegate { .. } => "redirect_cannot_delegate",
            Self::TableFull { .. } => "redirect_table_full",
        }
    }

    pub(crate) fn syscall(call: &'static str, subject: impl ToString, source: io::Error) -> Self {
        Self::Syscall { call, subject: subject.to_string(), source }
    }
}
