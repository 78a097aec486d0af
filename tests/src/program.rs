//! One real program as a child process: found, started, listened to, killed. What it wrote is printed when a test fails.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::wait::within;

/// Ticks of a second in what Linux tells programs (`USER_HZ`); the same on all its kernels.
const TICKS: u64 = 100;

/// The program `name` that was built into the same target folder as the running test.
///
/// # Panics
/// When it is missing, or older than its sources: a test that runs yesterday's program says nothing.
pub fn built(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace"));
    if let Some(source) = newer_source(&path) {
        panic!("{name} is older than {source}: cargo build --workspace");
    }
    path
}

/// A source in the program's dependency file that changed after it was built.
fn newer_source(program: &Path) -> Option<String> {
    let built = program.metadata().and_then(|data| data.modified()).ok()?;
    let sources = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let newer = |source: &&str| {
        let changed = Path::new(source).metadata().and_then(|data| data.modified());
        changed.is_ok_and(|changed| changed > built)
    };
    sources
        .split_once(": ")?
        .1
        .split_whitespace()
        .find(newer)
        .map(str::to_owned)
}

/// What a program wrote so far, line by line.
#[derive(Clone, Debug)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: Arc<watch::Sender<usize>>,
}

impl Log {
    fn new() -> Self {
        Self {
            lines: Arc::default(),
            grown: Arc::new(watch::Sender::new(0)),
        }
    }

    fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                log.grown.send_modify(|count| *count += 1);
            }
        });
    }

    fn snapshot(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running (or ended) child.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: Log,
}

impl Program {
    /// Starts it without standard input, with both outputs captured. It dies with this value.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Log::new();
        log.follow(child.stdout.take().expect("piped above"));
        log.follow(child.stderr.take().expect("piped above"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has been waited for already.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a child that was not waited for")
    }

    /// The first line, written already or yet to come, that contains `needle`.
    pub async fn line(&self, needle: &str) -> String {
        let mut grown = self.log.grown.subscribe();
        within(&format!("{} to write `{needle}`", self.name), async {
            loop {
                grown.borrow_and_update();
                if let Some(line) = self.log.snapshot().into_iter().find(|line| line.contains(needle)) {
                    return line;
                }
                grown.changed().await.expect("the log lives as long as this value");
            }
        })
        .await
    }

    /// The first line that is a number, written already or yet to come.
    ///
    /// # Panics
    /// When it ends without one.
    pub async fn number(&self) -> u32 {
        let mut grown = self.log.grown.subscribe();
        within(&format!("{} to write a number", self.name), async {
            loop {
                grown.borrow_and_update();
                if let Some(number) = self.log.snapshot().iter().find_map(|line| line.trim().parse().ok()) {
                    return number;
                }
                grown.changed().await.expect("the log lives as long as this value");
            }
        })
        .await
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        self.log.snapshot().join("\n")
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("{} to end", self.name);
        within(&what, self.child.wait())
            .await
            .expect("a child can be waited for")
    }

    /// `kill -9`, then waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.start_kill().expect("a child can be killed");
        self.exit().await;
    }

    /// Asks it to end (`SIGTERM`), then waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.exit().await
    }

    /// Lets it run no further until [`Program::wake`], as a machine that sleeps.
    pub fn suspend(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// The end of [`Program::suspend`].
    pub fn wake(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Resident memory now, bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory since its start, or since [`Program::forget_peak`], bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Lets [`Program::peak`] begin anew.
    ///
    /// # Panics
    /// When it has ended.
    pub fn forget_peak(&self) {
        // proc_pid_clear_refs(5): 5 resets the peak.
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("a living process of our own");
    }

    fn memory(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a living process has a status");
        let found = status.lines().find_map(|found| found.strip_prefix(line));
        let kib = found
            .expect("a living process has memory")
            .trim()
            .trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number of kB") * 1024
    }

    /// Processor time of all its threads so far, to a hundredth of a second.
    ///
    /// # Panics
    /// When it has ended.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.pid())
    }
}

/// What a program printed, which succeeded; `shown` is what was typed.
///
/// # Panics
/// When it failed.
pub fn printed(shown: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{shown}: {}\n{text}\n{complaint}",
        output.status
    );
    text
}

/// Processor time of all threads of a process so far, to a hundredth of a second.
///
/// # Panics
/// When it has ended.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living process has a status");
    // proc(5): the second field, in brackets, may hold anything; `utime` and `stime` are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks
        .map(|ticks| ticks.parse::<u64>().expect("a number of ticks"))
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- {} wrote ----\n{}\n---- end of {} ----",
                self.name,
                self.log(),
                self.name
            );
        }
    }
}
