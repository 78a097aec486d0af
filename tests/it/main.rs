//! Everything that is tested across crates, on the real programs: one module a family.

mod agent;
mod blob;
mod calls;
mod camera;
mod connect;
mod consent;
mod discovery;
mod documents;
mod faults;
mod fuzz;
mod hostile;
mod invoke;
mod kill;
mod light;
mod mutated;
mod openclaw;
mod pairing;
mod peers;
mod phone;
mod pictures;
mod pipes;
mod screen;
mod senses;
mod shape;
mod telegram;
mod tidy;
