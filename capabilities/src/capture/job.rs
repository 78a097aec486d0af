//! The helper: a process of its own that takes one job from its standard input, says what comes of it on its standard output, and
//! ends. When its input ends before that, the node is gone, and the helper ends itself and all that it started.

use std::io::{self, Read, Stdin, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::clip;
use super::picture::{Frame, Picture, Size, finish};
use super::source::{self, Purpose, Source, open};
use super::wire::{self, Job, Message, Trouble, say, take_job};
use crate::camera::system;
use crate::screen::x11;

/// What the helper is started with as its only argument.
pub const ARGUMENT: &str = "capture-helper";

/// The whole life of the helper process.
///
/// # Errors
/// Nobody gives a job, or nobody hears what is said.
pub fn main() -> io::Result<()> {
    let mut stdin = io::stdin();
    let job = take_job(&mut stdin).map_err(io::Error::other)?;
    std::thread::spawn(move || end_with(stdin));
    let mut out = io::stdout().lock();
    let end = match work(job, &mut out) {
        Ok(value) => Message::Done(value),
        Err(End::Trouble(trouble)) => Message::Failed(trouble),
        Err(End::Unheard(error)) => return Err(error),
    };
    say(&mut out, &end)
}

/// Nothing more comes over this pipe, so its end is the node's.
fn end_with(mut stdin: Stdin) {
    let mut byte = [0];
    while matches!(stdin.read(&mut byte), Ok(1)) {}
    end_group();
}

/// Ends this process and those that it started, if it leads them.
#[cfg(unix)]
fn end_group() {
    use rustix::process::{Signal, getpgrp, getpid, kill_process_group};
    if getpgrp() == getpid() {
        let _ = kill_process_group(getpid(), Signal::KILL);
    }
    std::process::exit(1);
}

#[cfg(not(unix))]
fn end_group() {
    std::process::exit(1);
}

/// Why a job ends early.
enum End {
    Trouble(Trouble),
    Unheard(io::Error),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Unheard(error)
    }
}

fn work(job: Job, out: &mut impl Write) -> Result<Value, End> {
    match job {
        Job::Cameras => Ok(json!({"devices": system::list()?})),
        Job::Screens => Ok(json!({"screens": x11::list()?})),
        Job::Snap { source, size, delay_ms } => {
            let mut open = open(&source, size.max_width, Purpose::OnePicture)?;
            let frame = source::snap(open.as_mut(), Duration::from_millis(delay_ms))?;
            say(out, &Message::Picture(coded(frame, size, &source)?))?;
            Ok(json!({}))
        }
        Job::Stream {
            source,
            size,
            fps,
            duration_ms,
        } => {
            let mut open = open(&source, size.max_width, Purpose::Moving)?;
            let show = |frame| Ok(say(out, &Message::Picture(coded(frame, size, &source)?))?);
            stream(open.as_mut(), fps, Duration::from_millis(duration_ms), show)
        }
        Job::Clip {
            source,
            size,
            recipe,
            file,
        } => {
            let told = recipe.told(&file)?;
            let mut open = open(&source, size.max_width, Purpose::Moving)?;
            let coded = |frame| coded(frame, size, &source);
            Ok(clip::film(open.as_mut(), &recipe, &told, coded)?)
        }
    }
}

fn coded(frame: Frame, size: Size, source: &wire::Source) -> Result<Picture, Trouble> {
    finish(frame, size).map_err(|what| Trouble::unavailable(format!("{} gave {what}", source::name(source))))
}

/// Shows at most `fps` pictures a second until the time is over.
fn stream(
    camera: &mut dyn Source,
    fps: u32,
    duration: Duration,
    mut show: impl FnMut(Frame) -> Result<(), End>,
) -> Result<Value, End> {
    let step = Duration::from_secs(1) / fps.max(1);
    let (began, mut due, mut shown) = (Instant::now(), Instant::now(), 0_u64);
    while began.elapsed() < duration {
        if !camera.is_live() {
            sleep(due.saturating_duration_since(Instant::now()));
        }
        let frame = camera.frame()?;
        let now = Instant::now();
        // A camera that gives a little more than is wanted is not halved.
        if now + step / 4 < due {
            continue;
        }
        due = (due + step).max(now);
        show(frame)?;
        shown += 1;
    }
    Ok(json!({"pictures": shown}))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a picture whenever it is asked, `pause` later.
    struct Steady {
        pause: Duration,
        is_live: bool,
    }

    impl Source for Steady {
        fn frame(&mut self) -> Result<Frame, Trouble> {
            sleep(self.pause);
            Ok(Frame::Jpeg(Vec::new()))
        }

        fn is_live(&self) -> bool {
            self.is_live
        }
    }

    #[test]
    fn a_stream_has_no_more_pictures_than_were_asked_for_and_ends_in_time() {
        for is_live in [false, true] {
            let mut camera = Steady {
                pause: Duration::from_millis(2),
                is_live,
            };
            let (began, mut shown) = (Instant::now(), 0);
            let end = stream(&mut camera, 20, Duration::from_millis(500), |_| {
                shown += 1;
                Ok(())
            });
            assert!(end.is_ok() && began.elapsed() < Duration::from_secs(3));
            assert!((2..=14).contains(&shown), "{shown} pictures of 10, live: {is_live}");
        }
    }

    #[test]
    fn a_camera_that_fails_ends_its_stream() {
        struct Gone;
        impl Source for Gone {
            fn frame(&mut self) -> Result<Frame, Trouble> {
                Err(Trouble::unavailable("gone"))
            }
        }
        let end = stream(&mut Gone, 20, Duration::from_secs(60), |_| Ok(()));
        assert!(matches!(end, Err(End::Trouble(trouble)) if trouble.message == "gone"));
    }
}
