//! The dialect's handshake: challenge → connect → hello or error, at both ends.
//!
//! The gateway's end checks in the order of the real one (protocol, role, device), since clients act on the first fault that they
//! are told. Credentials are passed on unchecked.

mod client;
mod gateway;

pub(super) use client::Client;
pub use client::DialectClient;
pub(super) use gateway::Gateway;

#[cfg(test)]
mod tests;
