//! Both call tables under everything that can be said to them; see `tests/src/fuzz/calls.rs`.

#![no_main]

#[path = "../../src/fuzz/calls.rs"]
mod target;
#[allow(dead_code, reason = "each target makes choices of its own kinds")]
#[path = "../../src/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
