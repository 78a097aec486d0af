//! Starts one program in a process group of its own, feeds and reads it, and makes sure that it is dead when its time is over.
//! Decides nothing about permission.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use atoll_protocol::calls::Said;
use atoll_protocol::frame::OutputStream;
use atoll_protocol::limits::{COMMAND_OUTPUT, PROGRESS_CHUNK};
use process_wrap::tokio::ChildWrapper;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::output::{Capture, Cutter};
use super::request::RunResult;
use crate::group::Group;

/// How long the output may still come after the program itself has ended: what it left in the pipe is there at once, and whoever
/// inherited the pipe is not waited for.
const DRAIN: Duration = Duration::from_millis(250);

/// How long whoever listens has for what lay in the pipe when the program ended.
const HEARING: Duration = Duration::from_secs(1);

/// One read, bytes; with what the last one left over and a note it stays below a chunk of progress.
const READ: usize = PROGRESS_CHUNK / 2;

/// The streams of [`Pipes`], in its order.
const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// Progress of one command, bytes. More is not passed on while it runs; the result says how much there was.
const PROGRESS_TOTAL: usize = 4 * 1024 * 1024;

/// Everything that decides what is started.
#[derive(Debug)]
pub(crate) struct Start {
    /// Absolute.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: PathBuf,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Option<String>,
}

/// How the wait for a program ended.
enum End {
    Exited(ExitStatus),
    Lost(io::Error),
    OutOfTime,
    Cancelled,
}

/// The call was cancelled; the whole process group is dead.
#[derive(Debug)]
pub(crate) struct Cancelled;

/// Runs a program to its end. Dropping the future kills its process group.
pub(crate) async fn run(
    start: Start,
    time: Duration,
    cancel: &CancellationToken,
    progress: &mpsc::Sender<Said>,
) -> Result<RunResult, Cancelled> {
    if cancel.is_cancelled() {
        return Err(Cancelled);
    }
    if time.is_zero() {
        return Ok(out_of_time(RunResult::default()));
    }
    let mut group = match Group::spawn(command(&start)) {
        Ok(group) => group,
        Err(error) => return Ok(never_started(&start, &error)),
    };
    let deadline = Instant::now() + time;
    let mut output = Output::new(progress.clone());
    let end = tokio::select! {
        biased;
        () = cancel.cancelled() => End::Cancelled,
        () = sleep_until(deadline) => End::OutOfTime,
        end = attend(&mut group, start.stdin, &mut output) => end.map_or_else(End::Lost, End::Exited),
    };
    match end {
        End::Exited(_) => {}
        End::Lost(_) | End::OutOfTime | End::Cancelled => drop(group.kill().await),
    }
    match end {
        End::Cancelled => Err(Cancelled),
        End::OutOfTime => Ok(out_of_time(output.into_result())),
        End::Lost(error) => Ok(RunResult {
            error: Some(format!("lost sight of the program: {error}")),
            ..output.into_result()
        }),
        End::Exited(status) => Ok(RunResult {
            exit_code: status.code(),
            signal: signal_name(status),
            success: status.success(),
            ..output.into_result()
        }),
    }
}

