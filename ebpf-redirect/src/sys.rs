//! The crate's only `unsafe` code: raw `bpf` calls and socket options that no crate in use offers. Nothing here
//! decides anything; nothing here keeps a descriptor that it does not own.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; see each SAFETY remark")]

pub(crate) mod bpf;
pub(crate) mod mapping;
pub(crate) mod socket;
