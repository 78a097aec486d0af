//! What records, plays and speaks, by system, and what each is told. Pure but for the look at what is there.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::sound::{Format, Kind};
use crate::capture::Subject;
use crate::capture::sound::{self, Microphone};
use crate::installed::{Installed, Task};

pub(super) const TERMUX_STOPS_RECORDING: [&str; 2] = ["termux-microphone-record", "-q"];
pub(super) const TERMUX_PLAYS: [&str; 2] = ["termux-media-player", "info"];
pub(super) const TERMUX_STOPS_PLAYING: [&str; 2] = ["termux-media-player", "stop"];

/// What records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorder {
    /// With the arguments that open the microphone.
    Ffmpeg(Vec<String>),
    Termux,
}

impl Recorder {
    /// The one that works here.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find(installed: &Installed, microphone: &Microphone) -> Result<Self, String> {
        if *microphone == Microphone::System(true) && installed.has("termux-microphone-record") {
            return Ok(Self::Termux);
        }
        let arguments = sound::arguments(microphone, Subject::Camera)?;
        if installed.has("ffmpeg") {
            return Ok(Self::Ffmpeg(arguments));
        }
        Err(
            "there is no ffmpeg in PATH, which records; install it (apt install ffmpeg) and start atoll-node again"
                .to_owned(),
        )
    }
}

/// What ffmpeg is told, to record to its standard output.
pub(super) fn ffmpeg_records(microphone: &[String], duration: Duration, format: Format) -> Vec<String> {
    let time = format!("{:.3}", duration.as_secs_f64());
    let mut words: Vec<&str> = "ffmpeg -hide_banner -loglevel error -nostdin".split(' ').collect();
    words.extend(microphone.iter().map(String::as_str));
    words.extend(["-vn", "-t", &time]);
    words.extend(format.encoding().split(' '));
    words.push("pipe:1");
    words.into_iter().map(str::to_owned).collect()
}

/// What Termux:API is told, to record into a file. Its limit is in whole seconds, and ends it should nobody do.
pub(super) fn termux_records(file: &Path, duration: Duration) -> Vec<String> {
    let limit = (duration.as_secs() + 1).to_string();
    let file = file.to_string_lossy();
    ["termux-microphone-record", "-f", &file, "-l", &limit, "-e", "aac"]
        .map(str::to_owned)
        .into()
}

/// Where sound goes: the owner's arguments of ffmpeg that open a loudspeaker, e.g. `["-f", "alsa", "hw:1"]`; none: the system's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Speaker(Vec<String>);

/// What plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Player {
    /// With the arguments that open the loudspeaker.
    Ffmpeg(Vec<String>),
    /// Of PulseAudio.
    Paplay,
    /// Of ALSA; plays WAV alone.
    Aplay,
    /// Of macOS.
    Afplay,
    Termux,
}

