//! Hook `cgroup/connect6`: steers `connect` on an IPv6 socket to the loopback address whose listener the
//! lookup program chooses.
//!
//! Minimum kernel: 5.8 (`bpf_setsockopt` here; the hook is of 4.17, `bpf_get_netns_cookie` of 5.7).

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use ebpf_redirect_abi::{Endpoint, Hook, OUTBOUND_PORT};

use crate::{
    connect::{Verdict, connect},
    sock_addr::{set_v6, v6},
};

const LOOPBACK: Endpoint = Endpoint::v6([0, 0, 0, u32::from_be(1)], OUTBOUND_PORT);

/// For an IPv6 socket that talks IPv4.
const MAPPED_LOOPBACK: Endpoint = Endpoint::v4(u32::from_be(0x7f00_0001), OUTBOUND_PORT);

/// 1 lets the call go on, 0 makes it fail with EPERM.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let destination = v6(&ctx);
    match connect(&ctx, Hook::Connect6, destination) {
        Verdict::Pass => 1,
        Verdict::Refuse => 0,
        Verdict::Steer => {
            if destination.is_v4() {
                set_v6(&ctx, &MAPPED_LOOPBACK);
            } else {
                set_v6(&ctx, &LOOPBACK);
            }
            1
        }
    }
}
