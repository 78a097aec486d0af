//! The node daemon: find a gateway, hold a link to it, serve calls, and ask the owner's consent for each.
//!
//! [`pair`] comes in by an invitation; [`find`] looks for a gateway when none is named; [`daemon`] dials for ever and hands each link
//! to `serve`; `desk` owns the calls and `blobs` their bytes, which outlive links; [`consent`] checks what a
//! gateway says a person approved; `rules` is what the owner allows, [`ask`] asks him, `guard` keeps both before each call, and `ledger` writes calls down; `tools` publishes
//! what this node's MCP servers offer; [`state`] owns the folder on disk. Knows nothing of channels, agents or sessions.

pub mod ask;
mod backoff;
mod beacon;
mod blobs;
pub mod cli;
pub mod config;
pub mod consent;
pub mod daemon;
mod desk;
mod exec_event;
pub mod find;
mod guard;
mod ledger;
pub mod pair;
mod redeclare;
mod roam;
mod rules;
mod serve;
pub mod state;
mod tools;
mod worker;
