//! Hook `cgroup/getpeername6`: on a steered socket, reports where the application meant to connect to; on the
//! proxy's accepted end, the same, so that `accept4` returns the original destination without another
//! system call; on an application's accepted end of a delivery, the client's true address.
//!
//! Minimum kernel: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use ebpf_redirect_abi::{Event, Hook};

use crate::{
    notes::peer_of,
    shared::count,
    sock_addr::{set_v6, socket},
};

/// This hook must return 1.
#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(peer) = peer_of(socket(&ctx)) {
        set_v6(&ctx, &peer);
        count(Hook::GetPeerName6, Event::Restored);
    }
    1
}
