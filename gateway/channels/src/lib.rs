//! Chat channels behind one small trait. A channel turns a platform's messages into [`Inbound`] and sends [`Outbound`]; it decides nothing
//! about who may speak ([`gate`] does, purely) and knows nothing of agents or nodes.

pub mod port;
