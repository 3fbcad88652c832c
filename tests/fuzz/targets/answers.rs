//! Any bytes: what `inputs::answers` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::answers::holds(bytes));
