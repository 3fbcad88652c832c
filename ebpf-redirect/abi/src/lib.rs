//! Values that the eBPF programs and user space share: `repr(C)`, without padding, fixed width.
//!
//! A change here is a change of the layout of pinned maps: count `LAYOUT` up with it.
#![no_std]

/// Version of the layout of everything that is pinned; part of every pin path.
pub const LAYOUT: u32 = 1;
