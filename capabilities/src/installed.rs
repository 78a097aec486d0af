//! Programs of the system that do one small thing for a capability: looked for in `PATH`, started without a shell in a process group of
//! their own, heard within bounds, dead when their time is over. Knows none of them by name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use atoll_protocol::error::CallError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::group::{GRACE, Group};
use crate::system_run::environment;
use crate::system_run::program::{in_path, is_program};

/// Variables that these programs see beyond those that every command sees: where the display's key and the sound are.
const SEEN: [&str; 4] = ["XAUTHORITY", "PULSE_SERVER", "PULSE_COOKIE", "PIPEWIRE_REMOTE"];

/// What is repeated of a complaint, bytes. The rest is read and dropped.
const COMPLAINT: usize = 1_000;

/// How long the output may still come after the program itself has ended: whoever inherited the pipe is not waited for.
const DRAIN: Duration = Duration::from_millis(250);

/// The programs of this device, and the environment that they see.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    env: BTreeMap<String, String>,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Variables beyond the usual ones.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// What it reads.
    pub(crate) stdin: Vec<u8>,
    /// The most that it may write, bytes. More is an error.
    pub(crate) most: usize,
    /// Says of what it wrote so far that no more is wanted; then it is ended.
    pub(crate) enough: Option<fn(&[u8]) -> bool>,
}

impl Task {
    /// Without input, for a program that says little.
    pub(crate) fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            most: 64 * 1024,
            ..Self::default()
        }
    }
}

/// Why a program did not do its work. Its words, where it has said some, are in the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It is not there, or may not be run.
    #[error("{program} does not start: {error}; is it installed and in PATH?")]
    NotStarted {
        /// Its name.
        program: String,
        /// The system's word.
        error: io::Error,
    },
    /// Its time was over, so it is dead.
    #[error("{program} did not end within {:.1} s, so it was ended", .time.as_secs_f32())]
    Late {
        /// Its name.
        program: String,
        /// What it had.
        time: Duration,
    },
    /// It wrote more than is wanted, so it is dead.
    #[error("{program} gave more than {most} bytes")]
    TooMuch {
        /// Its name.
        program: String,
        /// What is allowed.
        most: usize,
    },
    /// It says that it failed.
    #[error("{program} ended with {status}{complaint}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, with the words that go before.
        complaint: String,
    },
    /// The system does not say how it ended.
    #[error("{program} was lost: {error}")]
    Lost {
        /// Its name.
        program: String,
        /// The system's word.
        error: io::Error,
    },
}

impl ProgramError {
    /// Its time was over.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }
}

impl Installed {
    /// Those that this process sees.
    pub(crate) fn here() -> Self {
        let all = std::env::vars_os();
        let all = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::among(all)
    }

    /// Those of another environment.
    pub(crate) fn among(all: impl Iterator<Item = (String, String)>) -> Self {
        let (seen, rest): (Vec<_>, Vec<_>) = all.partition(|(name, _)| SEEN.contains(&name.as_str()));
        let mut env = environment::base(rest.into_iter());
        env.extend(seen);
        Self { env }
    }

    /// Where a program is, by its name or by an absolute path.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        match Path::new(program) {
            path if path.is_absolute() => is_program(path).then(|| path.to_owned()),
            _ => in_path(program, self.variable("PATH").unwrap_or_default()),
        }
    }

    /// Whether there is such a program.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.find(program).is_some()
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A program with the environment that they see.
    pub(crate) fn command(&self, path: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(path);
        command.env_clear().envs(&self.env);
        command
    }

    /// Runs a program to its end and gives what it wrote. Dropping the future kills its process group.
    ///
    /// # Errors
    /// See [`ProgramError`]; the process group is dead.
    pub(crate) async fn run(&self, task: Task, until: Instant) -> Result<Vec<u8>, ProgramError> {
        let program = task.argv.first().cloned().unwrap_or_default();
        let began = Instant::now();
        let mut group = self.start(&task, Stdio::piped())?;
        match timeout_at(until, attend(&mut group, &task)).await {
            Ok(ended) => ended,
            Err(_) => {
                group.kill().await;
                let time = until.saturating_duration_since(began);
                Err(ProgramError::Late { program, time })
            }
        }
    }

    /// Starts a program that stays as long as what this gives, and kills its process group after that.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn hold(&self, task: Task) -> Result<AbortOnDropHandle<Result<Vec<u8>, ProgramError>>, ProgramError> {
        let mut group = self.start(&task, Stdio::null())?;
        let staying = async move { attend(&mut group, &task).await };
        Ok(AbortOnDropHandle::new(tokio::spawn(staying)))
    }

    fn start(&self, task: &Task, stdout: Stdio) -> Result<Group, ProgramError> {
        let name = task.argv.first().cloned().unwrap_or_default();
        let not_started = |error| ProgramError::NotStarted {
            program: name.clone(),
            error,
        };
        let path = self
            .find(&name)
            .ok_or_else(|| not_started(io::ErrorKind::NotFound.into()))?;
        let mut command = self.command(path);
        command
            .args(task.argv.iter().skip(1))
            .envs(task.env.iter().copied())
            .stdin(if task.stdin.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(stdout)
            .stderr(Stdio::piped());
        Group::spawn(command).map_err(not_started)
    }
}

