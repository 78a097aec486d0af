//! What the owner says about cameras: the section `camera` of `node.json`. Read afresh for every call.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::owned::{OWNERS_FILE, read_trusted};

/// The id of the test pattern.
pub(crate) const PATTERN: &str = "test";

/// Where a camera looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Position {
    /// At whoever uses the device.
    Front,
    /// Away from them.
    Back,
    /// Nobody has said.
    #[default]
    Unknown,
}

impl Position {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Back => "back",
            Self::Unknown => "unknown",
        }
    }
}

/// A camera behind a program of the owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Program {
    /// What callers name it by.
    pub(crate) id: String,
    /// For people.
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) position: Position,
    /// Program and arguments that take one picture, JPEG: into the file `{file}`, or without that to standard output. `{width}` is the
    /// width that is wanted, pixels.
    pub(crate) snap: Vec<String>,
    /// Program and arguments that write one JPEG after the other to standard output; none: pictures are taken one by one.
    #[serde(default)]
    pub(crate) stream: Vec<String>,
}

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Microphone {
    /// `true`: the system's own. `false`: none.
    System(bool),
    /// Arguments of ffmpeg that open it, e.g. `["-f", "alsa", "-i", "hw:1"]`.
    Arguments(Vec<String>),
}

impl Default for Microphone {
    fn default() -> Self {
        Self::System(false)
    }
}

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Cameras behind programs.
    pub(crate) commands: Vec<Program>,
    /// The camera that is meant when a call names none.
    pub(crate) default: Option<String>,
    /// Where the cameras of the system look, by id.
    pub(crate) positions: std::collections::BTreeMap<String, Position>,
    /// Whether there is a test pattern among the cameras.
    pub(crate) test_pattern: bool,
    /// For clips.
    pub(crate) microphone: Microphone,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    camera: Settings,
}

/// The owner's file.
#[derive(Debug, Clone)]
pub(crate) struct SettingsFile(PathBuf);

impl SettingsFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(OWNERS_FILE))
    }

    /// What it says now; without a file, the defaults. Waits for the disk.
    ///
    /// # Errors
    /// A sentence with the path, when it cannot be used as it is.
    pub(crate) fn load(&self) -> Result<Settings, String> {
        let broken = |why: String| format!("{} cannot be used: {why}", self.0.display());
        match read_trusted(&self.0) {
            Ok(Some(text)) => parse(&text).map_err(broken),
            Ok(None) => Ok(Settings::default()),
            Err(error) => Err(broken(error.to_string())),
        }
    }
}

fn parse(text: &str) -> Result<Settings, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let settings = document.camera;
    let mut ids = vec![PATTERN];
    for program in &settings.commands {
        if program.id.is_empty() || ids.contains(&program.id.as_str()) {
            return Err(format!(
                "camera.commands: the id \"{}\" is empty, taken twice or \"{PATTERN}\"",
                program.id
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
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("[", "EOF"),
        ] {
            let error = parse(text).expect_err("wrong");
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_microphone_is_on_off_or_told_how() {
        let with = |text: &str| parse(&format!(r#"{{"camera": {{"microphone": {text}}}}}"#)).map(|it| it.microphone);
        assert_eq!(with("true"), Ok(Microphone::System(true)));
        assert_eq!(
            with(r#"["-i", "x"]"#),
            Ok(Microphone::Arguments(vec!["-i".into(), "x".into()]))
        );
        assert_eq!(parse("{}").expect("fine").microphone, Microphone::System(false));
    }
}
