//! Hook `cgroup/connect4`: steers `connect` on an IPv4 socket to the loopback address whose listener the
//! lookup program chooses.
//!
//! Minimum kernel: 5.8 (`bpf_setsockopt` here; the hook is of 4.17, `bpf_get_netns_cookie` of 5.7).

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use ebpf_redirect_abi::{Endpoint, Hook, OUTBOUND_PORT};

use crate::{
    connect::{Verdict, connect},
    sock_addr::{set_v4, v4},
};

/// 127.0.0.1 rather than the pod's address: the kernel's default re-uses ports in TIME_WAIT for loopback only.
const LOOPBACK: Endpoint = Endpoint::v4(u32::from_be(0x7f00_0001), OUTBOUND_PORT);

/// 1 lets the call go on, 0 makes it fail with EPERM.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    match connect(&ctx, Hook::Connect4, v4(&ctx)) {
        Verdict::Pass => 1,
        Verdict::Refuse => 0,
        Verdict::Steer => {
            set_v4(&ctx, &LOOPBACK);
            1
        }
    }
}
