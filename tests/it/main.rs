//! Everything that is tested across crates, on the real programs: one module a family.

mod connect;
mod invoke;
mod openclaw;
mod pairing;
mod tidy;
