//! Any bytes: what `inputs::certificates` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::certificates::holds(bytes));
