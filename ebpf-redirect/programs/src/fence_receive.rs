//! Hook `fence_receive`: tcx egress of the host's end of a pod's link, which is what the pod receives. New connections
//! are the lookup program's to steer; here is dropped what is not for this pod, and what its owner denies, before the
//! pod's TCP sees it.
//!
//! Minimum kernel: 6.6 (tcx).

use aya_ebpf::{macros::classifier, programs::TcContext};
use ebpf_redirect_abi::{Endpoint, Fence, Hook, Reason};

use crate::{
    denials::is_denied,
    links::{fence, is_own},
    packet::{Packet, read},
    verdict::{PASS, judge},
};

#[classifier]
fn fence_receive(ctx: TcContext) -> i32 {
    let Some(fence) = fence(&ctx) else { return PASS };
    let packet = match read(&ctx) {
        Ok(Some(packet)) => packet,
        Ok(None) => return PASS,
        Err(reason) => {
            return judge(fence, Hook::FenceReceive, reason, Endpoint::default(), Endpoint::default());
        }
    };
    match check(fence, &packet) {
        Ok(()) => PASS,
        Err(reason) => judge(fence, Hook::FenceReceive, reason, packet.source, packet.destination),
    }
}

#[inline(always)]
fn check(fence: &Fence, packet: &Packet) -> Result<(), Reason> {
    // From itself: the lookup program lets a pod talk to itself, so nobody else may say he is the pod.
    if is_own(fence, &packet.source.ip) {
        return Err(Reason::Source);
    }
    if !is_own(fence, &packet.destination.ip) && !is_for_many(packet) {
        return Err(Reason::Destination);
    }
    packet.settle()?;
    match &packet.tcp {
        Some(tcp) if tcp.is_first() && is_denied(fence, packet) => Err(Reason::Denied),
        _ => Ok(()),
    }
}

/// Broadcast, multicast, or a neighbour's answer to the link-local address; never TCP.
#[inline(always)]
fn is_for_many(packet: &Packet) -> bool {
    if packet.may_be_tcp() {
        return false;
    }
    let destination = &packet.destination;
    if destination.is_v4() {
        let ip = u32::from_be(destination.ip[3]);
        ip >> 28 == 0xe || ip == u32::MAX
    } else {
        u32::from_be(destination.ip[0]) >> 24 == 0xff || destination.is_link_local_v6()
    }
}
