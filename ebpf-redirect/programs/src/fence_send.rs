//! Hook `fence_send`: tcx ingress of the host's end of a pod's link, which is what the pod sends. Here `skb->sk` is still
//! the socket that sent it, and nobody in the pod can detach or bypass the program (inside, a packet socket with
//! `PACKET_QDISC_BYPASS` could).
//!
//! Minimum kernel: 6.6 (tcx; `bpf_skc_lookup_tcp` is of 5.2).

use aya_ebpf::{macros::classifier, programs::TcContext};
use ebpf_redirect_abi::{ANY, Endpoint, Fence, Hook, Reason};

use crate::{
    links::{fence, is_own},
    packet::{IPPROTO_UDP, Packet, read},
    senders::may_send,
    verdict::{PASS, judge},
};

#[classifier]
fn fence_send(ctx: TcContext) -> i32 {
    let Some(fence) = fence(&ctx) else { return PASS };
    let packet = match read(&ctx) {
        Ok(Some(packet)) => packet,
        // Who has which address is not the fence's to say; what comes of a lie meets the fence of the liar.
        Ok(None) => return PASS,
        Err(reason) => {
            return judge(fence, Hook::FenceSend, reason, Endpoint::default(), Endpoint::default());
        }
    };
    match check(&ctx, fence, &packet) {
        Ok(()) => PASS,
        Err(reason) => judge(fence, Hook::FenceSend, reason, packet.source, packet.destination),
    }
}

#[inline(always)]
fn check(ctx: &TcContext, fence: &Fence, packet: &Packet) -> Result<(), Reason> {
    if !is_own(fence, &packet.source.ip) && !is_beginner(packet) {
        return Err(Reason::Source);
    }
    packet.settle()?;
    match &packet.tcp {
        Some(tcp) if tcp.is_reset() => {
            // The kernel's answers to strangers have no socket of the pod's; no kernel puts data into one.
            if tcp.payload { Err(Reason::ResetPayload) } else { Ok(()) }
        }
        Some(tcp) => may_send(ctx, fence, packet, tcp),
        None => Ok(()),
    }
}

/// A pod that has no address yet (DHCP, duplicate detection), or speaks to its neighbours by link-local address (ND).
/// Never for TCP: two pods of one bridge could talk past their proxies.
#[inline(always)]
fn is_beginner(packet: &Packet) -> bool {
    if packet.may_be_tcp() {
        return false;
    }
    let source = &packet.source;
    if source.is_v4() {
        source.ip[3] == 0 && packet.protocol == IPPROTO_UDP
    } else {
        source.ip == ANY || source.is_link_local_v6()
    }
}
