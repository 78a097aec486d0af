//! Films into a file through an installed ffmpeg: pictures go to it at a steady pace, whatever the pace of the camera is; sound it takes
//! itself. Runs in the helper process. Owns what ffmpeg is told.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::picture::{Frame, Picture};
use super::source::Source;
use super::wire::Trouble;
use crate::system_run::program::in_path;

/// What makes clips.
const PROGRAM: &str = "ffmpeg";

/// Pictures on their way to it, so that none is missed while it starts, or thinks. More: the camera waits.
const AHEAD: usize = 64;

/// What is repeated of its complaint, bytes.
const COMPLAINT: u64 = 2_000;

/// Encoders, best first, each with its own arguments. Which of them an ffmpeg has is up to whoever built it.
const MP4: &[(&str, &[&str])] = &[
    ("libx264", &["-preset", "veryfast", "-crf", "26"]),
    ("h264_videotoolbox", &["-q:v", "55"]),
    ("h264_mf", &[]),
    ("libopenh264", &["-b:v", "2M"]),
    ("mpeg4", &["-q:v", "5"]),
];
const WEBM: &[(&str, &[&str])] = &[
    ("libvpx", &["-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"]),
    ("libvpx-vp9", &["-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"]),
];

/// What a clip is wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Container {
    Mp4,
    Webm,
}

impl Container {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
        }
    }
}

/// What shall come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) fps: u32,
    pub(crate) duration: Duration,
    /// Arguments of ffmpeg for sound.
    pub(crate) sound: Option<Vec<String>>,
    pub(crate) format: Container,
}

impl Recipe {
    fn pictures(&self) -> u64 {
        let exact = self.duration.as_millis() * u128::from(self.fps) / 1000;
        u64::try_from(exact).unwrap_or(u64::MAX).max(1)
    }

    /// What ffmpeg is told. To be asked before the camera is opened: it takes a while, and pictures do not wait.
    ///
    /// # Errors
    /// There is no ffmpeg, or it has no encoder.
    pub(super) fn told(&self, file: &Path) -> Result<Vec<String>, Trouble> {
        self.arguments(&encoders()?, file).ok_or_else(|| {
            Trouble::unavailable(format!(
                "this ffmpeg cannot make {}: it has no encoder for it; install a full one, or ask for the other of mp4 and webm",
                self.format.as_str()
            ))
        })
    }

    /// [`Recipe::told`], if it has one of the encoders.
    fn arguments(&self, encoders: &str, file: &Path) -> Option<Vec<String>> {
        let known = match self.format {
            Container::Mp4 => MP4,
            Container::Webm => WEBM,
        };
        let (encoder, options) = known.iter().find(|(name, _)| has(encoders, name))?;
        let fps = self.fps.to_string();
        let time = format!("{:.3}", self.duration.as_secs_f64());
        let mut words: Vec<&str> = "-hide_banner -loglevel error -nostdin -y -f mjpeg -framerate"
            .split(' ')
            .collect();
        words.extend([&fps, "-i", "pipe:0"]);
        if let Some(sound) = &self.sound {
            words.extend(sound.iter().map(String::as_str));
            words.extend(["-map", "0:v:0", "-map", "1:a:0"]);
            words.extend(match self.format {
                Container::Mp4 => ["-c:a", "aac"],
                Container::Webm => ["-c:a", "libopus"],
            });
        }
        words.extend(["-c:v", encoder]);
        words.extend_from_slice(options);
        // Players want pairs of pixels and one kind of colours.
        words.extend([
            "-vf",
            "scale=trunc(iw/2)*2:trunc(ih/2)*2",
            "-pix_fmt",
            "yuv420p",
            "-t",
            &time,
        ]);
        if self.format == Container::Mp4 {
            words.extend(["-movflags", "+faststart"]);
        }
        words.extend(["-f", self.format.as_str()]);
        let words = words.into_iter().map(str::to_owned);
        Some(words.chain([file.to_string_lossy().into_owned()]).collect())
    }
}

/// Why no clip can be made here, and what to do.
pub(crate) fn missing() -> Option<&'static str> {
    let path = std::env::var("PATH").unwrap_or_default();
    match in_path(PROGRAM, &path) {
        Some(_) => None,
        None => Some(
            "there is no ffmpeg in PATH, which makes clips; install it (apt install ffmpeg) and start atoll-node again",
        ),
    }
}

/// Whether a list of `ffmpeg -encoders` names one.
fn has(encoders: &str, name: &str) -> bool {
    encoders
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some(name))
}

/// Films until the time is over and the file is whole; `told` is what ffmpeg is told.
pub(super) fn film(
    camera: &mut dyn Source,
    recipe: &Recipe,
    told: &[String],
    coded: impl Fn(Frame) -> Result<Picture, Trouble>,
) -> Result<Value, Trouble> {
    // Before ffmpeg: what gives no picture shall not be reported as a broken film.
    let first = coded(camera.frame()?)?;
    let mut ffmpeg = Ffmpeg::start(told)?;
    let size = (first.width, first.height);
    feed(camera, recipe, first, coded, &mut ffmpeg)?;
    ffmpeg.finish()?;
    Ok(json!({
        "durationMs": recipe.pictures() * 1000 / u64::from(recipe.fps), "fps": recipe.fps,
        "hasAudio": recipe.sound.is_some(), "width": size.0, "height": size.1,
    }))
}

