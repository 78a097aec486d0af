//! What the owner says about cameras: the section `camera` of `node.json`. Read afresh for every call.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::pattern;
use crate::capture::sound::Microphone;
use crate::owned;

/// Where a camera looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Position {
    /// At whoever uses the device.
    Front,
    /// Away from them.
    Back,
    /// Nobody has said.
    #[default]
    Unknown,
}

impl Position {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Back => "back",
            Self::Unknown => "unknown",
        }
    }
}

/// A camera behind programs of the owner's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Program {
    /// What callers name it by.
    pub(super) id: String,
    /// For people.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) position: Position,
    /// Program and arguments that take one picture, JPEG: into the file `{file}`, or without that to standard output. `{width}` is the
    /// width that is wanted, pixels.
    pub(super) snap: Vec<String>,
    /// Program and arguments that write one JPEG after the other to standard output; none: pictures are taken one by one.
    #[serde(default)]
    pub(super) stream: Vec<String>,
}

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Settings {
    /// Cameras behind programs.
    pub(super) commands: Vec<Program>,
    /// The camera that is meant when a call names none.
    pub(super) default: Option<String>,
    /// Where the cameras of the system look, by id.
    pub(super) positions: std::collections::BTreeMap<String, Position>,
    /// Whether there is a test pattern among the cameras.
    pub(super) test_pattern: bool,
    /// For clips.
    pub(super) microphone: Microphone,
}

/// What the owner's file in `state_dir` says now; without a file, the defaults. Waits for the disk.
///
/// # Errors
/// A sentence with the path, when it cannot be used as it is.
pub(super) fn load(state_dir: &Path) -> Result<Settings, String> {
    owned::section(state_dir, "camera", check)
}

/// What serde does not know.
fn check(settings: &Settings) -> Result<(), String> {
    let mut ids = vec![pattern::ID];
    for program in &settings.commands {
        if program.id.is_empty() || ids.contains(&program.id.as_str()) {
            return Err(format!(
                "camera.commands: the id \"{}\" is empty, taken twice or \"{}\"",
                program.id,
                pattern::ID
            ));
        }
        if program.snap.first().is_none_or(String::is_empty) {
            return Err(format!(
                "camera.commands: \"{}\" has no program in snap, e.g. [\"rpicam-still\", \"-o\", \"-\"]",
                program.id
            ));
        }
        ids.push(&program.id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        owned::parse(text, "camera", check)
    }

    #[test]
    fn a_file_says_what_is_meant_or_what_is_wrong() {
        let settings = parse(r#"{"commands": {}, "camera": {"testPattern": true, "default": "pi"}}"#).expect("fine");
        assert!(settings.test_pattern);
        assert_eq!(settings.default.as_deref(), Some("pi"));
        assert_eq!(parse("{}"), Ok(Settings::default()));
        for (text, word) in [
            (r#"{"camera": {"testPatern": true}}"#, "testPatern"),
            (r#"{"camera": {"commands": [{"id": "test", "snap": ["x"]}]}}"#, "test"),
            (r#"{"camera": {"commands": [{"id": "a", "snap": []}]}}"#, "no program"),
            (
                r#"{"camera": {"commands": [{"id": "a", "snap": ["x"]}, {"id": "a", "snap": ["x"]}]}}"#,
                "twice",
            ),
            (r#"{"camera": {"positions": {"x": "left"}}}"#, "left"),
            ("{", "EOF"),
        ] {
            let error = parse(text).expect_err("wrong");
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
