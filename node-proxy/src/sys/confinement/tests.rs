//! A process under its confinement: this program again, told what to do. Needs root; without it every test fails.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Command, Stdio},
    thread,
};

use ebpf_redirect::{
    Delegation, Redirect, Side,
    kernel::{KernelRedirect, Options},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{handoff::socket, sys::netns::Netns};

/// What the confined process is to do.
const DEED: &str = "CANOPY_TEST_CONFINED";
/// How it ends when it was refused.
const REFUSED: i32 = 77;
/// And when nothing stopped it.
const DONE: i32 = 78;

fn confined(deed: &str, stdin: Stdio) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sys::confinement::tests::the_process",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DEED, deed)
        .stdin(stdin)
        .output()
        .unwrap()
}

#[test]
fn a_confined_process_can_do_all_that_connections_need() {
    let instance = format!("confined-{}", std::process::id());
    let redirect = KernelRedirect::open(Options { instance, ..Options::default() }).unwrap();
    let delegation = redirect.delegate().unwrap();
    let map = delegation.descriptors()[0].try_clone_to_owned().unwrap();
    for deed in ["hooks", "marks"] {
        let output = confined(deed, Stdio::from(map.try_clone().unwrap()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(DONE), "{deed}: {:?} {said}", output.status);
    }
}

#[test]
fn what_no_connection_needs_is_refused_and_what_only_an_attacker_does_ends_the_process() {
    for deed in REFUSALS {
        let output = confined(deed, Stdio::null());
        assert_eq!(output.status.code(), Some(REFUSED), "{deed}: {:?}", output.status);
    }
    for deed in ENDS {
        let output = confined(deed, Stdio::null());
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{deed}: {:?}", output.status);
    }
}

#[test]
fn a_confined_process_that_panics_or_aborts_ends_as_any_other() {
    let output = confined("abort", Stdio::null());
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{:?}", output.status);
}

#[test]
fn capabilities_are_kept_for_what_needs_them_and_no_others() {
    assert_eq!(needed(Steered::Hooks), CapabilitySet::SYS_ADMIN | CapabilitySet::BPF);
    assert_eq!(needed(Steered::Marks), CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN);
}

const REFUSALS: [&str; 25] = [
    "open a file",
    "open its own memory",
    "make a file",
    "a netlink socket",
    "a raw socket",
    "a packet socket",
    "a unix socket",
    "a datagram socket",
    "another protocol",
    "a listener",
    "make a map",
    "another kind of namespace",
    "memory that runs",
    "make memory run",
    "more memory of the kernel",
    "a close that waits",
    "rules of the packet filter",
    "rules of the packet filter for IPv6",
    "a program on a socket",
    "memory that is broken",
    "memory that is taken away",
    "another process's signal",
    "a forked process",
    "dumps of itself",
    "read a device",
];

const ENDS: [&str; 8] = [
    "a program",
    "trace",
    "read another's memory",
    "take another's descriptor",
    "mount",
    "unshare",
    "kill another",
    "io_uring",
];

#[test]
#[ignore = "what the tests above run, each time in a process of its own"]
fn the_process() {
    let deed = std::env::var(DEED).unwrap();
    // Of who can more, so that it is the filter that refuses, and not the want of a capability.
    let steered = if deed == "hooks" { Steered::Hooks } else { Steered::Marks };
    let given: OwnedFd = io::stdin().as_fd().try_clone_to_owned().unwrap();
    // As a cell does: everything is there, and there are threads, before it is confined.
    drop_capabilities(steered).unwrap();
    let status = rustix::thread::capabilities(None).unwrap();
    assert_eq!(status.permitted, needed(steered));
    assert_eq!(status.effective, needed(steered));
    let home = Netns::current().unwrap();
    let pod = home.try_clone().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (wait, go) = std::sync::mpsc::channel::<()>();
    let sleeper = thread::spawn(move || {
        // It was there before, and is confined as well.
        let _ = go.recv();
        call(libc::SYS_openat, [libc::AT_FDCWD as libc::c_long, c"/dev/null".as_ptr() as libc::c_long, 0, 0])
    });
    let parent = rustix::process::getppid().unwrap().as_raw_pid().into();
    let redirect = match &*deed {
        // What the map is, is asked before.
        "hooks" => Some(Delegation::from_parts(&delegation(1), vec![given]).unwrap().redirect().unwrap()),
        "marks" => Some(Delegation::from_parts(&delegation(2), Vec::new()).unwrap().redirect().unwrap()),
        _ => None,
    };
    restrict_calls().unwrap();
    match (&*deed, redirect) {
        (_, Some(redirect)) => {
            work(&*redirect, (&home, &pod), &runtime, &listener);
            drop(wait);
            assert_eq!(sleeper.join().unwrap(), Err(libc::EPERM));
            quit(DONE)
        }
        ("abort", None) => std::process::abort(),
        (deed, None) => quit(if misdeed(deed, parent) == Err(libc::EPERM) { REFUSED } else { DONE }),
    }
}

/// Ends the process before the test runner does what a confined process cannot.
fn quit(code: i32) -> ! {
    call(libc::SYS_exit_group, [code.into(), 0, 0, 0]).unwrap();
    unreachable!()
}

/// As the daemon writes it.
fn delegation(mechanism: u8) -> Vec<u8> {
    [&ebpf_redirect::delegation::VERSION.to_le_bytes()[..], &[mechanism]].concat()
}

/// Everything that carries a connection.
fn work(
    redirect: &dyn Redirect,
    (home, pod): (&Netns, &Netns),
    runtime: &tokio::runtime::Runtime,
    listener: &TcpListener,
) {
    let at = listener.local_addr().unwrap();
    let make = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        Ok(socket)
    };
    // Into another namespace and back, though it is the same: by descriptor.
    rustix::thread::move_into_link_name_space(pod.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
        .unwrap();
    let socket = pod.run(home, make).unwrap();
    crate::sys::socket::prepare(&socket, std::time::Duration::from_secs(1)).unwrap();
    redirect.exempt(socket.as_fd(), Some("127.0.0.1:7".parse().unwrap())).unwrap();
    socket.connect(&at.into()).unwrap();
    let mut client = TcpStream::from(socket);
    let (mut server, peer) = listener.accept().unwrap();
    // Nobody steered it; that the map was asked is what counts.
    drop(redirect.origin(server.as_fd(), Side::Outbound, peer));
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::pipe::fcntl_setpipe_size(&write, 1 << 16).unwrap();
    client.write_all(b"spliced").unwrap();
    rustix::pipe::splice(&server, None, &write, None, 7, rustix::pipe::SpliceFlags::empty()).unwrap();
    File::from(read).read_exact(&mut [0; 7]).unwrap();
    thread::Builder::new()
        .name("late".to_owned())
        .spawn(|| vec![1_u8; 1 << 22].len())
        .unwrap()
        .join()
        .unwrap();
    crate::sys::socket::reset(&client);
    runtime.block_on(async {
        let (mut near, mut far) = socket::pair().unwrap();
        far.accept().unwrap();
        near.answered().await.unwrap();
        near.write_all(&[1; 100_000][..1000]).await.unwrap();
        far.read_exact(&mut [0; 1000]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    });
    // A key, and a signature with it.
    crate::identity::authority::Request::new(&"spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap())
        .unwrap();
}

fn misdeed(deed: &str, parent: libc::c_long) -> Result<libc::c_long, i32> {
    let null = 0;
    let path = |path: &'static std::ffi::CStr| path.as_ptr() as libc::c_long;
    let (inet, stream, cwd) =
        (libc::AF_INET as libc::c_long, libc::SOCK_STREAM as libc::c_long, libc::AT_FDCWD as libc::c_long);
    let open = |file, flags: i32| call(libc::SYS_openat, [cwd, path(file), flags.into(), 0o600]);
    let socket = |family: i32, kind: i32| call(libc::SYS_socket, [family.into(), kind.into(), 0, 0]);
    let option = |level: i32, name: i32| {
        let socket = call(libc::SYS_socket, [inet, stream, 0, 0])?;
        let value = &raw const MUCH as libc::c_long;
        let length = size_of_val(&MUCH) as libc::c_long;
        six(libc::SYS_setsockopt, [socket, level.into(), name.into(), value, length, 0])
    };
    match deed {
        "open a file" => open(c"/etc/hostname", libc::O_RDONLY),
        "open its own memory" => open(c"/proc/self/mem", libc::O_RDWR),
        "make a file" => open(c"/tmp/canopy-confined", libc::O_CREAT | libc::O_WRONLY),
        "read a device" => open(c"/dev/mem", libc::O_RDONLY),
        "a netlink socket" => socket(libc::AF_NETLINK, libc::SOCK_RAW),
        "a raw socket" => socket(libc::AF_INET, libc::SOCK_RAW),
        "a packet socket" => socket(libc::AF_PACKET, libc::SOCK_RAW),
        "a unix socket" => socket(libc::AF_UNIX, libc::SOCK_STREAM),
        "a datagram socket" => socket(libc::AF_INET, libc::SOCK_DGRAM),
        "another protocol" => call(libc::SYS_socket, [inet, stream, libc::IPPROTO_MPTCP.into(), 0]),
        "a listener" => call(libc::SYS_socket, [inet, stream, 0, 0])
            .and_then(|socket| call(libc::SYS_listen, [socket, 1, 0, 0])),
        "make a map" => call(libc::SYS_bpf, [0, null, 0, 0]),
        "another kind of namespace" => call(libc::SYS_setns, [0, libc::CLONE_NEWNS.into(), 0, 0]),
        "memory that runs" => {
            // Refused before the address is looked at, or it would be a page.
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let run = libc::PROT_READ | libc::PROT_EXEC;
            six(libc::SYS_mmap, [0, 4096, run.into(), flags.into(), -1, 0])
        }
        "make memory run" => call(libc::SYS_mprotect, [0, 0, libc::PROT_EXEC.into(), 0]),
        "more memory of the kernel" => option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
        "a close that waits" => option(libc::SOL_SOCKET, libc::SO_LINGER),
        // IPT_SO_SET_REPLACE, IP6T_SO_SET_REPLACE: without the filter they fail otherwise, for want of rules.
        "rules of the packet filter" => option(libc::IPPROTO_IP, 64),
        "rules of the packet filter for IPv6" => option(libc::IPPROTO_IPV6, 64),
        "a program on a socket" => option(libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
        // An address that is none: without the filter it fails otherwise, and takes nothing from the machine.
        "memory that is broken" => call(libc::SYS_madvise, [0, 4096, libc::MADV_HWPOISON.into(), 0]),
        "memory that is taken away" => call(libc::SYS_madvise, [0, 4096, libc::MADV_SOFT_OFFLINE.into(), 0]),
        "another process's signal" => call(libc::SYS_tgkill, [parent, parent, 0, 0]),
        "a forked process" => call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]),
        "dumps of itself" => call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]),
        "a program" => call(libc::SYS_execve, [path(c"/bin/true"), 0, 0, 0]),
        "trace" => call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as libc::c_long, parent, 0, 0]),
        "read another's memory" => call(libc::SYS_process_vm_readv, [parent, 0, 0, 0]),
        "take another's descriptor" => call(libc::SYS_pidfd_getfd, [0, 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [0, 0, 0, 0]),
        "unshare" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        "kill another" => call(libc::SYS_kill, [parent, 0, 0, 0]),
        "io_uring" => call(libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        other => panic!("nobody has heard of {other}"),
    }
}

static MUCH: [i32; 2] = [1 << 20; 2];

fn call(number: libc::c_long, [a, b, c, d]: [libc::c_long; 4]) -> Result<libc::c_long, i32> {
    six(number, [a, b, c, d, 0, 0])
}

#[expect(unsafe_code, reason = "what is tried is no part of any library")]
fn six(number: libc::c_long, [a, b, c, d, e, f]: [libc::c_long; 6]) -> Result<libc::c_long, i32> {
    // SAFETY: where the call is not refused, as it should be, it reads what is given, which is valid, or fails.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or_default()) }
}
