//! Any bytes: what `inputs::heads` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::heads::holds(bytes));
