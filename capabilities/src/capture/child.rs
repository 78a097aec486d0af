//! The node's side of the helper: starts it, gives it its job, takes what it says, and makes sure that it and all it started are dead
//! when this says so.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_protocol::error::CallError;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Subject;
use super::job::ARGUMENT;
use super::wire::{Job, Message, Trouble, WireError, hear, job};
use crate::group::Group;
use crate::last_words::remember;
use crate::system_run::environment;

/// How a helper is started: this very program, told to be one.
#[derive(Debug, Clone)]
pub struct HelperProgram {
    program: PathBuf,
    arguments: Vec<OsString>,
    env: BTreeMap<String, String>,
}

impl HelperProgram {
    /// The program that runs now, with [`ARGUMENT`] as its argument and the part of its environment that commands see.
    pub fn this() -> Self {
        // Still the same one after it was replaced on the disk.
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe().unwrap_or_else(|_| "atoll-node".into())
        };
        let all = std::env::vars_os();
        let all = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self {
            program,
            arguments: vec![ARGUMENT.into()],
            env: environment::base(all),
        }
    }

    /// With more in its environment.
    pub(super) fn within(mut self, environment: BTreeMap<String, String>) -> Self {
        self.env.extend(environment);
        self
    }

    /// Another one, for tests.
    #[cfg(all(test, unix))]
    pub(crate) fn shell(script: &str) -> Self {
        Self {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            ..Self::this()
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// One helper at work. Dropping it kills it and what it started.
#[derive(Debug)]
pub(super) struct Helper {
    subject: Subject,
    group: Group,
    /// Its end tells the helper that the node is gone.
    _stdin: ChildStdin,
    heard: mpsc::Receiver<Result<Message, WireError>>,
    last_words: Arc<Mutex<Vec<u8>>>,
    _listening: [AbortOnDropHandle<()>; 2],
    /// Where it and its programs put what they make on the way. This process's, since the helper may be killed at any time.
    _scratch: TempDir,
}

impl Helper {
    /// Starts one and gives it its job.
    ///
    /// # Errors
    /// It does not start, or does not take the job.
    pub(super) async fn start(subject: Subject, program: &HelperProgram, given: &Job) -> Result<Self, CallError> {
        let word = subject.word();
        let broken =
            |error: &dyn std::fmt::Display| subject.unavailable(format!("the {word} helper does not start: {error}"));
        let words = job(given).map_err(|error| broken(&error))?;
        let scratch = tempfile::tempdir().map_err(|error| broken(&error))?;
        let mut command = program.command();
        for name in ["TMPDIR", "TMP", "TEMP"] {
            command.env(name, scratch.path());
        }
        let mut group = Group::spawn(command).map_err(|error| broken(&error))?;
        let child = group.child();
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(broken(&"it has no pipes"));
        };
        let (say, heard) = mpsc::channel(1);
        let last_words = Arc::new(Mutex::new(Vec::new()));
        let listening = [
            AbortOnDropHandle::new(tokio::spawn(listen(stdout, say))),
            AbortOnDropHandle::new(tokio::spawn(remember(stderr, last_words.clone()))),
        ];
        // It may have ended already; then it says so itself, or nothing.
        let _ = stdin.write_all(&words).await;
        Ok(Self {
            subject,
            group,
            _stdin: stdin,
            heard,
            last_words,
            _listening: listening,
            _scratch: scratch,
        })
    }

    /// What it says next. Loses nothing when dropped.
    ///
    /// # Errors
    /// It cannot do its job, or has crashed; the message says so.
    pub(super) async fn next(&mut self) -> Result<Message, CallError> {
        match self.heard.recv().await {
            Some(Ok(Message::Failed(Trouble { code, message }))) => Err(match code {
                Some(code) => CallError::new(code, message),
                None => self.subject.unavailable(message),
            }),
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => {
                self.group.kill().await;
                let word = self.subject.word();
                Err(self
                    .subject
                    .unavailable(format!("the {word} helper cannot be understood: {error}")))
            }
            None => Err(self.crashed().await),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        self.subject
    }

    /// Ends it.
    pub(super) async fn end(mut self) {
        self.group.kill().await;
    }

    async fn crashed(&mut self) -> CallError {
        let status = self.group.kill().await;
        let how = status.map_or_else(|| "it is gone".to_owned(), |status| status.to_string());
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words);
        let words = match words.trim() {
            "" => String::new(),
            words => format!("; its last words: {words}"),
        };
        let word = self.subject.word();
        self.subject
            .unavailable(format!("the {word} helper crashed ({how}){words}. Try again"))
    }
}

/// Reads what the helper says, as fast as it is taken.
async fn listen(mut stdout: impl AsyncRead + Unpin, say: mpsc::Sender<Result<Message, WireError>>) {
    while let Some(message) = hear(&mut stdout).await.transpose() {
        let is_over = message.is_err();
        if say.send(message).await.is_err() || is_over {
            return;
        }
    }
}
