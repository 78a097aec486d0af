//! Find, prove, decide, hold a link.
//!
//! A hint (an address, given or found by [`discovery`]) is dialled ([`dial`]) or a guest greeted ([`greet`]), the handshake gives [`proven::Proven`], [`admission`] asks the [`book`] and gives a verdict,
//! [`link`] carries frames from then on, and [`access`] decides each action.

pub mod access;
pub mod admission;
pub mod approval;
pub mod blob;
pub mod book;
pub mod dial;
pub mod digits;
pub mod discovery;
pub mod greet;
pub mod handshake;
pub mod identity;
pub mod invitation;
pub mod link;
pub mod lockout;
pub mod proven;
pub mod tls;
mod transcript;
