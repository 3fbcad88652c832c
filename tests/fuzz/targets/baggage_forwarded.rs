//! Any bytes: what `inputs::baggage_forwarded` says holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::baggage_forwarded::holds(bytes));
