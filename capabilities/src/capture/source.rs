//! Where pictures come from: the test pattern, a program of the owner's, a camera of the system, a screen. Runs in the helper process and may hang
//! as long as it likes: the node ends the process.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::picture::Frame;
use super::program;
use super::wire::{self, Trouble};
use crate::camera::{pattern, system};
use crate::screen::x11;

/// What is looked at, open.
pub(crate) trait Source {
    /// The next picture; one that comes by itself is waited for.
    ///
    /// # Errors
    /// There are none any more.
    fn frame(&mut self) -> Result<Frame, Trouble>;

    /// Whether pictures come at a pace of their own, and old ones first.
    fn is_live(&self) -> bool {
        false
    }
}

struct Pattern;

impl Source for Pattern {
    fn frame(&mut self) -> Result<Frame, Trouble> {
        Ok(pattern::now())
    }
}

/// What is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    OnePicture,
    Moving,
}

/// Opens it for pictures that need not be wider than `width`; the next one is good.
pub(crate) fn open(source: &wire::Source, width: u32, purpose: Purpose) -> Result<Box<dyn Source>, Trouble> {
    match source {
        wire::Source::Pattern => Ok(Box::new(Pattern)),
        wire::Source::Program(program) => program::open(program, width, purpose),
        wire::Source::Camera(id) => system::open(id, width),
        wire::Source::Screen(index) => x11::open(None, *index),
    }
}

/// What people call it.
pub(super) fn name(source: &wire::Source) -> String {
    match source {
        wire::Source::Pattern => format!("camera \"{}\"", pattern::ID),
        wire::Source::Program(program) => program.what.clone(),
        wire::Source::Camera(id) => format!("camera \"{id}\""),
        wire::Source::Screen(index) => format!("screen {index}"),
    }
}

/// One picture, `delay` after the camera was opened.
pub(crate) fn snap(source: &mut dyn Source, delay: Duration) -> Result<Frame, Trouble> {
    if !source.is_live() {
        sleep(delay);
        return source.frame();
    }
    let ready = Instant::now() + delay;
    loop {
        let frame = source.frame()?;
        if Instant::now() >= ready {
            return Ok(frame);
        }
    }
}