/// Why the talk with a program is over.
enum Over {
    Closed,
    Enough,
    TooMuch,
}

async fn attend(group: &mut Group, task: &Task) -> Result<Vec<u8>, ProgramError> {
    let child = group.child();
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let ended = {
        let talk = talk(task, stdin, (stdout, &mut output), (stderr, &mut complaint));
        tokio::pin!(talk);
        let over = tokio::select! {
            over = &mut talk => Err(over),
            ended = group.wait() => {
                let over = timeout(DRAIN, &mut talk).await.unwrap_or(Over::Closed);
                Ok((ended, over))
            }
        };
        match over {
            Ok((ended, over)) => ended.map(|status| (Some(status), over)),
            Err(Over::Closed) => group.wait().await.map(|status| (Some(status), Over::Closed)),
            Err(over) => {
                group.kill().await;
                Ok((None, over))
            }
        }
    };
    let program = task.argv.first().cloned().unwrap_or_default();
    match ended {
        Err(error) => Err(ProgramError::Lost { program, error }),
        Ok((_, Over::TooMuch)) => Err(ProgramError::TooMuch {
            program,
            most: task.most,
        }),
        Ok((Some(status), Over::Closed)) if !status.success() => {
            let complaint = repeated(&complaint);
            Err(ProgramError::Failed {
                program,
                status,
                complaint,
            })
        }
        Ok(_) => Ok(output),
    }
}

/// What a program said of its failure, to go behind how it ended.
fn repeated(complaint: &[u8]) -> String {
    match String::from_utf8_lossy(complaint).trim() {
        "" => String::new(),
        text => format!("; it says: {text}"),
    }
}

/// Feeds and hears a program until it has closed its pipes, or nothing more is wanted.
async fn talk(
    task: &Task,
    stdin: Option<ChildStdin>,
    (stdout, output): (Option<impl AsyncRead + Unpin>, &mut Vec<u8>),
    (stderr, complaint): (Option<impl AsyncRead + Unpin>, &mut Vec<u8>),
) -> Over {
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input to the end is no error.
            let _ = stdin.write_all(&task.stdin).await;
        }
    };
    let hear = async {
        let Some(mut stdout) = stdout else { return Over::Closed };
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
            output.extend_from_slice(&buffer[..count]);
            if output.len() > task.most {
                return Over::TooMuch;
            }
            if task.enough.is_some_and(|enough| enough(output)) {
                return Over::Enough;
            }
        }
        Over::Closed
    };
    let complaints = async {
        let Some(mut stderr) = stderr else { return };
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            let room = COMPLAINT.saturating_sub(complaint.len());
            complaint.extend_from_slice(&buffer[..count.min(room)]);
        }
    };
    let rest = async { tokio::join!(feed, complaints) };
    tokio::pin!(hear, rest);
    tokio::select! {
        over = &mut hear => {
            if matches!(over, Over::Closed) {
                rest.await;
            }
            over
        }
        _ = &mut rest => hear.await,
    }
}

/// When work must be over: a little before the caller stops waiting, and not later than it can take.
pub(crate) fn until(deadline: Duration, most: Duration) -> Instant {
    Instant::now() + deadline.saturating_sub(GRACE.min(deadline / 2)).min(most)
}

/// Drops the work, and with it what it started, when the call is cancelled.
///
/// # Errors
/// Those of the work, and `CANCELLED`.
pub(crate) async fn unless_cancelled<T>(
    cancel: CancellationToken,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(CallError::new("CANCELLED", "the call was cancelled; what it had started is dead")),
        done = work => done,
    }
}

