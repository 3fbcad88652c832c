//! The system calls of a cell, and those that end whoever makes them. Found by running cells under the filter.
//!
//! A call belongs here only if the path of a connection, an event loop, the allocator or a thread's life needs it. No call may take a
//! path, start a program, or name another process.

use seccompiler::{
    BackendError, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq,
    SeccompCondition, SeccompRule,
};

use super::Rules;
use crate::sys::packets::SO_PASSRIGHTS;

/// What a cell may call.
pub(super) fn allowed() -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    rules.extend(ALWAYS.iter().chain(OF_THIS_MACHINE).map(|call| (*call, Vec::new())));
    // Answered by the filter for what is absent; to refuse it here would say something else.
    rules.extend(absent()?);
    let mut only = |call: libc::c_long, any: Vec<Vec<SeccompCondition>>| {
        let any = any.into_iter().map(SeccompRule::new).collect::<Result<_, _>>();
        any.map(|any: Vec<SeccompRule>| drop(rules.insert(call, any)))
    };
    // TCP, and nothing that could speak with the kernel (netlink), the wire (packet, raw), or other programs.
    let stream = || is(1, MaskedEq(SOCK_TYPE_MASK), libc::SOCK_STREAM);
    let kinds = [(libc::AF_INET, 0), (libc::AF_INET6, 0), (libc::AF_INET, TCP), (libc::AF_INET6, TCP)];
    let kind = |(family, protocol)| Ok(vec![is(0, Eq, family)?, stream()?, is(2, Eq, protocol)?]);
    only(libc::SYS_socket, each(kinds, kind)?)?;
    only(libc::SYS_socketpair, vec![vec![is(0, Eq, libc::AF_UNIX)?]])?;
    let option = |(level, name)| Ok(vec![is(1, Eq, level)?, is(2, Eq, name)?]);
    only(libc::SYS_setsockopt, each(OPTIONS, option)?)?;
    // Into the network namespaces whose descriptors it was given.
    only(libc::SYS_setns, vec![vec![is(1, Eq, libc::CLONE_NEWNET)?]])?;
    // Rows of the map that it was given.
    let rows = [BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM];
    only(libc::SYS_bpf, each(rows, |command| Ok(vec![is(0, Eq, command)?]))?)?;
    // Memory, and never code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        only(call, vec![vec![is(2, MaskedEq(libc::PROT_EXEC as u64), 0)?]])?;
    }
    only(libc::SYS_madvise, each(ADVICE, |advice| Ok(vec![is(2, Eq, advice)?]))?)?;
    // A thread of this process, and no other process.
    let thread = libc::CLONE_THREAD;
    only(libc::SYS_clone, vec![vec![is(0, MaskedEq(thread as u64), thread)?]])?;
    // To abort is to send oneself a signal.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    only(libc::SYS_tgkill, vec![vec![is(0, Eq, own)?]])?;
    only(libc::SYS_fcntl, each(FCNTL, |command| Ok(vec![is(1, Eq, command)?]))?)?;
    only(libc::SYS_ioctl, each(IOCTL, |request| Ok(vec![is(1, Eq, request)?]))?)?;
    only(libc::SYS_prctl, vec![vec![is(0, Eq, libc::PR_SET_NAME)?]])?;
    Ok(rules)
}

/// What ends the process that calls it.
pub(super) fn hostile() -> Result<Rules, BackendError> {
    Ok(HOSTILE.iter().chain(HOSTILE_HERE).map(|call| (*call, Vec::new())).collect())
}

/// What is answered as by a kernel that does not have it: the C library then does it in another way. Its arguments are in memory,
/// where a filter cannot look.
pub(super) fn absent() -> Result<Rules, BackendError> {
    Ok([(libc::SYS_clone3, Vec::new())].into())
}

fn is(argument: u8, operation: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, operation, u64::from(value.cast_unsigned()))
}

fn each<T: Copy, const N: usize>(
    values: [T; N],
    rule: impl Fn(T) -> Result<Vec<SeccompCondition>, BackendError>,
) -> Result<Vec<Vec<SeccompCondition>>, BackendError> {
    values.into_iter().map(rule).collect()
}

/// linux/net.h: the rest of the word are flags.
const SOCK_TYPE_MASK: u64 = 0xf;
const TCP: i32 = libc::IPPROTO_TCP;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;

/// Levels and options of sockets that a cell sets; listeners come with theirs. What is told of an option is in memory, where a
/// filter cannot look, so that each is harmless whatever is said. Not SO_LINGER: whoever closes the last descriptor of such a socket
/// waits, and that may be who was sent it. Nor those that are no socket's, such as IPT_SO_SET_REPLACE.
const OPTIONS: [(i32, i32); 11] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, SO_PASSRIGHTS),
    (TCP, libc::TCP_KEEPIDLE),
    (TCP, libc::TCP_KEEPINTVL),
    (TCP, libc::TCP_NODELAY),
    (TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
];

/// Of the allocator, of the stacks of threads, and of who makes keys and is not to make the same after a fork. Not those that take
/// memory from the machine (MADV_HWPOISON, MADV_SOFT_OFFLINE).
const ADVICE: [i32; 9] = [
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_WIPEONFORK,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
];
/// asm-generic/mman-common.h: how newer C libraries guard stacks.
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;

/// Descriptors, the size of a pipe, and whether memory that was given is sealed.
const FCNTL: [i32; 8] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
    libc::F_GET_SEALS,
];
const IOCTL: [i32; 3] = [libc::FIONBIO as i32, libc::FIONREAD as i32, libc::FIOCLEX as i32];

const ALWAYS: &[libc::c_long] = &[
    // Connections.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    // Bytes, through descriptors that are open.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_splice,
    libc::SYS_write,
    libc::SYS_writev,
    // Facts of a descriptor. A path's could be asked for as well: whether there is one, not what is in it.
    libc::SYS_newfstatat,
    libc::SYS_statx,
    // The event loop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, and their ends.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Time and chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
];

/// Those that newer machines do without.
#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_MACHINE: &[libc::c_long] = &[];

const HOSTILE: &[libc::c_long] = &[
    // Another program.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes: their memory, their descriptors, their end.
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_tkill,
    // Another view of the machine.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // The machine itself.
    libc::SYS_adjtimex,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_swapon,
    libc::SYS_syslog,
    // More than it was given.
    libc::SYS_capset,
    libc::SYS_setgid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setuid,
    // What has been the way into kernels.
    libc::SYS_add_key,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
];

#[cfg(target_arch = "x86_64")]
const HOSTILE_HERE: &[libc::c_long] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const HOSTILE_HERE: &[libc::c_long] = &[];
