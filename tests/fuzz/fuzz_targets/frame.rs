//! Bytes as a native frame; see `tests/src/fuzz/frame.rs`.

#![no_main]

#[path = "../../src/fuzz/frame.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
