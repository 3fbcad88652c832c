//! The fence: both directions of the host's end of a pod's link. One object, loaded once per daemon; the index of the
//! link says whose packet it is. The hooks steer, the fence is the boundary: it must never let a pod's TCP pass that
//! neither the proxy nor an exception sent, however it was sent.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "context reads and helper calls are raw pointers by nature")]

mod denials;
mod doors;
mod earlier;
mod fence_receive;
mod fence_send;
mod links;
#[allow(dead_code, reason = "shared with the hooks, which use the rest of it")]
mod notes;
mod packet;
mod senders;
#[allow(dead_code, reason = "shared with the hooks, which use the rest of it")]
mod shared;
mod states;
mod verdict;

/// The kernel gives GPL-only helpers (`bpf_sk_storage_get` among them) to compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier proves that this is never reached; the linker wants it nevertheless.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
