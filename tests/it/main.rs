//! Everything that is tested across crates, on the real programs: one module a family.

mod connect;
mod openclaw;
mod tidy;
