//! What fuzzing asserts: for each target a function of the bytes that a fuzzer makes up. It panics when a promise is broken. The targets in
//! `tests/fuzz` and the test that replays the corpus call the same functions. No clock, no randomness, no I/O.

pub mod calls;
pub mod corpus;
pub mod dialect;
pub mod frame;
pub mod handshake;
pub mod input;

/// What is called with the bytes.
pub type Target = fn(&[u8]);

/// Every target and its name, which is that of its corpus too.
pub const TARGETS: [(&str, Target); 4] = [
    ("frame", frame::run),
    ("dialect", dialect::run),
    ("handshake", handshake::run),
    ("calls", calls::run),
];
