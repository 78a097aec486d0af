//! Everything that is tested across crates, on the real programs: one module a family.

mod agent;
mod calls;
mod connect;
mod discovery;
mod documents;
mod invoke;
mod kill;
mod light;
mod mutated;
mod openclaw;
mod pairing;
mod peers;
mod shape;
mod pipes;
mod telegram;
mod tidy;
