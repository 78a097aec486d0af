//! The sound of clips: where the owner says that it comes from, and the arguments of ffmpeg that open it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Subject;

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

/// The arguments that open a microphone; the error says why there is none, and what to do.
pub(crate) fn arguments(microphone: &Microphone, subject: Subject) -> Result<Vec<String>, String> {
    let words = |words: &str| Ok(words.split(' ').map(str::to_owned).collect());
    match microphone {
        Microphone::Arguments(arguments) => Ok(arguments.clone()),
        Microphone::System(false) => Err(format!(
            "the microphone is off; its owner turns it on with \"microphone\": true in the section {} of node.json",
            subject.word()
        )),
        Microphone::System(true) if cfg!(target_os = "macos") => words("-f avfoundation -i :default"),
        Microphone::System(true) if cfg!(target_os = "linux") => {
            let records = std::fs::read_to_string("/proc/asound/pcm").is_ok_and(|list| list.contains("capture"));
            if has_pulse() {
                words("-f pulse -i default")
            } else if records {
                words("-f alsa -i default")
            } else {
                Err(
                    "there is no microphone: no sound server, and no device for recording in /proc/asound/pcm"
                        .to_owned(),
                )
            }
        }
        Microphone::System(true) => Err(format!(
            "this system has no microphone that ffmpeg finds by itself; name its arguments in {}.microphone of node.json",
            subject.word()
        )),
    }
}

/// [`arguments`], unless there is a reason for the microphone to stay off.
pub(crate) fn unless(silent: Option<String>, microphone: &Microphone, subject: Subject) -> Result<Vec<String>, String> {
    silent.map_or_else(|| arguments(microphone, subject), Err)
}

fn has_pulse() -> bool {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    folder.is_some_and(|folder| folder.join("pulse/native").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_is_on_off_or_told_how() {
        let read = |text: &str| serde_json::from_str::<Microphone>(text).expect("fine");
        assert_eq!(read("true"), Microphone::System(true));
        assert_eq!(
            read(r#"["-i", "x"]"#),
            Microphone::Arguments(vec!["-i".into(), "x".into()])
        );
        assert_eq!(Microphone::default(), Microphone::System(false));
        let off = arguments(&Microphone::default(), Subject::Camera).expect_err("off");
        assert!(off.contains("node.json") && off.contains("camera"), "{off}");
        assert_eq!(arguments(&read(r#"["a"]"#), Subject::Camera), Ok(vec!["a".to_owned()]));
    }
}
