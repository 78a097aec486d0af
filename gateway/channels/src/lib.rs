//! Chat channels behind one small trait. A channel turns a platform's messages into [`port::Inbound`] and sends
//! [`port::Outbound`]; it decides nothing about who may speak ([`gate`] does, purely) and knows nothing of agents or
//! nodes.

pub mod conformance;
pub mod dm_code;
pub mod gate;
pub mod port;
pub mod split;
pub mod telegram;
