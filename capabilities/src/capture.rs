//! Pictures, still and moving: made in a helper process, which alone touches drivers, displays, decoders and programs of the owner's.

pub(crate) mod child;
pub(crate) mod clip;
pub(crate) mod film;
pub(crate) mod job;
pub(crate) mod mjpeg;
pub(crate) mod picture;
pub(crate) mod program;
pub(crate) mod source;
pub(crate) mod turns;
pub(crate) mod wire;

pub use child::HelperProgram;
pub use job::{ARGUMENT as HELPER_ARGUMENT, main as helper_main};
pub use mjpeg::Splitter;
pub use picture::{Preview, preview};
