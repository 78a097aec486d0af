//! placeholder

pub mod config;
pub mod journal;
pub mod state;
