//! The node daemon: find a gateway, hold a link to it, serve calls, and ask the owner's consent for each.
//!
//! [`daemon`] dials for ever and hands each link to `serve`; `desk` owns the calls, which outlive links; [`consent`] checks what a
//! gateway says a person approved; [`state`] owns the folder on disk. Knows nothing of channels, agents or sessions.

mod backoff;
pub mod cli;
pub mod config;
pub mod consent;
pub mod daemon;
mod desk;
mod exec_event;
mod serve;
pub mod state;
mod worker;