fn command(start: &Start) -> Command {
    let mut command = Command::new(&start.program);
    command
        .args(&start.args)
        .current_dir(&start.cwd)
        .env_clear()
        .envs(&start.env)
        .stdin(if start.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// 124 is what the command `timeout` exits with.
fn out_of_time(result: RunResult) -> RunResult {
    RunResult {
        exit_code: Some(124),
        timed_out: true,
        ..result
    }
}

fn never_started(start: &Start, error: &io::Error) -> RunResult {
    RunResult {
        error: Some(format!("{} did not start: {error}", start.program.display())),
        ..RunResult::default()
    }
}

/// Feeds and reads until the program has ended and its pipes are empty.
async fn attend(group: &mut Group, stdin: Option<String>, output: &mut Output) -> io::Result<ExitStatus> {
    let mut pipes = Pipes::of(group.child());
    let feed = feed(group.child().stdin().take(), stdin);
    tokio::pin!(feed);
    let mut fed = false;
    loop {
        tokio::select! {
            () = &mut feed, if !fed => fed = true,
            status = group.wait() => {
                let status = status?;
                output.patience = Some(Instant::now() + HEARING);
                pipes.drain(output).await;
                output.flush().await;
                return Ok(status);
            }
            index = pipes.next() => pipes.hand_over(index, output).await,
        }
    }
}

async fn feed(pipe: Option<ChildStdin>, text: Option<String>) {
    if let (Some(mut pipe), Some(text)) = (pipe, text) {
        // A program that does not read its input to the end is no error.
        let _ = pipe.write_all(text.as_bytes()).await;
    }
}

type Pipe = Box<dyn AsyncRead + Send + Unpin>;

/// The two streams of a program, standard output first; a closed one is gone.
struct Pipes {
    pipes: [Option<Pipe>; 2],
    buffers: [Vec<u8>; 2],
    /// What the last read gave.
    length: usize,
}

impl Pipes {
    fn of(child: &mut dyn ChildWrapper) -> Self {
        let stdout = child.stdout().take().map(|pipe| Box::new(pipe) as Pipe);
        let stderr = child.stderr().take().map(|pipe| Box::new(pipe) as Pipe);
        Self {
            pipes: [stdout, stderr],
            buffers: [vec![0; READ], vec![0; READ]],
            length: 0,
        }
    }

    /// Waits until one of the streams has said something, and tells which; for ever when both are closed. Loses nothing when dropped.
    async fn next(&mut self) -> usize {
        let [stdout, stderr] = &mut self.pipes;
        let [out, err] = &mut self.buffers;
        let (index, read) = tokio::select! {
            read = read(stdout, out) => (0, read),
            read = read(stderr, err) => (1, read),
        };
        self.length = read.unwrap_or(0);
        if self.length == 0 {
            self.pipes[index] = None;
        }
        index
    }

    async fn hand_over(&mut self, index: usize, output: &mut Output) {
        output.take(index, &self.buffers[index][..self.length]).await;
    }

    async fn drain(&mut self, output: &mut Output) {
        let over = Instant::now() + DRAIN;
        while self.pipes.iter().any(Option::is_some) {
            tokio::select! {
                biased;
                () = sleep_until(over) => return,
                index = self.next() => self.hand_over(index, output).await,
            }
        }
    }
}

async fn read(pipe: &mut Option<Pipe>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// What the program has written so far, and the way to who listens meanwhile.
struct Output {
    captures: [Capture; 2],
    cutters: [Cutter; 2],
    progress: mpsc::Sender<Said>,
    sent: usize,
    /// While the program runs, a slow listener slows it down; once it has ended, it is waited for until then.
    patience: Option<Instant>,
}

impl Output {
    fn new(progress: mpsc::Sender<Said>) -> Self {
        Self {
            captures: [Capture::new(COMMAND_OUTPUT), Capture::new(COMMAND_OUTPUT)],
            cutters: Default::default(),
            progress,
            sent: 0,
            patience: None,
        }
    }

    async fn take(&mut self, index: usize, bytes: &[u8]) {
        self.captures[index].push(bytes);
        if self.sent > PROGRESS_TOTAL || self.progress.is_closed() {
            return;
        }
        let chunk = self.cutters[index].push(bytes);
        self.sent += bytes.len();
        if chunk.is_empty() {
            return;
        }
        self.say(index, chunk).await;
    }

    /// Nothing follows that could complete a character.
    async fn flush(&mut self) {
        for index in 0..STREAMS.len() {
            let rest = self.cutters[index].rest();
            if !rest.is_empty() {
                self.say(index, rest).await;
            }
        }
    }

    async fn say(&self, index: usize, chunk: Vec<u8>) {
        let saying = self.progress.send(Said::Wrote(STREAMS[index], chunk.into()));
        let _ = match self.patience {
            None => Ok(saying.await),
            Some(over) => timeout_at(over, saying).await,
        };
    }

    fn into_result(self) -> RunResult {
        let [stdout_bytes, stderr_bytes] = self.captures.each_ref().map(Capture::written);
        let [(stdout, cut_out), (stderr, cut_err)] = self.captures.map(Capture::into_text);
        RunResult {
            stdout,
            stderr,
            stdout_bytes,
            stderr_bytes,
            truncated: cut_out || cut_err,
            ..RunResult::default()
        }
    }
}

#[cfg(unix)]
fn signal_name(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    const NAMES: &[(i32, &str)] = &[
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ];
    let number = status.signal()?;
    let name = NAMES
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, name)| (*name).to_owned());
    Some(name.unwrap_or_else(|| format!("signal {number}")))
}

#[cfg(not(unix))]
fn signal_name(_status: ExitStatus) -> Option<String> {
    None
}
