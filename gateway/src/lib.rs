//! placeholder

pub mod journal;
