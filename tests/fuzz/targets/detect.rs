//! Any bytes: what `inputs::detect` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::detect::holds(bytes));
