//! The note on a socket, in its socket storage: it lives and dies with the socket, and no pod can forge it
//! without the map's descriptor.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
    macros::btf_map,
};
use ebpf_redirect_abi::{ANY, Endpoint, Note, kind};

#[btf_map]
static SOCKETS: SkStorage<Note> = SkStorage::new();

/// The note on a socket, if there is one.
#[inline(always)]
pub fn note(sk: *mut bpf_sock) -> Option<*mut Note> {
    storage(sk, core::ptr::null_mut(), 0)
}

/// Writes a note; `false` if the kernel has no memory for it.
#[inline(always)]
pub fn set_note(sk: *mut bpf_sock, mut value: Note) -> bool {
    let Some(note) = storage(sk, &raw mut value, BPF_SK_STORAGE_GET_F_CREATE as u64) else { return false };
    // An existing note is not overwritten by the helper.
    // SAFETY: the helper returned a value of this type; only the socket's own thread writes it.
    unsafe { *note = value };
    true
}

/// Removes the note.
#[inline(always)]
pub fn clear_note(sk: *mut bpf_sock) {
    // SAFETY: map and socket are what the helper wants.
    unsafe { bpf_sk_storage_delete(map(), sk.cast()) };
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, value: *mut Note, flags: u64) -> Option<*mut Note> {
    if sk.is_null() {
        return None;
    }
    // SAFETY: map and socket are what the helper wants; the value is initialised.
    let note = unsafe { bpf_sk_storage_get(map(), sk.cast(), value.cast(), flags) }.cast::<Note>();
    if note.is_null() { None } else { Some(note) }
}

#[inline(always)]
fn map() -> *mut core::ffi::c_void {
    core::ptr::from_ref(&SOCKETS).cast_mut().cast()
}

/// The peer that getpeername and accept report for a socket, if it is another than the kernel's.
#[inline(always)]
pub fn peer_of(sk: *mut bpf_sock) -> Option<Endpoint> {
    let note = note(sk)?;
    // SAFETY: the socket's own note.
    let note = unsafe { &*note };
    match note.kind {
        kind::STEERED | kind::ACCEPTED | kind::DELIVERED => Some(note.peer),
        _ => None,
    }
}

/// The local address that getsockname reports for a socket, if it is another than the kernel's.
#[inline(always)]
pub fn own_of(sk: *mut bpf_sock) -> Option<[u32; 4]> {
    let note = note(sk)?;
    // SAFETY: the socket's own note.
    let note = unsafe { &*note };
    (note.kind == kind::STEERED && note.own.ip != ANY).then_some(note.own.ip)
}
