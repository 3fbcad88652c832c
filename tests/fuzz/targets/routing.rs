//! Any bytes: what `inputs::routing` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::routing::holds(bytes));
