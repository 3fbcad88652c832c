//! Any resources of a control plane: see `inputs::discovered`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::discovered::holds(bytes));
