//! Hook `sk_lookup` of one pod's network namespace: gives new connections to the pod's listeners, inbound ones
//! whatever port they are for, and outbound ones that a connect hook has rewritten. Fails closed: without a
//! listener the connection is refused.
//!
//! Minimum kernel: 5.9.

use aya_ebpf::{
    bindings::{BPF_SK_LOOKUP_F_NO_REUSEPORT, bpf_sk_lookup, sk_action},
    macros::{map, sk_lookup},
    maps::{Array, SockMap},
    programs::SkLookupContext,
};
use ebpf_redirect_abi::{Endpoint, Event, FlowKey, Hook, OUTBOUND_PORT, PortKey, network, slot};

use crate::{
    pods::{is_some, pod},
    shared::{FLOWS, network, port_excluded, report},
    words::words,
};

/// The pod's listeners, by `abi::slot`. A listener that is closed leaves the map by itself.
#[map]
static LISTENERS: SockMap = SockMap::with_max_entries(slot::COUNT, 0);

/// Cookie of the pod's network namespace; the loader writes it, because no helper tells it here.
#[map]
static IDENTITY: Array<u64> = Array::with_max_entries(1, 0);

/// Not called `sk_lookup`: that is the section's name, and the linker takes them for one symbol.
#[sk_lookup]
fn choose_listener(ctx: SkLookupContext) -> u32 {
    let raw = ctx.lookup;
    // SAFETY: a field of the context.
    if unsafe { (&raw const (*raw).protocol).read_volatile() } != IPPROTO_TCP {
        return sk_action::SK_PASS;
    }
    let Some(netns) = IDENTITY.get(0).copied() else { return sk_action::SK_DROP };
    let (source, destination) = ends(raw);
    let event = match choose(netns, &source, &destination) {
        Err(event) => event,
        Ok(slot) => match LISTENERS.redirect_sk_lookup(&ctx, slot, BPF_SK_LOOKUP_F_NO_REUSEPORT as u64) {
            Ok(()) => Event::Steered,
            Err(_) => Event::RefusedNoListener,
        },
    };
    report(Hook::SkLookup, event, netns, source, destination);
    if matches!(event, Event::RefusedNoListener | Event::RefusedLost) {
        sk_action::SK_DROP
    } else {
        sk_action::SK_PASS
    }
}

/// Which listener gets the connection, or why none.
#[inline(always)]
fn choose(netns: u64, source: &Endpoint, destination: &Endpoint) -> Result<u32, Event> {
    let v4 = destination.is_v4();
    if destination.is_local() {
        if destination.port != u32::from(OUTBOUND_PORT) {
            return Err(Event::PassedLoopback);
        }
        // Only what a connect hook has rewritten: the application may have a server of its own on this port.
        let key = FlowKey { netns, source: *source, destination: *destination };
        return match FLOWS.get_ptr(key) {
            Some(_) => Ok(if v4 { slot::OUTBOUND_V4 } else { slot::OUTBOUND_V6 }),
            None => Err(unknown(netns)),
        };
    }
    // By address, never by interface: a connection of the pod to itself arrives with the interface's index.
    if source.same_ip(destination) || network(netns, source.ip) == Some(network::OWN) {
        return Err(Event::PassedOwnAddress);
    }
    if port_excluded(netns, destination.port, PortKey::INBOUND) {
        return Err(Event::PassedExcludedPort);
    }
    Ok(if v4 { slot::INBOUND_V4 } else { slot::INBOUND_V6 })
}

/// What becomes of a connection to the rewritten destination that no note announces: the application's own passes,
/// but while there is one whose note was lost, it may be that one.
#[inline(always)]
fn unknown(netns: u64) -> Event {
    // SAFETY: a word of a live entry.
    let lost = pod(netns).is_some_and(|pod| is_some(unsafe { (&raw const (*pod).lost).read_volatile() }));
    if lost { Event::RefusedLost } else { Event::PassedNotSteered }
}

/// Source and destination of the new connection. Every field is read, whatever the family: a branch around
/// the reads makes LLVM select an address first, which the verifier refuses (`dereference of modified ctx ptr`).
#[inline(always)]
fn ends(raw: *mut bpf_sk_lookup) -> (Endpoint, Endpoint) {
    // SAFETY: fields of the context.
    unsafe {
        let family = (&raw const (*raw).family).read_volatile();
        let source_port = u16::from_be((&raw const (*raw).remote_port).read_volatile());
        let port = (&raw const (*raw).local_port).read_volatile() as u16;
        let remote_v4 = (&raw const (*raw).remote_ip4).read_volatile();
        let local_v4 = (&raw const (*raw).local_ip4).read_volatile();
        let remote_v6 = words((&raw const (*raw).remote_ip6).cast());
        let local_v6 = words((&raw const (*raw).local_ip6).cast());
        if family == AF_INET {
            (Endpoint::v4(remote_v4, source_port), Endpoint::v4(local_v4, port))
        } else {
            (Endpoint::v6(remote_v6, source_port), Endpoint::v6(local_v6, port))
        }
    }
}

const IPPROTO_TCP: u32 = 6;
const AF_INET: u32 = 2;
