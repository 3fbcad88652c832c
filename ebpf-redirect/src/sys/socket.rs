//! Socket options.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// The cookie of the network namespace that the socket is in. Minimum kernel: 5.14.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    option(socket, SO_NETNS_COOKIE)
}

/// Whether the socket listens.
pub(crate) fn listens(socket: BorrowedFd<'_>) -> io::Result<bool> {
    option::<libc::c_int>(socket, libc::SO_ACCEPTCONN).map(|value| value != 0)
}

/// Lets a socket bind to an IPv6 address that is not this namespace's. Needs CAP_NET_ADMIN.
pub(crate) fn set_transparent_v6(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_flag(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT)
}

/// Leaves the choice of a port to `connect`, although an address is bound. Minimum kernel: 4.2; both families.
pub(crate) fn set_bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_flag(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

fn set_flag(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: the kernel reads the size that is given from a value of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`; the types in use are plain integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != size_of::<T>() {
        return Err(io::Error::other("the kernel answered with another size"));
    }
    // SAFETY: written by the kernel in full.
    Ok(unsafe { value.assume_init() })
}

/// Not in libc's list for every target.
const SO_NETNS_COOKIE: libc::c_int = 71;