impl Player {
    /// The one that works here.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find(installed: &Installed, Speaker(own): Speaker) -> Result<Self, String> {
        let has_ffmpeg = installed.has("ffmpeg");
        if !own.is_empty() {
            return if has_ffmpeg {
                Ok(Self::Ffmpeg(own))
            } else {
                Err("audio.speaker of node.json needs ffmpeg; install it (apt install ffmpeg)".to_owned())
            };
        }
        if installed.has("termux-media-player") {
            return Ok(Self::Termux);
        }
        if cfg!(target_os = "macos") {
            return Ok(Self::Afplay);
        }
        if !cfg!(target_os = "linux") {
            return Err("this system has no player that atoll-node knows".to_owned());
        }
        let words = |words: &str| words.split(' ').map(str::to_owned).collect();
        match Output::find(installed) {
            Some(Output::Pulse) if has_ffmpeg => Ok(Self::Ffmpeg(words("-f pulse atoll"))),
            Some(Output::Alsa) if has_ffmpeg => Ok(Self::Ffmpeg(words("-f alsa default"))),
            Some(Output::Pulse) if installed.has("paplay") => Ok(Self::Paplay),
            Some(Output::Alsa) if installed.has("aplay") => Ok(Self::Aplay),
            Some(_) => Err("there is no ffmpeg in PATH, which plays; install it (apt install ffmpeg), then start atoll-node again".to_owned()),
            None => Err("there is no loudspeaker: no sound server in $XDG_RUNTIME_DIR/pulse, and no device for playing in /proc/asound/pcm; \
                 start atoll-node in the session of a person, or name one in audio.speaker of node.json"
                .to_owned()),
        }
    }

    /// Program and arguments.
    ///
    /// # Errors
    /// It does not play this kind.
    pub(super) fn argv(&self, file: &Path, kind: Kind) -> Result<Vec<String>, String> {
        let file = file.to_string_lossy();
        let words: Vec<&str> = match self {
            Self::Ffmpeg(speaker) => {
                let head = "ffmpeg -hide_banner -loglevel error -nostdin -y -protocol_whitelist file -f";
                let mut words: Vec<&str> = head.split(' ').collect();
                words.extend([kind.demuxer(), "-i", &file, "-vn"]);
                words.extend(speaker.iter().map(String::as_str));
                words
            }
            Self::Aplay if kind != Kind::Wav => {
                return Err("aplay plays WAV alone; install ffmpeg for the others".to_owned());
            }
            Self::Paplay => vec!["paplay", &file],
            Self::Aplay => vec!["aplay", "-q", &file],
            Self::Afplay => vec!["afplay", &file],
            Self::Termux => vec!["termux-media-player", "play", &file],
        };
        Ok(words.into_iter().map(str::to_owned).collect())
    }
}

enum Output {
    Pulse,
    Alsa,
}

impl Output {
    fn find(installed: &Installed) -> Option<Self> {
        let socket = |folder: &str| Path::new(folder).join("pulse/native").exists();
        if installed.variable("PULSE_SERVER").is_some() || installed.variable("XDG_RUNTIME_DIR").is_some_and(socket) {
            return Some(Self::Pulse);
        }
        let devices = std::fs::read_to_string("/proc/asound/pcm").unwrap_or_default();
        devices.contains("playback").then_some(Self::Alsa)
    }
}

/// What speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// Gives a sound, which is then played as any other.
    Espeak,
    /// Of Speech Dispatcher.
    SpdSay,
    /// Of macOS.
    Say,
    Termux,
}

impl Voice {
    /// The one that works here.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find(installed: &Installed) -> Result<Self, String> {
        let known = [
            (Self::Termux, "termux-tts-speak"),
            (Self::Espeak, "espeak-ng"),
            (Self::SpdSay, "spd-say"),
            (Self::Say, "say"),
        ];
        let found = known.into_iter().find(|(voice, program)| {
            // A program of that name elsewhere is something else.
            (*voice != Self::Say || cfg!(target_os = "macos")) && installed.has(program)
        });
        let missing = "there is no espeak-ng in PATH, which speaks; install it (apt install espeak-ng), then start atoll-node again";
        found.map(|(voice, _)| voice).ok_or_else(|| missing.to_owned())
    }

    pub(super) fn speaks_itself(self) -> bool {
        self != Self::Espeak
    }

    /// What it is told; the text is never an option.
    pub(super) fn task(self, text: &str, language: Option<&str>, voice: Option<&str>) -> Task {
        let mut words = match self {
            Self::Termux => vec!["termux-tts-speak"],
            Self::Espeak => vec!["espeak-ng", "--stdin", "--stdout"],
            Self::SpdSay => vec!["spd-say", "--wait"],
            Self::Say => vec!["say", "-f", "-"],
        };
        match (self, voice, language) {
            (Self::Espeak | Self::Say, Some(name), _) | (Self::Espeak, None, Some(name)) => words.extend(["-v", name]),
            (Self::SpdSay, Some(name), _) => words.extend(["-y", name]),
            (Self::SpdSay | Self::Termux, _, Some(name)) => words.extend(["-l", name]),
            (Self::Say | Self::Termux, ..) | (Self::Espeak | Self::SpdSay, None, None) => {}
        }
        if self == Self::SpdSay {
            words.extend(["--", text]);
            return Task::new(words);
        }
        Task {
            stdin: text.as_bytes().to_vec(),
            ..Task::new(words)
        }
    }
}
