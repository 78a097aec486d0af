//! One agent turn: from a message to an answer, with tools in between.
//!
//! [`turn`] decides and does no I/O; [`driver`] carries out what it decided. Knows nothing of channels, nodes or the journal: those are
//! behind the traits of [`port`].

pub mod compact;
pub mod driver;
pub mod message;
pub mod model;
pub mod port;
pub mod prompt;
pub mod taint;
pub mod tool;
pub mod transcript;
pub mod turn;
