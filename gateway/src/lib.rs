//! placeholder

pub mod command;
pub mod config;
pub mod journal;
pub mod logs;
pub mod route;
pub mod state;
