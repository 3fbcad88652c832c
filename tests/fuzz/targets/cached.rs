//! Any bytes as the cache of a control plane's words: see `inputs::cached`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::cached::holds(bytes));
