//! The gateway: everything on the VPS.
//!
//! - `accept`, `http`, `connection`: from a socket to an admitted link
//! - `addresses`: where this gateway can be reached
//! - `auth`, `seats`: what must be shown at the door, and how many may wait there
//! - `hub`, `book`, `approvals`, `lane`, [`journal`], [`config`]: the owners of its facts, one task each
//! - `ring`, `exec`, `nodes`: commands on nodes and here; `select`: which node is meant
//! - `waiting`, `repeats`, `listing`: calls that wait for their node, calls that are made twice, the list of all
//! - [`route`], [`command`], `sessions`, `turns`, `watch`: conversations
//! - `channels`, `intake`, `direct`: chat accounts, what arrives by them, and commands that need no model
//! - `deliver`, `cards`: what leaves by the channels; `aside`: what may not hold up its caller
//! - `vital`, `housekeeping`: what must not break, and what is long over
//! - `rpc`: the methods; [`cli`]: the operator's command line

mod accept;
mod addresses;
mod approvals;
mod aside;
mod auth;
mod book;
mod cards;
mod certificates;
mod channels;
pub mod cli;
mod clock;
pub mod command;
pub mod config;
mod connection;
mod deliver;
mod direct;
mod discovery;
mod exec;
mod hello;
mod house;
mod housekeeping;
mod http;
mod hub;
mod intake;
pub mod journal;
mod lane;
mod listing;
pub mod logs;
mod media;
mod nodes;
mod pictures;
mod queue;
mod repeats;
mod ring;
pub mod route;
mod rpc;
mod run;
mod seats;
mod select;
mod sessions;
pub mod state;
mod turns;
mod vital;
mod waiting;
mod watch;
mod watchers;

pub use accept::BindError;
pub use certificates::CertificateError;
pub use run::{Options, StartError, run, until_signalled};
pub use sessions::SessionError;

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
