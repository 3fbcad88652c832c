//! The hooks on the cgroup v2 root: one object, loaded once per daemon. They see every socket of the host and
//! must leave alone, quickly, whatever does not belong to an enrolled pod.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "`AtomicU32::fetch_add` does not exist on bpfel; the intrinsic does")]
#![expect(unsafe_code, reason = "context reads and helper calls are raw pointers by nature")]

mod connect;
mod connect4;
mod connect6;
mod gates;
mod getpeername4;
mod getpeername6;
mod getsockname4;
mod getsockname6;
mod in_flight;
mod notes;
mod pods;
mod rates;
mod shared;
mod sock_addr;
mod sock_ops;
mod words;

/// The kernel gives GPL-only helpers (`bpf_sk_storage_get` among them) to compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier proves that this is never reached; the linker wants it nevertheless.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
