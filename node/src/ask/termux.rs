//! Android: a notification of Termux:API, whose buttons run `atoll-node answer`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use tokio::process::Command;

use super::{Question, Way};

/// What Termux:API brings.
const PROGRAM: &str = "termux-notification";
const REMOVE: &str = "termux-notification-remove";

/// Termux with its API.
#[derive(Debug)]
pub(super) struct Termux {
    program: PathBuf,
    state_dir: PathBuf,
}

impl Termux {
    /// None anywhere else.
    pub(super) fn find(state_dir: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut folders = std::env::split_paths(&path);
        let program = folders.find_map(|folder| Some(folder.join(PROGRAM)).filter(|file| file.is_file()))?;
        Some(Self {
            program,
            state_dir: state_dir.to_owned(),
        })
    }

    fn start(program: &Path, arguments: &[String]) {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
            Err(error) => tracing::warn!(%error, program = %program.display(), "nobody was asked"),
        }
    }

    fn question(&self, question: &Question, answer: &Path) -> Vec<String> {
        let action = |word: &str| {
            let (program, folder) = (quoted(answer), quoted(&self.state_dir));
            format!("{program} answer {} {word} --state-dir {folder}", question.id)
        };
        [
            "--id",
            &id(question),
            "--title",
            &format!("Allow {}?", question.command),
            "--content",
            &question.to_string(),
            "--priority",
            "max",
            "--button1",
            "Allow",
            "--button1-action",
            &action("yes"),
            "--button2",
            "Deny",
            "--button2-action",
            &action("no"),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

#[async_trait]
impl Way for Termux {
    fn name(&self) -> &'static str {
        "notification"
    }

    /// The answer comes over the board.
    async fn ask(&self, question: &Question) -> bool {
        let answer = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("atoll-node"));
        Self::start(&self.program, &self.question(question, &answer));
        let _shown = Shown {
            remove: self.program.with_file_name(REMOVE),
            id: id(question),
        };
        std::future::pending().await
    }

    fn show(&self, what: &str) {
        let words = ["--id", "atoll-use", "--title", "In use", "--content", what];
        Self::start(&self.program, &words.map(str::to_owned));
    }
}

fn id(question: &Question) -> String {
    format!("atoll-{}", question.id)
}

/// Termux runs actions in a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// A notification that waits; it goes with this.
struct Shown {
    remove: PathBuf,
    id: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            Termux::start(&self.remove, std::slice::from_ref(&self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_buttons_answer_the_question_that_is_shown_and_nothing_of_a_caller_comes_into_a_shell() {
        let termux = Termux {
            program: PROGRAM.into(),
            state_dir: "/data/it's".into(),
        };
        let question = Question {
            id: "k7qf".to_owned(),
            command: "camera.snap".to_owned(),
            about: "deviceId $(rm -rf /)".to_owned(),
            gateway: "gateway 12ab".to_owned(),
            patience: Duration::from_secs(30),
        };
        let words = termux.question(&question, Path::new("/bin/atoll-node"));
        let after = |name: &str| {
            let at = words.iter().position(|word| word == name).expect("there");
            words[at + 1].as_str()
        };
        assert_eq!(
            after("--button1-action"),
            r"'/bin/atoll-node' answer k7qf yes --state-dir '/data/it'\''s'"
        );
        assert_eq!(
            after("--button2-action"),
            r"'/bin/atoll-node' answer k7qf no --state-dir '/data/it'\''s'"
        );
        assert_eq!(
            after("--content"),
            "gateway 12ab wants camera.snap (deviceId $(rm -rf /))"
        );
    }
}
