//! Reading and writing the context of the socket address hooks. Volatile, word by word: LLVM merges
//! neighbouring reads, and the verifier answers `invalid bpf_context access off=48 size=8`.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_get_netns_cookie,
    programs::SockAddrContext,
};
use ebpf_redirect_abi::Endpoint;

use crate::words::words;

/// Cookie of the socket's network namespace.
#[inline(always)]
pub fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context is what the helper wants.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// The socket.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: a field of the context.
    unsafe { (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile() }
}

/// The socket's protocol.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() }
}

/// The address in the call, IPv4.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: a field of the context.
    Endpoint::v4(unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() }, port(ctx))
}

/// The address in the call, IPv6.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: fields of the context.
    Endpoint::v6(unsafe { words(address(ctx)) }, port(ctx))
}

/// Puts an IPv4 address into the call.
#[inline(always)]
pub fn set_v4(ctx: &SockAddrContext, to: &Endpoint) {
    // SAFETY: fields of the context that this hook may write.
    unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(to.ip[3]) };
    set_port(ctx, to.port);
}

/// Puts an IPv6 (or v4-mapped) address into the call.
#[inline(always)]
pub fn set_v6(ctx: &SockAddrContext, to: &Endpoint) {
    let ip = address(ctx);
    // SAFETY: fields of the context that this hook may write.
    unsafe {
        ip.write_volatile(to.ip[0]);
        ip.add(1).write_volatile(to.ip[1]);
        ip.add(2).write_volatile(to.ip[2]);
        ip.add(3).write_volatile(to.ip[3]);
    }
    set_port(ctx, to.port);
}

#[inline(always)]
fn address(ctx: &SockAddrContext) -> *mut u32 {
    let raw: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the address of a field, nothing is read.
    unsafe { (&raw mut (*raw).user_ip6).cast() }
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: a field of the context; the port is in its lower half, in network byte order.
    u16::from_be(unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() } as u16)
}

#[inline(always)]
fn set_port(ctx: &SockAddrContext, port: u32) {
    // SAFETY: a field of the context that this hook may write.
    unsafe { (&raw mut (*ctx.sock_addr).user_port).write_volatile(u32::from((port as u16).to_be())) };
}
