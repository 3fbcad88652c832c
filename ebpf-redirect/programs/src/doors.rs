//! The tree's inbound listeners, and by inheritance what they accept. A map of its own: storage that is inherited must
//! be on listeners only, else a connection's socket that its owner turns into a listener would hand its right on.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};

/// As aya's `SkStorage`, which has no room for this flag. The kernel reads it from the type, not from a value.
#[repr(C)]
struct Inherited {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: only its address is used, by the helper.
unsafe impl Sync for Inherited {}

#[btf_map]
static DOORS: Inherited = Inherited {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Whether the socket is one of them.
#[inline(always)]
pub fn is_door(sk: *mut bpf_sock) -> bool {
    let map = core::ptr::from_ref(&DOORS).cast_mut().cast();
    // SAFETY: map and socket are what the helper wants; nothing is created.
    !unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0) }.is_null()
}
