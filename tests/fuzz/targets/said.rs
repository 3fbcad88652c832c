//! Whatever a cell in a process of its own says to the daemon: see `inputs::said`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inputs::said::holds(bytes));
