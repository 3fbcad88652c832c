//! Hook `cgroup/getsockname6`: on a steered socket that the kernel bound to loopback, reports the pod's address.
//!
//! Minimum kernel: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use ebpf_redirect_abi::{Endpoint, Event, Hook};

use crate::{
    notes::own_of,
    shared::count,
    sock_addr::{set_v6, socket, v6},
};

/// This hook must return 1.
#[cgroup_sock_addr(getsockname6)]
fn getsockname6(ctx: SockAddrContext) -> i32 {
    let bound = v6(&ctx);
    if !bound.is_local() {
        return 1;
    }
    if let Some(ip) = own_of(socket(&ctx)) {
        set_v6(&ctx, &Endpoint { ip, port: bound.port });
        count(Hook::GetSockName6, Event::Restored);
    }
    1
}
