//! What the integration tests and benchmarks stand on: the real programs in temporary folders, a client that speaks the
//! wire from its description alone, and fakes of services on other people's computers.

pub mod tree;
