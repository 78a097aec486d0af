//! Somebody between two clients and a gateway; see `tests/src/fuzz/handshake.rs`.

#![no_main]

#[path = "../../src/fuzz/handshake.rs"]
mod target;
#[allow(dead_code, reason = "each target makes choices of its own kinds")]
#[path = "../../src/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
