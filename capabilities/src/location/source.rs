//! Whom a device asks where it is: the section `location` of `node.json`, and what is installed. What the owner names there is the only
//! one; without, the system is asked.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::Accuracy;
use super::fix::{Fix, Said, is_whole, of_geoclue, of_json};
use crate::installed::{Installed, Task};

/// GeoClue's own demonstration, as distributions install it. It holds one connection for the whole of its question, which GeoClue wants.
const GEOCLUE: [&str; 3] = [
    "where-am-i",
    "/usr/libexec/geoclue-2.0/demos/where-am-i",
    "/usr/lib/geoclue-2.0/demos/where-am-i",
];

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// A device that does not move: `{"lat": 52.52, "lon": 13.4}`.
    fixed: Option<Said>,
    /// Program and arguments that print JSON.
    command: Vec<String>,
}

impl Settings {
    /// Whom to ask, one after the other.
    ///
    /// # Errors
    /// Nobody, and what to do about it.
    pub(super) fn sources(self, installed: &Installed) -> Result<Vec<Source>, String> {
        if let Some(fixed) = self.fixed {
            fixed
                .fix(Timestamp::now())
                .map_err(|why| format!("location.fixed in node.json: {why}"))?;
            return Ok(vec![Source::Fixed(fixed)]);
        }
        if !self.command.is_empty() {
            return Ok(vec![Source::Command(self.command)]);
        }
        let mut sources = Vec::new();
        if installed.has("termux-location") {
            sources.push(Source::Termux);
        }
        if let Some(program) = GEOCLUE.iter().find(|program| installed.has(program)) {
            sources.push(Source::GeoClue(program));
        }
        if sources.is_empty() {
            return Err(
                "nobody here knows where this device is; write location.fixed or location.command into node.json, or install GeoClue's \
                 where-am-i (apt install geoclue-2.0 geoclue-2-demo) or Termux:API, then start atoll-node again"
                    .to_owned(),
            );
        }
        Ok(sources)
    }
}

/// Somebody who knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// The owner's file.
    Fixed(Said),
    /// A program of the owner's.
    Command(Vec<String>),
    /// Of Termux:API.
    Termux,
    /// On desktops that follow freedesktop.org; with its program.
    GeoClue(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("location.fixed"),
            Self::Command(argv) => write!(f, "location.command ({})", argv.first().map_or("", String::as_str)),
            Self::Termux => f.write_str("termux-location"),
            Self::GeoClue(_) => f.write_str("GeoClue"),
        }
    }
}

/// Why somebody does not know.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) is_late: bool,
}

impl Source {
    /// Asks, until a time.
    pub(super) async fn ask(&self, installed: &Installed, accuracy: Accuracy, until: Instant) -> Result<Fix, Failure> {
        let failed = |why: String| Failure {
            why: format!("{self}: {why}"),
            is_late: false,
        };
        if let Self::Fixed(said) = self {
            return said.fix(Timestamp::now()).map_err(failed);
        }
        let output = installed.run(self.task(accuracy, until), until).await;
        let output = output.map_err(|error| Failure {
            is_late: error.is_late(),
            ..failed(error.to_string())
        })?;
        let read = match self {
            Self::GeoClue(_) => of_geoclue,
            Self::Fixed(_) | Self::Command(_) | Self::Termux => of_json,
        };
        read(&output, Timestamp::now()).map_err(failed)
    }

    fn task(&self, accuracy: Accuracy, until: Instant) -> Task {
        match self {
            Self::Fixed(_) => Task::default(),
            Self::Command(argv) => Task::new(argv),
            Self::Termux => {
                let provider = if accuracy == Accuracy::Precise {
                    "gps"
                } else {
                    "network"
                };
                Task::new(["termux-location", "-p", provider, "-r", "once"])
            }
            Self::GeoClue(program) => {
                // Levels of GeoClue: a city, a street, exact.
                let level = match accuracy {
                    Accuracy::Coarse => "4",
                    Accuracy::Balanced => "6",
                    Accuracy::Precise => "8",
                };
                let seconds = until.saturating_duration_since(Instant::now()).as_secs() + 1;
                let task = Task::new([program, "-a", level, "-t", &seconds.to_string()]);
                Task {
                    // For points in numbers.
                    env: &[("LC_ALL", "C")],
                    enough: Some(is_whole),
                    ..task
                }
            }
        }
    }
}
