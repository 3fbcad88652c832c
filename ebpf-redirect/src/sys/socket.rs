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