#[cfg(all(test, unix))]
pub(crate) mod tests {
    use super::*;

    /// Programs of that name that are these scripts, and nothing else but what a shell needs.
    pub(crate) fn scripts(scripts: &[(&str, &str)], env: &[(&str, &str)]) -> (tempfile::TempDir, Installed) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        for (name, script) in scripts {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).expect("room");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("ours");
        }
        let path = folder.path().to_string_lossy().into_owned();
        let all = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let installed = Installed::among(all.chain([("PATH".to_owned(), path)]));
        (folder, installed)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    async fn ran(script: &str, change: impl FnOnce(&mut Task)) -> Result<Vec<u8>, ProgramError> {
        let (_folder, installed) = scripts(&[("it", script)], &[("SECRET", "x"), ("XAUTHORITY", "key")]);
        let mut task = Task::new(["it", "$(id)", "--", "a b"]);
        change(&mut task);
        installed.run(task, soon()).await
    }

    #[tokio::test]
    async fn a_program_gets_its_words_its_input_and_little_else() {
        let script = r#"printf '%s|' "$@"; cat; echo "|$XAUTHORITY|$SECRET""#;
        let output = ran(script, |task| task.stdin = b"input".to_vec()).await.expect("fine");
        assert_eq!(String::from_utf8_lossy(&output), "$(id)|--|a b|input|key|\n");
        let output = ran("cat", |_| {}).await.expect("no input is not waited for");
        assert!(output.is_empty());
    }

    #[tokio::test]
    async fn each_way_to_fail_says_which_program_and_why() {
        for (script, words) in [
            (
                "echo no display >&2; exit 3",
                "it ended with exit status: 3; it says: no display",
            ),
            ("exec head -c 100000 /dev/zero", "it gave more than 65536 bytes"),
            ("kill -9 $$", "it ended with signal: 9"),
        ] {
            let error = ran(script, |_| {}).await.expect_err("it fails").to_string();
            assert!(error.contains(words), "{script}: {error}");
        }
        let error = ran("", |task| task.argv[0] = "other".to_owned())
            .await
            .expect_err("none");
        assert!(error.to_string().starts_with("other does not start"), "{error}");
    }

    #[tokio::test]
    async fn a_long_complaint_is_cut_and_stops_nobody() {
        let error = ran("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1", |_| {}).await;
        assert!(error.expect_err("failed").to_string().len() < COMPLAINT + 100);
    }

    #[tokio::test]
    async fn a_program_that_has_said_enough_is_ended() {
        let output = ran("echo here; exec sleep 1000", |task| {
            task.enough = Some(|output| output.ends_with(b"here\n"));
        });
        assert_eq!(output.await.expect("enough"), b"here\n");
    }

    #[tokio::test]
    async fn whoever_inherits_the_pipes_is_not_waited_for() {
        let output = ran("sleep 3 & echo done", |_| {}).await;
        assert_eq!(output.expect("it ended"), b"done\n");
    }

    #[tokio::test]
    async fn a_late_program_dies_with_all_it_started() {
        let (folder, installed) = scripts(&[("it", "sleep 1000 & echo $! >$1; wait")], &[]);
        let pid = folder.path().join("pid");
        let task = Task::new(["it", &pid.to_string_lossy()]);
        let error = installed.run(task, Instant::now() + Duration::from_millis(500)).await;
        let error = error.expect_err("late");
        assert!(error.is_late() && error.to_string().contains("within 0.5 s"), "{error}");
        is_gone(&pid).await;
    }

    #[tokio::test]
    async fn what_is_held_dies_when_it_is_let_go() {
        let (folder, installed) = scripts(&[("it", "echo $$ >$1.part; mv $1.part $1; exec sleep 1000")], &[]);
        let pid = folder.path().join("pid");
        let held = installed
            .hold(Task::new(["it", &pid.to_string_lossy()]))
            .expect("it starts");
        while !pid.exists() {
            tokio::task::yield_now().await;
        }
        assert!(!held.is_finished());
        drop(held);
        is_gone(&pid).await;
    }

    /// Waits until the process whose number is in a file has ended.
    async fn is_gone(pid: &Path) {
        let number: i32 = std::fs::read_to_string(pid)
            .expect("written")
            .trim()
            .parse()
            .expect("a number");
        let number = rustix::process::Pid::from_raw(number).expect("a process id");
        let gone = async {
            while rustix::process::test_kill_process(number).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.expect("it is dead");
    }
}
