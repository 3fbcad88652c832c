//! Any bytes: what `inputs::networks` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::networks::holds(bytes));
