//! Any bytes: what `inputs::lowering` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::lowering::holds(bytes));
