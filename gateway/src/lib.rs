//! placeholder

pub mod command;
pub mod config;
pub mod journal;
pub mod state;
