//! What the owner says about screens: the section `screen` of `node.json`. Read afresh for every call.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::capture::program;
use crate::capture::sound::Microphone;
use crate::owned;

/// A screen that programs of the owner's see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Program {
    /// For people.
    #[serde(default)]
    pub(super) name: String,
    /// Program and arguments that take one picture, JPEG or PNG: into the file `{file}`, or without that to standard output. `{width}` is the
    /// width that is wanted, pixels.
    pub(super) snap: Vec<String>,
    /// Program and arguments that write one JPEG after the other to standard output; none: pictures are taken one by one.
    #[serde(default)]
    pub(super) stream: Vec<String>,
}

impl Program {
    /// A row of `screen.list`. How large it is only its pictures tell.
    pub(super) fn json(&self, index: usize) -> Value {
        let name = if self.name.is_empty() { "screen" } else { &self.name };
        json!({"index": index, "name": name, "primary": index == 0})
    }

    pub(super) fn program(&self, index: usize) -> program::Program {
        program::Program {
            what: format!("screen {index}"),
            snap: self.snap.clone(),
            stream: self.stream.clone(),
        }
    }
}

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Settings {
    /// The X display, e.g. `:0`. None: what `DISPLAY` says.
    pub(super) display: Option<String>,
    /// The file that opens it. None: what `XAUTHORITY` says, else `.Xauthority` in the home folder.
    pub(super) xauthority: Option<String>,
    /// One for each screen, in the place of what the system has.
    pub(super) commands: Vec<Program>,
    /// For recordings.
    pub(super) microphone: Microphone,
}

impl Settings {
    /// What a helper has in its environment besides the usual.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let own = |name: &str| std::env::var(name).ok();
        let values = [
            ("DISPLAY", self.display.clone().or_else(|| own("DISPLAY"))),
            ("XAUTHORITY", self.xauthority.clone().or_else(|| own("XAUTHORITY"))),
        ];
        let known = values
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        known.collect()
    }
}

/// What the owner's file in `state_dir` says now; without a file, the defaults. Waits for the disk.
///
/// # Errors
/// A sentence with the path, when it cannot be used as it is.
pub(super) fn load(state_dir: &Path) -> Result<Settings, String> {
    owned::section(state_dir, "screen", check)
}

/// What serde does not know.
fn check(settings: &Settings) -> Result<(), String> {
    let has_none = |program: &Program| program.snap.first().is_none_or(String::is_empty);
    if let Some(number) = settings.commands.iter().position(has_none) {
        return Err(format!(
            "screen.commands: number {number} has no program in snap, e.g. [\"grim\", \"-\"]"
        ));
    }
    if settings.display.as_deref().is_some_and(|display| !is_display(display)) {
        return Err("screen.display is no display, which is written e.g. \":0\"".to_owned());
    }
    Ok(())
}

/// Whether it ends as `:0` or `:0.1` do. A display has a TCP port from 6000 on, so that is where its numbers end.
fn is_display(text: &str) -> bool {
    let number = text.rsplit_once(':').and_then(|(_, number)| number.split('.').next());
    let number = number.and_then(|number| number.parse::<u16>().ok());
    number.is_some_and(|number| number <= u16::MAX - 6000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        owned::parse(text, "screen", check)
    }

    #[test]
    fn a_file_says_what_is_meant_or_what_is_wrong() {
        let told = parse(r#"{"screen": {"display": ":7", "xauthority": "x"}, "camera": 1}"#).expect("fine");
        let environment = told.environment();
        assert_eq!(
            (environment["DISPLAY"].as_str(), environment["XAUTHORITY"].as_str()),
            (":7", "x")
        );
        assert_eq!(parse("{}"), Ok(Settings::default()));
        for (text, word) in [
            (r#"{"screen": {"dislpay": ":0"}}"#, "dislpay"),
            (r#"{"screen": {"display": "0"}}"#, "\":0\""),
            (r#"{"screen": {"display": ":60000"}}"#, "\":0\""),
            (r#"{"screen": {"commands": [{"snap": []}]}}"#, "number 0"),
            (r#"{"screen": {"commands": [{"id": "a", "snap": ["x"]}]}}"#, "id"),
        ] {
            let error = parse(text).expect_err("wrong");
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