/// As many pictures as the time has room for: one that comes late stands in for those that did not come.
fn feed(
    camera: &mut dyn Source,
    recipe: &Recipe,
    first: Picture,
    coded: impl Fn(Frame) -> Result<Picture, Trouble>,
    ffmpeg: &mut Ffmpeg,
) -> Result<(), Trouble> {
    let (began, total) = (Instant::now(), recipe.pictures());
    let (mut picture, mut written) = (Arc::new(first.bytes), 0);
    loop {
        let due = began.elapsed().as_millis() * u128::from(recipe.fps) / 1000 + 1;
        let due = u64::try_from(due).unwrap_or(u64::MAX).min(total);
        while written < due {
            ffmpeg.write(&picture)?;
            written += 1;
        }
        if written >= total {
            return Ok(());
        }
        if !camera.is_live() {
            let next = Duration::from_millis(written * 1000 / u64::from(recipe.fps));
            sleep(next.saturating_sub(began.elapsed()));
        }
        picture = Arc::new(coded(camera.frame()?)?.bytes);
    }
}

fn encoders() -> Result<String, Trouble> {
    let listed = Command::new(PROGRAM)
        .args(["-hide_banner", "-encoders"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(not_started)?;
    Ok(String::from_utf8_lossy(&listed.stdout).into_owned())
}

/// One that runs.
struct Ffmpeg {
    child: Child,
    pictures: Option<SyncSender<Arc<Vec<u8>>>>,
    writing: Option<JoinHandle<io::Result<()>>>,
    complaint: Option<JoinHandle<String>>,
}

impl Ffmpeg {
    fn start(arguments: &[String]) -> Result<Self, Trouble> {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let stderr = child.stderr.take();
        let complaint = std::thread::spawn(move || {
            let mut head = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(COMPLAINT).read_to_end(&mut head);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&head).trim().to_owned()
        });
        let (pictures, taken) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let stdin = child.stdin.take();
        let writing = std::thread::spawn(move || {
            let Some(mut stdin) = stdin else { return Ok(()) };
            taken.into_iter().try_for_each(|jpeg| stdin.write_all(&jpeg))
        });
        Ok(Self {
            child,
            pictures: Some(pictures),
            writing: Some(writing),
            complaint: Some(complaint),
        })
    }

    fn write(&mut self, jpeg: &Arc<Vec<u8>>) -> Result<(), Trouble> {
        let sent = self.pictures.as_ref().map(|pictures| pictures.send(jpeg.clone()));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => self.written(),
        }
    }

    /// Waits until all pictures are written.
    fn written(&mut self) -> Result<(), Trouble> {
        drop(self.pictures.take());
        let written = self.writing.take().map_or(Ok(()), |writing| {
            writing
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("its writer broke")))
        });
        written.map_err(|error| self.complain(&format!("took no more pictures: {error}")))
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.written()?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.complain(&format!("ended with {status}"))),
            Err(error) => Err(self.complain(&error.to_string())),
        }
    }

    fn complain(&mut self, what: &str) -> Trouble {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.complaint.take().and_then(|complaint| complaint.join().ok());
        let said = said
            .filter(|said| !said.is_empty())
            .map(|said| format!("; it says: {said}"));
        Trouble::unavailable(format!(
            "the clip was not made: ffmpeg {what}{}",
            said.unwrap_or_default()
        ))
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn not_started(error: std::io::Error) -> Trouble {
    Trouble::unavailable(format!(
        "ffmpeg does not start ({error}); install it (apt install ffmpeg) and try again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(format: Container, sound: Option<Vec<String>>) -> Recipe {
        Recipe {
            fps: 15,
            duration: Duration::from_millis(2_500),
            sound,
            format,
        }
    }

    #[test]
    fn the_best_encoder_that_is_there_is_used() {
        let list = " V....D mpeg4    MPEG-4\n V....D libx264rgb x\n V....D libx264   H.264\n A....D libopus x\n";
        let told = |format, list| {
            recipe(format, None)
                .arguments(list, Path::new("/tmp/x"))
                .map(|words| words.join(" "))
        };
        let mp4 = told(Container::Mp4, list).expect("two of them");
        assert!(mp4.contains("-c:v libx264 ") && mp4.ends_with("-f mp4 /tmp/x"), "{mp4}");
        assert!(
            told(Container::Mp4, " V.... mpeg4 x")
                .expect("one")
                .contains("-c:v mpeg4")
        );
        assert_eq!(told(Container::Webm, list), None);
    }

    #[test]
    fn sound_is_mapped_where_there_is_some() {
        let with = recipe(Container::Mp4, Some(vec!["-i".to_owned(), "mic".to_owned()]));
        let words = with.arguments(" V libx264 x", Path::new("x")).expect("told").join(" ");
        assert!(
            words.contains("-i pipe:0 -i mic -map 0:v:0 -map 1:a:0 -c:a aac"),
            "{words}"
        );
    }

    #[test]
    fn a_clip_has_as_many_pictures_as_its_time_has_room_for() {
        assert_eq!(recipe(Container::Mp4, None).pictures(), 37);
    }
}
