//! The choice of a listener: one object, loaded once per pod, because the kernel does not tell an sk_lookup
//! program which network namespace it runs in; the loader writes it into its `IDENTITY`.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "context reads and helper calls are raw pointers by nature")]

mod pods;
mod shared;
mod sk_lookup;
mod words;

/// The kernel gives GPL-only helpers to compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier proves that this is never reached; the linker wants it nevertheless.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
