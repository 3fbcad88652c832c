//! Any bytes: what `inputs::scalars` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::scalars::holds(bytes));
