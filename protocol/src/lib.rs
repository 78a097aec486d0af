//! What may be said between the devices of a ring, and nothing about how it travels.
//!
//! Pure: no socket, no clock, no task, no randomness. Input is bytes or values, output is values or bytes.
//!
//! - [`frame`]: the native language; [`dialect`]: the OpenClaw JSON language, mapped to the same frames
//! - [`blob`]: bytes beside a call
//! - [`calls`]: the call table, a state machine for both ends
//! - [`method`]: parameters and replies of the gateway's methods
//! - [`plan`]: what a person approves before a command runs
//! - [`plugin_tool`]: tools that a node publishes beside its commands
//! - [`shown`]: text of others, made safe to show
//! - [`capability`], [`scope`], [`id`], [`json`], [`error`], [`limits`]: the words they are made of

pub mod blob;
mod bounded;
pub mod calls;
pub mod capability;
pub mod dialect;
pub mod error;
pub mod frame;
pub mod hex;
pub mod id;
pub mod json;
pub mod limits;
pub mod method;
pub mod plan;
pub mod plugin_tool;
pub mod scope;
pub mod shown;
mod strict;
