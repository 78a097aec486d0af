//! What the integration tests and benchmarks stand on: the real programs in temporary folders, a client that speaks the
//! wire from its description alone, and fakes of services on other people's computers.

pub mod browser;
pub mod chance;
pub mod clock;
pub mod cutter;
pub mod desktop;
pub mod fake;
pub mod fake_node;
pub mod fuzz;
pub mod guest;
pub mod hostile;
pub mod lan;
pub mod mesh;
pub mod openclaw;
pub mod program;
pub mod scene;
pub mod tree;
pub mod wait;
pub mod weather;
pub mod wire;
pub mod xserver;
