//! Any bytes: what `inputs::connect_request` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::connect_request::holds(bytes));
