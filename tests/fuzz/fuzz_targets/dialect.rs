//! Text as a message of the dialect; see `tests/src/fuzz/dialect.rs`.

#![no_main]

#[path = "../../src/fuzz/dialect.rs"]
mod target;
#[allow(dead_code, reason = "each target makes choices of its own kinds")]
#[path = "../../src/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
