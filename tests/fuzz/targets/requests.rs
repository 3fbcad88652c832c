//! Any bytes: what `inputs::requests` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::requests::holds(bytes));
